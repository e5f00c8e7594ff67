"""From a sample and its reconstruction to four maps: feature and residual discrepancy of each modality."""

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from models.dbmrnet.camera import sample_grid
from models.dbmrnet.inputs import Inputs, grid_pixels, to_metres, to_window
from models.dbmrnet.network import Reconstruction
from models.lifting import geometry_operator
from models.point_ops import nearest_neighbours

NORMAL_NEIGHBOURS = 8


@dataclass(frozen=True)
class Discrepancies:
    """Of B samples, each map (B, H, H) ≥ 0 and exactly 0 at invalid pixels; index 0 is 2D, 1 is 3D.

    features: distance of the network's features of the sample and of its reconstruction, 2D and 3D.
    residuals: of the image, root mean square over the channels (of normalised colours); of the cloud, distance of each
        point to the rebuilt surface (of the normalised cloud).
    Either is None when it was not asked for.
    """

    features: tuple[Tensor, Tensor] | None
    residuals: tuple[Tensor, Tensor] | None


def image_feature_distance(inputs: Inputs, true: Reconstruction, rebuilt: Reconstruction) -> Tensor:
    """A_2D^f: distance of L2-normalised [second stage; Y_2] on the second stage's grid, upsampled; (B, H, H)."""
    first, second = (_dense_features(found) for found in (true, rebuilt))
    distance = (first - second).norm(dim=1, keepdim=True)  # (B, 1, 2g, 2g)
    return to_pixels(inputs, distance)


def _dense_features(found: Reconstruction) -> Tensor:
    """(B, C + D, 2g, 2g)."""
    features = found.image_features.permute(0, 3, 1, 2)
    side = features.shape[-1]
    tokens = found.image_tokens.transpose(1, 2).unflatten(2, (side // 2, side // 2))
    tokens = functional.interpolate(tokens, (side, side), mode="bilinear")
    return functional.normalize(torch.cat([features, tokens], dim=1), dim=1)


def image_residual(inputs: Inputs, rebuilt: Tensor) -> Tensor:
    """A_2D^r: root mean square over the channels of the image and its reconstruction (B, 3, S, S); (B, H, H)."""
    return to_pixels(inputs, (inputs.image - rebuilt).square().mean(dim=1, keepdim=True).sqrt())


def to_pixels(inputs: Inputs, values: Tensor) -> Tensor:
    """Values on the image's square, (B, 1, h, h), at the pixels of the H grid, (B, H, H): bilinear, 0 where invalid."""
    return to_frame(inputs, values)[:, 0] * inputs.valid


def to_frame(inputs: Inputs, values: Tensor) -> Tensor:
    """Values on the image's square, (B, C, h, h), at all pixels of the H grid: bilinear; outside those of its edge."""
    size = inputs.valid.shape[-1]
    places = to_window(inputs, grid_pixels(size, values.device), values.shape[-1])  # (B, H·H, 2)
    found = sample_grid(values, places.clamp(0, values.shape[-1] - 1))
    return found.transpose(1, 2).unflatten(2, (size, size))


def rebuilt_frame(inputs: Inputs, rebuilt: Tensor, rgb: Tensor) -> Tensor:
    """The samples' images (B, 3, H, H) with the rebuilt square (B, 3, S, S) in its place."""
    size = rgb.shape[-1]
    places = to_window(inputs, grid_pixels(size, rgb.device), 1)  # the square reaches from −0.5 to 0.5
    inside = (places.abs() <= 0.5).all(dim=-1).view(-1, 1, size, size)
    return torch.where(inside, to_frame(inputs, rebuilt), rgb)


def measured(inputs: Inputs) -> Iterator[tuple[int, Tensor, Tensor]]:
    """Number, mask (H, H) and points (M, 3) of each sample that has a valid point."""
    for i, valid in enumerate(inputs.valid):
        points = inputs.cloud[i].permute(1, 2, 0)[valid]
        if len(points):
            yield i, valid, points


def point_feature_distance(inputs: Inputs, true: Reconstruction, rebuilt: Reconstruction) -> Tensor:
    """A_3D^f: distance of Y_3 at the centres; each point gets the inverse-distance mean of its three nearest, then a
    3×3 mean over pixels; (B, H, H)."""
    distance = (true.point_tokens - rebuilt.point_tokens).norm(dim=-1)  # (B, T3)
    centres = inputs.centres[:, : distance.shape[1]]
    maps = torch.zeros_like(inputs.valid, dtype=torch.float32)
    for i, valid, points in measured(inputs):
        squared, nearest = nearest_neighbours(points, centres[i], 3)
        pixels, operator = geometry_operator(valid, nearest, squared, len(centres[i]))
        maps[i].view(-1)[pixels] = operator.multiply(distance[i, :, None])[:, 0]
    return maps * inputs.valid


def point_residual(inputs: Inputs, rebuilt: Tensor) -> Tensor:
    """A_3D^r: distance of each valid point to the surface of the rebuilt points (B, P, 3); (B, H, H).

    The surface at a point is the tangent plane of the nearest rebuilt one: distances between the points themselves
    would measure how densely they lie.
    """
    maps = torch.zeros_like(inputs.valid, dtype=torch.float32)
    for i, valid, points in measured(inputs):
        nearest = nearest_neighbours(points, rebuilt[i], 1)[1][:, 0]
        normals = surface_normals(rebuilt[i])
        maps[i][valid] = ((points - rebuilt[i][nearest]) * normals[nearest]).sum(dim=1).abs()
    return maps


def surface_normals(points: Tensor) -> Tensor:
    """Unit normals of the planes through the eight nearest points of each, of either sign: (P, 3) → (P, 3)."""
    near = points[nearest_neighbours(points, points, NORMAL_NEIGHBOURS)[1]]  # (P, 8, 3)
    deviations = near - near.mean(dim=1, keepdim=True)
    return torch.linalg.eigh(deviations.transpose(1, 2) @ deviations).eigenvectors[:, :, 0]


def rebuilt_depth(inputs: Inputs, rebuilt: Tensor) -> Tensor:
    """Third coordinate of the rebuilt cloud (B, P, 3) at the pixels of the true one: (B, H, H) metres, 0 where invalid.

    That of a pixel is the mean of the three rebuilt points nearest in (x, y), by inverse distance.
    """
    depths = to_metres(inputs, rebuilt)[..., 2]  # (B, P)
    maps = torch.zeros_like(inputs.valid, dtype=torch.float32)
    plane = rebuilt.new_tensor([1.0, 1.0, 0.0])
    for i, valid, points in measured(inputs):
        squared, nearest = nearest_neighbours(points * plane, rebuilt[i] * plane, 3)
        weights = 1 / (squared.float() + 1e-6)
        maps[i][valid] = (depths[i][nearest] * weights).sum(dim=1) / weights.sum(dim=1)
    return maps
