"""From a sample and its reconstruction to maps: local, feature and residual discrepancy of each modality."""

import math
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from models.dbmrnet.camera import sample_grid
from models.dbmrnet.inputs import Inputs, grid_pixels, to_metres, to_window
from models.dbmrnet.neighbours import take
from models.dbmrnet.network import Reconstruction
from models.lifting import geometry_operators
from models.point_ops import nearest_neighbours

NORMAL_NEIGHBOURS = 8


@dataclass(frozen=True)
class Discrepancies:
    """Of B samples, each map (B, H, H) ≥ 0 and exactly 0 at invalid pixels; index 0 is 2D, 1 is 3D.

    valid: (B, H, H) bool, True = a point of the object.
    features: distance of the network's features of the sample and of its reconstruction, 2D and 3D.
    residuals: of the image, root mean square over the channels (of normalised colours); of the cloud, distance of each
        point to the rebuilt surface (of the normalised cloud).
    local: squared errors of local descriptors over those to be expected, see `LocalReconstruction`.
    Each is None when it was not asked for.
    """

    valid: Tensor
    features: tuple[Tensor, Tensor] | None = None
    residuals: tuple[Tensor, Tensor] | None = None
    local: tuple[Tensor, Tensor] | None = None


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


def measured(inputs: Inputs) -> list[tuple[Tensor, Tensor]]:
    """Flat pixel indices (M,) int64 and points (M, 3) of each sample's valid pixels."""
    samples, pixels = inputs.valid.flatten(1).nonzero(as_tuple=True)
    points = inputs.cloud.flatten(2).transpose(1, 2)[samples, pixels]  # (all M, 3)
    counts = inputs.valid.sum(dim=(1, 2)).tolist()  # waits for a GPU, once for all samples
    return list(zip(pixels.split(counts), points.split(counts), strict=True))


def point_feature_distance(inputs: Inputs, true: Reconstruction, rebuilt: Reconstruction) -> Tensor:
    """A_3D^f: distance of Y_3 at the centres; each point gets the inverse-distance mean of its three nearest, then a
    3×3 mean over pixels; (B, H, H)."""
    distance = (true.point_tokens - rebuilt.point_tokens).norm(dim=-1)  # (B, T3)
    centres = inputs.centres[:, : distance.shape[1]]
    maps = torch.zeros_like(inputs.valid, dtype=torch.float32)
    pairs = zip(measured(inputs), centres, strict=True)
    nearest = [nearest_neighbours(points, among, 3) for (_, points), among in pairs]
    parts = [n for _, n in nearest], [squared for squared, _ in nearest]
    operators = geometry_operators(inputs.valid, *parts, centres.shape[1])
    for i, (pixels, operator) in enumerate(operators):
        maps[i].view(-1)[pixels] = operator.multiply(distance[i, :, None])[:, 0]
    return maps * inputs.valid


def point_residual(inputs: Inputs, rebuilt: Tensor) -> Tensor:
    """A_3D^r: distance of each valid point to the surface of the rebuilt points (B, P, 3); (B, H, H).

    The surface at a point is the tangent plane of the nearest rebuilt one: distances between the points themselves
    would measure how densely they lie.
    """
    maps = torch.zeros_like(inputs.valid, dtype=torch.float32)
    for i, (pixels, points) in enumerate(measured(inputs)):
        nearest = nearest_neighbours(points, rebuilt[i], 1)[1][:, 0]
        normals = surface_normals(rebuilt[i])
        maps[i].view(-1)[pixels] = ((points - rebuilt[i][nearest]) * normals[nearest]).sum(dim=1).abs()
    return maps


def surface_normals(points: Tensor) -> Tensor:
    """Unit normals of the planes through the eight nearest points of each, of either sign: (P, 3) → (P, 3)."""
    near = points[nearest_neighbours(points, points, NORMAL_NEIGHBOURS)[1]]  # (P, 8, 3)
    deviations = near - near.mean(dim=1, keepdim=True)
    covariances = deviations.transpose(1, 2) @ deviations  # (P, 3, 3)
    if points.device.type == "cpu":
        return torch.linalg.eigh(covariances).eigenvectors[:, :, 0]
    return smallest_eigenvectors(covariances)


def smallest_eigenvectors(matrices: Tensor) -> Tensor:
    """Unit eigenvectors of the smallest eigenvalues in closed form, which does not wait for a GPU as eigh does.

    The eigenvalue λ of the cubic by its angle (Smith, Communications of the ACM 4(4), 1961); all rows of A − λ·I are
    orthogonal to the eigenvector, so that it is the cross product of two; where all are parallel, as of points on a
    line, anything orthogonal to them; where all vanish, the third axis.

    Args:
        matrices: (P, 3, 3) symmetric, positive semidefinite.

    Returns:
        (P, 3), of either sign, in the type of the matrices.
    """
    unit = torch.eye(3, dtype=torch.float64, device=matrices.device)
    a = matrices.double() / matrices.double().abs().amax(dim=(1, 2), keepdim=True).clamp(min=1e-30)
    mean = a.diagonal(dim1=1, dim2=2).mean(dim=1)[:, None, None]  # (P, 1, 1)
    b = a - mean * unit
    spread = (b.square().sum(dim=(1, 2), keepdim=True) / 6).sqrt()
    determinant = (b[:, 0] * torch.linalg.cross(b[:, 1], b[:, 2])).sum(dim=1)[:, None, None]
    angle = (determinant / (2 * spread**3).clamp(min=1e-300)).clamp(-1, 1).acos() / 3
    rows = a - (mean + 2 * spread * (angle + 2 * math.pi / 3).cos()) * unit  # (P, 3, 3)
    crosses = torch.linalg.cross(rows, rows.roll(-1, dims=1))
    longest = _longest_row(rows)
    lying = torch.linalg.cross(longest, unit[longest.abs().argmin(dim=1)])
    found = torch.where(crosses.norm(dim=2).amax(dim=1, keepdim=True) > 1e-12, _longest_row(crosses), lying)
    length = found.norm(dim=1, keepdim=True)
    return torch.where(length > 1e-12, found / length.clamp(min=1e-12), unit[2]).to(matrices.dtype)


def _longest_row(matrices: Tensor) -> Tensor:
    """(P, 3, 3) → (P, 3)."""
    return take(matrices, matrices.norm(dim=2).argmax(dim=1, keepdim=True))[:, 0]


def rebuilt_depth(inputs: Inputs, rebuilt: Tensor) -> Tensor:
    """Third coordinate of the rebuilt cloud (B, P, 3) at the pixels of the true one: (B, H, H) metres, 0 where invalid.

    That of a pixel is the mean of the three rebuilt points nearest in (x, y), by inverse distance.
    """
    depths = to_metres(inputs, rebuilt)[..., 2]  # (B, P)
    maps = torch.zeros_like(inputs.valid, dtype=torch.float32)
    plane = rebuilt.new_tensor([1.0, 1.0, 0.0])
    for i, (pixels, points) in enumerate(measured(inputs)):
        squared, nearest = nearest_neighbours(points * plane, rebuilt[i] * plane, 3)
        weights = 1 / (squared.float() + 1e-6)
        maps[i].view(-1)[pixels] = (depths[i][nearest] * weights).sum(dim=1) / weights.sum(dim=1)
    return maps
