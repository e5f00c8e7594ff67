"""The three losses: cloud to cloud, image to image, and cloud to image."""

import torch
from torch import Tensor
from torch.nn import functional

from models.dbmrnet.camera import project, sample_grid
from models.dbmrnet.inputs import Inputs, to_window
from models.dbmrnet.masking import Mask
from models.dbmrnet.neighbours import take
from models.dbmrnet.network import MaskedReconstruction, Reconstruction, patchify

SURE = 0.9  # ground-truth depth is compared where the interpolated valid mask is above this
SPLAT_CELLS = 4  # pixels a side of a cell of the splatted depth map


def reconstruction_losses(
    network: MaskedReconstruction, inputs: Inputs, found: Reconstruction, point_mask: Mask, image_mask: Mask
) -> dict[str, Tensor]:
    """L_3D, L_2D and L_cross of a batch, on hidden tokens only; scalars.

    Distances are in units of the group radius, which balances the three.
    """
    radius, settings = network.radii[3], network.settings
    offsets, origins = take(found.offsets, point_mask.hidden), take(found.origins, point_mask.hidden)
    true = (take(inputs.points, take(inputs.groups, point_mask.hidden)) - origins[:, :, None]) / radius
    rebuilt = (origins[:, :, None] + offsets * radius).flatten(1, 2)  # (B, P, 3)
    if settings.cross_loss == "depth":
        cross = depth_loss(inputs, rebuilt, radius)
    elif settings.cross_loss == "splat":
        cross = splat_loss(inputs, rebuilt, radius)
    else:
        assert found.colours is not None
        cross = colour_loss(inputs, rebuilt, take(found.colours, point_mask.hidden).flatten(1, 2))
    patches = patchify(inputs.image, settings.sizes.token_pixels)
    return {
        "loss_3D": chamfer(offsets, true),
        "loss_2D": functional.mse_loss(take(found.patches, image_mask.hidden), take(patches, image_mask.hidden)),
        "loss_cross": cross,
    }


def chamfer(rebuilt: Tensor, true: Tensor) -> Tensor:
    """Chamfer-L2 of groups (…, R, 3) and (…, R', 3): mean squared distance to the nearest, both ways added; scalar."""
    squared = (rebuilt[..., :, None, :] - true[..., None, :, :]).square().sum(dim=-1)  # (…, R, R')
    return squared.amin(dim=-1).mean() + squared.amin(dim=-2).mean()


def depth_loss(inputs: Inputs, rebuilt: Tensor, radius: Tensor) -> Tensor:
    """Rebuilt points (B, P, 3) against the image's depth where they project to; and onto the object at all."""
    valid = inputs.valid[:, None].float()
    maps = torch.cat([inputs.cloud[:, 2:] * valid, valid], dim=1)  # (B, 2, H, H)
    depth, covered = sample_grid(maps, project(inputs.camera, rebuilt)).unbind(dim=-1)
    error = (rebuilt[..., 2] - depth / covered.clamp(min=1e-6)) / radius
    sure = (covered > SURE).float()
    return (error.square() * sure).sum() / sure.sum().clamp(min=1) + (1 - covered).mean()


def splat_loss(inputs: Inputs, rebuilt: Tensor, radius: Tensor) -> Tensor:
    """Depth map of the rebuilt points, splatted bilinearly into cells, against the mean true depth of the cells."""
    size = inputs.cloud.shape[-1] // SPLAT_CELLS
    places = (project(inputs.camera, rebuilt) + 0.5) / SPLAT_CELLS - 0.5  # (B, P, 2) in cells
    low = places.floor()
    share = places - low
    weights, depths = rebuilt.new_zeros(2, len(rebuilt), size * size)
    for right in (0, 1):
        for down in (0, 1):
            column, row = low[..., 0] + right, low[..., 1] + down
            inside = (column >= 0) & (column < size) & (row >= 0) & (row < size)
            part = (share[..., 0] if right else 1 - share[..., 0]) * (share[..., 1] if down else 1 - share[..., 1])
            part = part * inside
            cell = (row * size + column).clamp(0, size * size - 1).long()
            weights = weights.scatter_add(1, cell, part)
            depths = depths.scatter_add(1, cell, part * rebuilt[..., 2])
    valid = inputs.valid[:, None].float()
    covered = functional.avg_pool2d(valid, SPLAT_CELLS).flatten(1)  # (B, cells)
    true = functional.avg_pool2d(inputs.cloud[:, 2:] * valid, SPLAT_CELLS).flatten(1) / covered.clamp(min=1e-6)
    error = (depths / weights.clamp(min=1e-6) - true) / radius
    sure = ((covered > SURE) & (weights > 0.1)).float()
    beside = (weights * (1 - covered)).sum() / weights.sum().clamp(min=1e-6)
    return (error.square() * sure).sum() / sure.sum().clamp(min=1) + beside


def colour_loss(inputs: Inputs, rebuilt: Tensor, colours: Tensor) -> Tensor:
    """Predicted colours (B, P, 3) of rebuilt points against the image where they project to; and onto the object."""
    pixels = project(inputs.camera, rebuilt)
    true = sample_grid(inputs.image, to_window(inputs, pixels, inputs.image.shape[-1]))
    covered = sample_grid(inputs.valid[:, None].float(), pixels)
    return functional.mse_loss(colours, true) + (1 - covered).mean()
