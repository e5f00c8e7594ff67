"""Tokens that are cells of a grid which both modalities share: each stands for its own place, so lifting is nothing."""

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class CellOperator:
    """Some rows of the identity, from `start` to `stop`, with what `models.lifting.LiftingOperator` offers for them."""

    start: int
    stop: int
    n_tokens: int

    @property
    def n_pixels(self) -> int:
        """P, the number of rows."""
        return self.stop - self.start

    @property
    def transposed(self) -> "SpreadCells":
        """The transposed operator."""
        return SpreadCells(self)

    def to(self, device: torch.device) -> "CellOperator":
        """Itself: it holds no tensors."""
        return self

    def multiply(self, tokens: Tensor) -> Tensor:
        """(T, D) → (P, D)."""
        return tokens[self.start : self.stop]

    def blocks(self, size: int) -> Iterator["CellOperator"]:
        """The operator cut into blocks of `size` rows; the last may be smaller."""
        for start in range(self.start, self.stop, size):
            yield CellOperator(start, min(start + size, self.stop), self.n_tokens)


@dataclass(frozen=True)
class SpreadCells:
    """The transpose of a CellOperator."""

    cells: CellOperator

    def multiply(self, values: Tensor) -> Tensor:
        """(P, D) → (T, D), zero in the other rows."""
        if self.cells.n_pixels == self.cells.n_tokens:
            return values
        spread = values.new_zeros(self.cells.n_tokens, values.shape[1])
        spread[self.cells.start : self.cells.stop] = values
        return spread
