"""2D and 3D embedding: from visible pixels and points to tokens, in three stages each.

The blocks follow ConvMAE (2D) and Point-M2AE (3D), the ancestors that DBMRNet's figure names; sizes are ours.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional

from models.dbmrnet.inputs import Inputs
from models.dbmrnet.neighbours import take, visible_neighbours
from models.dbmrnet.settings import Preset


class MaskedConvBlock(nn.Module):
    """x += 1×1(DW5×5(m · 1×1(LN x))), then x += MLP(LN x), on (B, h, w, C)."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.norm, self.enter, self.leave = nn.LayerNorm(width), nn.Linear(width, width), nn.Linear(width, width)
        self.depthwise = nn.Conv2d(width, width, 5, padding=2, groups=width)
        self.mlp = mlp(width)

    def forward(self, x: Tensor, visible: Tensor | None) -> Tensor:
        """visible: (B, h, w, 1) float, 1 = visible; None where all is."""
        hidden = self.enter(self.norm(x))
        if visible is not None:
            hidden = hidden * visible
        spread = self.depthwise(hidden.permute(0, 3, 1, 2)).permute(0, 2, 3, 1)
        x = x + self.leave(spread)
        return x + self.mlp(x)


class ImageEmbedding(nn.Module):
    """Patches, then twice a masked convolution block and a merge of 2×2."""

    def __init__(self, sizes: Preset) -> None:
        super().__init__()
        first, second, last = sizes.widths
        self.grid = sizes.image_grid
        self.patches = nn.Conv2d(3, first, sizes.patch, stride=sizes.patch)
        self.norm = nn.LayerNorm(first)
        self.blocks = nn.ModuleList([MaskedConvBlock(first), MaskedConvBlock(second)])
        self.merges = nn.ModuleList([nn.Linear(4 * first, second), nn.Linear(4 * second, last)])
        self.merge_norms = nn.ModuleList([nn.LayerNorm(second), nn.LayerNorm(last)])

    def forward(self, image: Tensor, visible: Tensor | None) -> tuple[Tensor, Tensor]:
        """Embed images.

        Args:
            image: (B, 3, S, S).
            visible: (B, T2) bool, None where all tokens are.

        Returns:
            Tokens (B, T2, D), row-major, those of hidden tokens meaningless; features of the second stage
            (B, 2g, 2g, C), g tokens a side.
        """
        x = self.norm(self.patches(image).permute(0, 2, 3, 1))  # (B, 4g, 4g, C)
        features = x
        for block, merge, norm in zip(self.blocks, self.merges, self.merge_norms, strict=True):
            features = block(x, None if visible is None else self._flags(visible, x))
            x = functional.gelu(norm(merge(merge_2x2(features))))
        return x.flatten(1, 2), features

    def _flags(self, visible: Tensor, x: Tensor) -> Tensor:
        """(B, T2) → (B, h, w, 1), each token's flag at all of its places."""
        times = x.shape[1] // self.grid
        flags = visible.view(len(visible), self.grid, self.grid, 1).to(x.dtype)
        return flags.repeat_interleave(times, dim=1).repeat_interleave(times, dim=2)


def merge_2x2(x: Tensor) -> Tensor:
    """(B, h, w, C) → (B, h/2, w/2, 4C): what a convolution with kernel and stride 2 sees at a time."""
    b, h, w, c = x.shape
    return x.view(b, h // 2, 2, w // 2, 2, c).permute(0, 1, 3, 2, 4, 5).reshape(b, h // 2, w // 2, 4 * c)


class PointEmbedding(nn.Module):
    """Groups of points by a small PointNet, then twice the merge of a centre's nearest finer centres."""

    def __init__(self, sizes: Preset) -> None:
        super().__init__()
        first, second, last = sizes.widths
        self.neighbours = sizes.neighbours
        self.points = nn.Sequential(nn.Linear(3, first), nn.LayerNorm(first), nn.GELU(), nn.Linear(first, first))
        self.groups = two_layers(2 * first, first, first)
        self.merges = nn.ModuleList([two_layers(first + 3, second, second), two_layers(second + 3, last, last)])

    def forward(self, inputs: Inputs, visible: Tensor | None, radii: Tensor) -> Tensor:
        """Embed clouds.

        Args:
            inputs: of the samples.
            visible: (B, T3) bool, None where all tokens are.
            radii: (3,) usual distance of the farthest neighbour at each stage, to which offsets are scaled.

        Returns:
            Tokens (B, T3, D), those of hidden tokens meaningless.
        """
        owners = (inputs.owners, *(inputs.centre_owners[:, : near.shape[1]] for near in inputs.near[:3]))
        seen = [None if visible is None else take(visible, part) for part in owners]
        visible_centres = visible_rows([flags for flags in seen[1:] if flags is not None])
        features = inputs.points
        for stage in range(3):
            rows = visible_centres[stage] if visible_centres else None
            found = self._stage(stage, inputs, features, seen[stage], rows, radii[stage])
            if rows is not None:
                everywhere = found.new_zeros(len(found), inputs.near[stage].shape[1], found.shape[2])
                found = everywhere.scatter(1, rows[..., None].expand_as(found), found)
            features = found
        return features

    def _stage(
        self, stage: int, inputs: Inputs, features: Tensor, seen: Tensor | None, rows: Tensor | None, radius: Tensor
    ) -> Tensor:
        """Features (B, n, C) of the centres of a stage, `rows` (B, n) of them, from those of the stage before.

        seen: (B, N) bool, which points of the stage before are visible.
        """
        candidates = inputs.near[stage]
        points = inputs.centres[:, : features.shape[1]] if stage else inputs.points
        centres = inputs.centres[:, : candidates.shape[1]]
        if rows is not None:
            candidates, centres = take(candidates, rows), take(centres, rows)
        indices, _ = visible_neighbours(centres, points, candidates, seen, self.neighbours[stage])
        offsets = (take(points, indices) - centres[:, :, None]) / radius  # (B, n, k, 3)
        if stage:
            merged = self.merges[stage - 1](torch.cat([take(features, indices), offsets.to(features.dtype)], dim=-1))
            return largest(merged)
        x = self.points(offsets)  # (B, n, k, C)
        return largest(self.groups(torch.cat([largest(x)[:, :, None].expand_as(x), x], dim=-1)))


def visible_rows(stages: list[Tensor]) -> list[Tensor]:
    """Indices of all visible entries: (B, G) flags of each stage → (B, n), in each row as many as in the fullest.

    What a row has less is filled with hidden ones. The numbers n are read together: reading one waits for a GPU.
    """
    fullest = torch.stack([visible.sum(dim=1).max() for visible in stages]).tolist() if stages else []
    orders = ((~visible).to(torch.uint8).argsort(dim=1, stable=True) for visible in stages)
    return [order[:, :count] for order, count in zip(orders, fullest, strict=True)]


def largest(x: Tensor) -> Tensor:
    """Maximum over the neighbours: (B, n, k, C) → (B, n, C)."""
    return x.max(dim=2).values


def two_layers(entering: int, inner: int, leaving: int) -> nn.Sequential:
    """Linear, LayerNorm, GELU, Linear."""
    return nn.Sequential(nn.Linear(entering, inner), nn.LayerNorm(inner), nn.GELU(), nn.Linear(inner, leaving))


def mlp(width: int) -> nn.Sequential:
    """Pre-norm MLP of a block: LayerNorm, four times as wide, GELU, back."""
    return nn.Sequential(nn.LayerNorm(width), nn.Linear(width, 4 * width), nn.GELU(), nn.Linear(4 * width, width))
