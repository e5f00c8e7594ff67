"""The encoder of Point-MAE (Pang et al., ECCV 2022), frozen, as Crossmodal Feature Mapping uses it.

A mini-PointNet describes each group of 128 neighbouring points, twelve transformer blocks relate the 1024 groups.
G groups, M points a group; B clouds. Parameter names are those of the public release.
"""

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from models.extractors.attention import attend

N_GROUPS = 1024
GROUP_SIZE = 128
WIDTH = 384
HEADS = 6
DEPTH = 12

CHOSEN_BLOCKS = {12: (3, 7, 11), 8: (1, 4, 7), 4: (1, 2, 3)}
"""Blocks (counted from 0) whose outputs make a token, by the number of blocks kept; of any other number the last."""

GROUPS_A_BLOCK = {"cpu": 64, "cuda": 1024}
"""Groups that the mini-PointNet handles at a time: few enough for a processor's cache; on a GPU all of a cloud."""


class MiniPointNet(nn.Module):
    """One token for each group of offsets: two shared perceptrons, each followed by a maximum over the group."""

    def __init__(self) -> None:
        super().__init__()
        self.first_conv = nn.Sequential(nn.Conv1d(3, 128, 1), nn.BatchNorm1d(128), nn.ReLU(), nn.Conv1d(128, 256, 1))
        self.second_conv = nn.Sequential(
            nn.Conv1d(512, 512, 1), nn.BatchNorm1d(512), nn.ReLU(), nn.Conv1d(512, WIDTH, 1)
        )

    def forward(self, offsets: Tensor, current_statistics: bool, dtype: torch.dtype) -> Tensor:
        """Describe the groups of one cloud.

        The layers are re-ordered exactly: batch normalisation is folded into the convolution before it; the half of
        the third convolution that reads the group's maximum is applied once a group instead of once a point; and the
        other half, which follows the second convolution with nothing between, is multiplied into it.

        Args:
            offsets: (G, M, 3) float32 metres.
            current_statistics: normalise with the mean and biased variance over all G·M rows of this cloud, instead
                of the running statistics.
            dtype: of the matrix products.

        Returns:
            (G, 384) tokens.
        """
        first: Any = self.first_conv
        second: Any = self.second_conv
        conv_1, norm_1, _, conv_2 = first
        conv_3, norm_3, _, conv_4 = second
        weight_1, bias_1 = conv_1.weight[..., 0], conv_1.bias
        mean, variance = norm_1.running_mean, norm_1.running_var
        if current_statistics:
            mean, variance = _moments_after_linear(offsets, weight_1, bias_1)
        weight_1, bias_1 = _fold(weight_1, bias_1, norm_1, mean, variance)
        weight_2, bias_2 = conv_2.weight[..., 0], conv_2.bias
        weight_3, bias_3 = conv_3.weight[..., 0], conv_3.bias
        if not current_statistics:
            weight_3, bias_3 = _fold(weight_3, bias_3, norm_3, norm_3.running_mean, norm_3.running_var)
        from_maximum, from_local = weight_3.chunk(2, dim=1)  # (512, 256) each
        weight_23, bias_23 = from_local @ weight_2, from_local @ bias_2 + bias_3  # (512, 128), (512,)
        weight_1, bias_1, weight_2, weight_23, weight_4 = (
            t.to(dtype) for t in (weight_1, bias_1, weight_2, weight_23, conv_4.weight[..., 0])
        )

        def third_layer(block: Tensor) -> Tensor:
            """(g, M, 3) offsets → (g, M, 512) before the activation."""
            hidden = functional.linear(block.to(dtype), weight_1, bias_1).relu_()  # (g, M, 128)
            maximum = functional.linear(hidden, weight_2).amax(dim=1) + bias_2  # (g, 256) float32
            shared = functional.linear(maximum, from_maximum, bias_23).to(dtype)  # (g, 512)
            return functional.linear(hidden, weight_23).add_(shared[:, None])

        def last_layer(activated: Tensor) -> Tensor:
            """(g, M, 512) → (g, 384), the maximum over each group."""
            return functional.linear(activated, weight_4).amax(dim=1)

        blocks = offsets.split(GROUPS_A_BLOCK[offsets.device.type])
        if current_statistics:
            hidden = [third_layer(block) for block in blocks]
            scale, shift = _scale_and_shift(norm_3, *_moments(hidden))
            tokens = [last_layer(h.mul_(scale.to(dtype)).add_(shift.to(dtype)).relu_()) for h in hidden]
        else:
            tokens = [last_layer(third_layer(block).relu_()) for block in blocks]
        return torch.cat(tokens).float() + conv_4.bias


def _scale_and_shift(norm: nn.BatchNorm1d, mean: Tensor, variance: Tensor) -> tuple[Tensor, Tensor]:
    """The affine map that batch normalisation with these statistics is: (D,) scale, (D,) shift."""
    scale = norm.weight / (variance + norm.eps).sqrt()
    return scale, norm.bias - scale * mean


def _fold(weight: Tensor, bias: Tensor, norm: nn.BatchNorm1d, mean: Tensor, variance: Tensor) -> tuple[Tensor, Tensor]:
    """Weight and bias of the linear layer that equals linear layer, then batch normalisation."""
    scale, shift = _scale_and_shift(norm, mean, variance)
    return weight * scale[:, None], bias * scale + shift


