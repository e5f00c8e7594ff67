"""Joint encoder with local alignment attention, shared decoder, specific decoders (words of Joint-MAE, IJCAI 2023)."""

import torch
from torch import Tensor, nn
from torch.nn import functional

from models.dbmrnet.embedding import mlp

FORBIDDEN = -1e4  # added to the logits of pairs that must not see each other: their weight becomes exactly 0


class Attention(nn.Module):
    """Multi-head attention of queries (B, L, D) to a context (B, L', D)."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.query, self.key_value = nn.Linear(width, width), nn.Linear(width, 2 * width)
        self.out = nn.Linear(width, width)

    def forward(self, queries: Tensor, context: Tensor, bias: Tensor | None = None) -> Tensor:
        """bias: (B, L, L') added to the logits."""
        b, length, width = queries.shape
        q = self.query(queries).view(b, length, self.heads, -1).transpose(1, 2)
        k, v = self.key_value(context).view(b, context.shape[1], 2, self.heads, -1).permute(2, 0, 3, 1, 4)
        mask = None if bias is None else bias[:, None].to(q.dtype)
        attended = functional.scaled_dot_product_attention(q, k, v, attn_mask=mask)  # (B, heads, L, D / heads)
        return self.out(attended.transpose(1, 2).reshape(b, length, width))


class Block(nn.Module):
    """Pre-norm transformer block: x += SA(LN x), x += MLP(LN x)."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.norm, self.attention, self.mlp = nn.LayerNorm(width), Attention(width, heads), mlp(width)

    def forward(self, x: Tensor, bias: Tensor | None = None) -> Tensor:
        """(B, L, D) → (B, L, D); bias (B, L, L)."""
        normed = self.norm(x)
        x = x + self.attention(normed, normed, bias)
        return x + self.mlp(x)


class CrossBlock(nn.Module):
    """Block of a specific decoder: y += CA(q = LN y, kv = LN e), y += MLP(LN y)."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.norm, self.context_norm = nn.LayerNorm(width), nn.LayerNorm(width)
        self.attention, self.mlp = Attention(width, heads), mlp(width)

    def forward(self, y: Tensor, context: Tensor) -> Tensor:
        """(B, L, D) tokens and (B, V, D) visible encoder tokens → (B, L, D)."""
        y = y + self.attention(self.norm(y), self.context_norm(context))
        return y + self.mlp(y)


def sincos_positions(side: int, width: int) -> Tensor:
    """Fixed positions of a square token grid, row-major: (side², width), as in MAE: half for the row, half for the
    column, each half sines then cosines of frequencies 10000^(−4i/width)."""
    frequencies = 10000 ** (-torch.arange(width // 4) / (width / 4))
    angles = torch.arange(side)[:, None] * frequencies  # (side, width / 4)
    axis = torch.cat([angles.sin(), angles.cos()], dim=1)  # (side, width / 2)
    rows, columns = axis[:, None].expand(-1, side, -1), axis[None].expand(side, -1, -1)
    return torch.cat([rows, columns], dim=-1).flatten(0, 1)


def alignment_bias(point_grid: Tensor, image_grid: Tensor, radius: float, alignment: str) -> Tensor:
    """Local alignment attention: tokens of different modalities see each other only where they lie close together.

    Args:
        point_grid: (B, V3, 2) positions of the projected centres, in image tokens.
        image_grid: (B, V2, 2).
        radius: ρ, largest distance along either axis.
        alignment: `two_way`, or `one_way`: image tokens see all points.

    Returns:
        (B, V3 + V2, V3 + V2), 0 or FORBIDDEN.
    """
    distance = (point_grid[:, :, None] - image_grid[:, None]).abs().amax(dim=-1)  # (B, V3, V2)
    across = torch.where(distance <= radius, 0.0, FORBIDDEN)
    back = across.transpose(1, 2) if alignment == "two_way" else torch.zeros_like(across.transpose(1, 2))
    (b, n_points, n_patches), zeros = across.shape, across.new_zeros
    upper = torch.cat([zeros(b, n_points, n_points), across], dim=2)
    lower = torch.cat([back, zeros(b, n_patches, n_patches)], dim=2)
    return torch.cat([upper, lower], dim=1)
