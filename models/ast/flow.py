"""The teacher: a normalising flow of cells, told where each lies (AST; Real-NVP, Dinh et al., ICLR 2017).

It maps nominal features to a standard normal distribution one to one, so that what it has never seen goes elsewhere,
and where to is hard to guess.
"""

import torch
from torch import Tensor, nn

from models.ast import position

KERNELS = (3, 3, 3, 5)  # of the blocks
HIDDEN = 64
CLAMP = 1.9
SOFTENING = 0.636
LIMIT = 1e6


class Subnet(nn.Module):
    """Scale and shift of one half of the channels, from the other half and the places; both are 0 at first."""

    def __init__(self, seen: int, told: int, kernel: int) -> None:
        """seen: channels of the half that is looked at. told: of the half that is changed. kernel: side in cells."""
        super().__init__()
        self.first = nn.Conv2d(seen + position.CHANNELS, HIDDEN, kernel, padding="same", padding_mode="replicate")
        self.second = nn.Conv2d(HIDDEN, 2 * told, kernel, padding="same", padding_mode="replicate")
        self.gain = nn.Parameter(torch.zeros(()))

    def forward(self, half: Tensor, places: Tensor) -> tuple[Tensor, Tensor]:
        """(B, seen, h, w) → logarithm of the scale, in ±1.9, and shift, (B, told, h, w) each."""
        inputs = torch.cat([half, places.expand(len(half), -1, -1, -1)], dim=1)
        scale, shift = (self.gain * self.second(self.first(inputs).relu())).chunk(2, dim=1)
        return CLAMP * SOFTENING * torch.atan(scale / CLAMP), shift


class Block(nn.Module):
    """A fixed permutation of the channels, then each half is changed in turn as the other one says.

    order: (D,) int64, the channels as they are taken.
    """

    order: Tensor

    def __init__(self, channels: int, kernel: int, seed: int) -> None:
        """seed: of the permutation."""
        super().__init__()
        first, second = channels // 2, channels - channels // 2
        generator = torch.Generator().manual_seed(seed)
        self.register_buffer("order", torch.randperm(channels, generator=generator))
        self.of_first = Subnet(first, second, kernel)
        self.of_second = Subnet(second, first, kernel)

    def forward(self, x: Tensor, places: Tensor) -> tuple[Tensor, Tensor]:
        """(B, D, h, w) → the same shape, and the logarithm of the determinant at each cell, (B, h, w)."""
        first, second = x[:, self.order].tensor_split([x.shape[1] // 2], dim=1)
        scale, shift = self.of_second(second, places)
        first, total = first * scale.exp() + shift, scale.sum(dim=1)
        scale, shift = self.of_first(first, places)
        second, total = second * scale.exp() + shift, total + scale.sum(dim=1)
        return torch.cat([first, second], dim=1).clamp(-LIMIT, LIMIT), total


class Flow(nn.Module):
    """All blocks. places: (1, 32, h, w), see `position_code`."""

    places: Tensor

    def __init__(self, channels: int, cells: int) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(Block(channels, kernel, seed) for seed, kernel in enumerate(KERNELS))
        self.register_buffer("places", position.position_code(cells), persistent=False)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """(B, D, h, w) features → z, (B, D, h, w), and the logarithm of the determinant at each cell, (B, h, w)."""
        total = x.new_zeros(len(x), *x.shape[2:])
        for block in self.blocks:
            x, added = block(x, self.places)
            total = total + added
        return x, total


def flow_loss(z: Tensor, log_determinant: Tensor, mask: Tensor) -> Tensor:
    """Negative logarithm of the likelihood without its constant, mean over all cells: m·(½‖z‖² − log det).

    Args:
        z: (B, D, h, w).
        log_determinant: (B, h, w).
        mask: (B, h, w) in [0, 1].
    """
    return (mask * (0.5 * z.square().sum(dim=1) - log_determinant)).mean()