def _moments_after_linear(offsets: Tensor, weight: Tensor, bias: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and biased variance of W·x + b over all rows x, from the mean and covariance of the (…, 3) rows."""
    rows = offsets.reshape(-1, 3).double()
    mean = rows.mean(dim=0)
    covariance = rows.T @ rows / len(rows) - mean.outer(mean)  # (3, 3)
    weight = weight.double()
    return (weight @ mean + bias).float(), ((weight @ covariance) * weight).sum(dim=1).float()


def _moments(blocks: list[Tensor]) -> tuple[Tensor, Tensor]:
    """Mean and biased variance over all rows of (g, M, D) blocks, each (D,) float32."""
    rows = sum(block.shape[0] * block.shape[1] for block in blocks)
    mean = torch.stack([block.sum(dim=(0, 1), dtype=torch.float32) for block in blocks]).double().sum(dim=0) / rows
    squares = [(block - mean.to(block.dtype)).float().square_().sum(dim=(0, 1)) for block in blocks]
    return mean.float(), (torch.stack(squares).double().sum(dim=0) / rows).float()


class Attention(nn.Module):
    """Multi-head self-attention, no bias on queries, keys and values."""

    def __init__(self) -> None:
        super().__init__()
        self.qkv = nn.Linear(WIDTH, 3 * WIDTH, bias=False)
        self.proj = nn.Linear(WIDTH, WIDTH)

    def forward(self, x: Tensor) -> Tensor:
        """(B, G, 384) → (B, G, 384)."""
        qkv = self.qkv(x).unflatten(2, (3, HEADS, WIDTH // HEADS)).permute(2, 0, 3, 1, 4)  # (3, B, heads, G, 64)
        attended = attend(*qkv)  # (B, heads, G, 64)
        return self.proj(attended.transpose(1, 2).flatten(2))


class Perceptron(nn.Module):
    """Two linear layers with an exact GELU between them."""

    def __init__(self) -> None:
        super().__init__()
        self.fc1 = nn.Linear(WIDTH, 4 * WIDTH)
        self.fc2 = nn.Linear(4 * WIDTH, WIDTH)

    def forward(self, x: Tensor) -> Tensor:
        """(B, G, 384) → (B, G, 384)."""
        return self.fc2(functional.gelu(self.fc1(x)))


class Block(nn.Module):
    """Pre-norm transformer block. The residual stream stays float32 whatever the type of the weights."""

    def __init__(self) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(WIDTH)
        self.attn = Attention()
        self.norm2 = nn.LayerNorm(WIDTH)
        self.mlp = Perceptron()

    def forward(self, x: Tensor) -> Tensor:
        """(B, G, 384) → (B, G, 384)."""
        dtype = self.attn.qkv.weight.dtype
        x = x + self.attn(self.norm1(x).to(dtype))
        return x + self.mlp(self.norm2(x).to(dtype))


class Blocks(nn.Module):
    """The stack of blocks; a module of its own because the release names its parameters `blocks.blocks.…`."""

    def __init__(self) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(Block() for _ in range(DEPTH))


class PointMAEEncoder(nn.Module):
    """Groups of points → tokens. Frozen: evaluation mode, no gradients, no statistics updates."""

    def __init__(self) -> None:
        """Build the whole encoder; its weights are to be loaded."""
        super().__init__()
        self.encoder = MiniPointNet()
        self.pos_embed = nn.Sequential(nn.Linear(3, 128), nn.GELU(), nn.Linear(128, WIDTH))
        self.blocks = Blocks()
        self.norm = nn.LayerNorm(WIDTH)
        self.dtype = torch.float32
        self.eval().requires_grad_(False)

    def prune(self, depth: int) -> None:
        """Keep the first `depth` blocks."""
        self.blocks.blocks = self.blocks.blocks[:depth]

    @property
    def width(self) -> int:
        """Width of the tokens: 384 for each chosen block."""
        return WIDTH * len(self._chosen())

    def _chosen(self) -> tuple[int, ...]:
        depth = len(self.blocks.blocks)
        return CHOSEN_BLOCKS.get(depth, (depth - 1,))

    def set_precision(self, dtype: torch.dtype) -> None:
        """Multiply matrices in this type; norms and the position embedding stay float32."""
        self.dtype = dtype
        for block in self.blocks.blocks:
            block.attn.to(dtype)
            block.mlp.to(dtype)

    def describe_groups(self, offsets: Tensor, current_statistics: bool) -> Tensor:
        """(G, M, 3) offsets of one cloud → (G, 384) group tokens; see `MiniPointNet.forward`."""
        return self.encoder(offsets, current_statistics, self.dtype)

    def forward(self, group_tokens: Tensor, centres: Tensor) -> Tensor:
        """Relate the groups of B clouds.

        Args:
            group_tokens: (B, G, 384).
            centres: (B, G, 3) metres; their embedding is added at the input of every block.

        Returns:
            (B, G, 384·chosen blocks) float32.
        """
        position = self.pos_embed(centres)
        x, outputs = group_tokens, []
        for i, block in enumerate(self.blocks.blocks):
            x = block(x + position)
            if i in self._chosen():
                outputs.append(self.norm(x))
        return torch.cat(outputs, dim=2)
