"""From tokens to pixels: everything between a frozen extractor's tokens and per-pixel features is one sparse matrix.

CFM gives every pixel a feature of either modality (CFM paper, section 3.1). RGB: the token grid is upsampled
bilinearly. Geometry: each valid pixel is the inverse-distance mean of its three nearest centres, invalid pixels are 0,
then a 3×3 mean (no padding) and adaptive average pooling back to the grid. All of it is linear in the tokens with
coefficients fixed per sample, so E = L·T with a sparse L of 4 to about 8 entries a row.

H = W is the side of the pixel grid, T the number of tokens, D their width, P the number of foreground pixels: those
whose geometry row of L is not empty. Only these rows are ever made.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from itertools import pairwise

import numpy as np
import torch
from scipy import sparse
from torch import Tensor
from torch.nn import functional


@dataclass(frozen=True)
class LiftingOperator:
    """A sparse (P, T) matrix in compressed rows: row p holds `values[offsets[p]:offsets[p + 1]]` at those `indices`.

    offsets: (P + 1,) int64; indices: (E,) int64 in [0, T); values: (E,) float32; n_tokens: T.
    """

    offsets: Tensor
    indices: Tensor
    values: Tensor
    n_tokens: int

    @property
    def n_pixels(self) -> int:
        """P, the number of rows."""
        return len(self.offsets) - 1

    def to(self, device: torch.device) -> "LiftingOperator":
        """The same operator on another device."""
        return LiftingOperator(self.offsets.to(device), self.indices.to(device), self.values.to(device), self.n_tokens)

    def multiply(self, tokens: Tensor) -> Tensor:
        """L·T: (T, D) → (P, D), in the type of the tokens. Gradients are left to the caller: Lᵀ·G is `transposed`."""
        return functional.embedding_bag(
            self.indices,
            tokens,
            self.offsets,
            mode="sum",
            per_sample_weights=self.values.to(tokens.dtype),
            include_last_offset=True,
        )

    def blocks(self, size: int) -> Iterator["LiftingOperator"]:
        """The operator cut into blocks of `size` rows; the last may be smaller."""
        if self.n_pixels <= size:
            yield from [self] if self.n_pixels else []
            return
        bounds = [*self.offsets[::size].tolist(), len(self.indices)]
        for i, (start, stop) in enumerate(pairwise(bounds)):
            offsets = self.offsets[i * size : (i + 1) * size + 1] - start
            if len(offsets) > 1:
                yield LiftingOperator(offsets, self.indices[start:stop], self.values[start:stop], self.n_tokens)

    def transposed(self) -> "LiftingOperator":
        """Lᵀ, a (T, P) operator."""
        rows = torch.repeat_interleave(
            torch.arange(self.n_pixels, device=self.indices.device), self.offsets.diff(), output_size=len(self.indices)
        )
        order = self.indices.argsort(stable=True)
        counts = torch.bincount(self.indices, minlength=self.n_tokens)
        offsets = functional.pad(counts.cumsum(0), (1, 0))
        return LiftingOperator(offsets, rows[order], self.values[order], self.n_pixels)


def geometry_operator(
    valid: np.ndarray, neighbours: np.ndarray, squared_distances: np.ndarray, n_centres: int
) -> tuple[np.ndarray, LiftingOperator]:
    """L_3D: from the tokens of point groups to pixels; its non-empty rows are the foreground.

    Args:
        valid: (H, W) bool, True = the pixel holds a point; H = W.
        neighbours: (N, 3) indices of the nearest centres of each valid pixel, pixels row-major.
        squared_distances: (N, 3) in m².
        n_centres: number of groups G.

    Returns:
        foreground (P,) int64 flat pixel indices, ascending; the (P, G) operator.
    """
    n_points = len(neighbours)
    weights = 1.0 / (squared_distances.astype(np.float64) + 1e-8)
    weights /= weights.sum(axis=1, keepdims=True)
    interpolation = sparse.csr_matrix(
        (weights.ravel(), neighbours.ravel(), np.arange(n_points + 1) * 3), shape=(n_points, n_centres)
    )
    pooled = _pooling_matrix(valid.shape[0])[:, np.flatnonzero(valid)] @ interpolation
    foreground = np.flatnonzero(np.diff(pooled.indptr))
    return foreground, _from_scipy(pooled[foreground])


def bilinear_operator(grid_side: int, size: int, foreground: np.ndarray) -> LiftingOperator:
    """L_2D: bilinear upsampling of a square token grid, half-pixel centres, at the foreground pixels only.

    Args:
        grid_side: tokens a side; T = grid_side².
        size: side H = W of the pixel grid.
        foreground: (P,) flat pixel indices.

    Returns:
        The (P, T) operator.
    """
    return _from_scipy(_bilinear_matrix(grid_side, size)[foreground])


@lru_cache(maxsize=4)
def _pooling_matrix(size: int) -> sparse.csr_matrix:
    """3×3 mean without padding, then adaptive average pooling back: (size², size²), the same for every sample."""
    box = sparse.diags([1 / 3] * 3, [0, 1, 2], shape=(size - 2, size))
    adaptive = sparse.lil_matrix((size, size - 2))
    for i in range(size):
        start, stop = (size - 2) * i // size, -(-(size - 2) * (i + 1) // size)
        adaptive[i, start:stop] = 1 / (stop - start)
    line = adaptive.tocsr() @ box.tocsr()
    return sparse.kron(line, line, format="csr")


@lru_cache(maxsize=4)
def _bilinear_matrix(grid_side: int, size: int) -> sparse.csr_matrix:
    """Bilinear interpolation with half-pixel centres, clamped at the border: (size², grid_side²)."""
    position = ((np.arange(size) + 0.5) * grid_side / size - 0.5).clip(0, grid_side - 1)
    low = np.minimum(position.astype(np.int64), grid_side - 2)
    fraction = position - low
    rows = np.arange(size).repeat(2)
    columns = np.stack([low, low + 1], axis=1).ravel()
    line = sparse.csr_matrix(
        (np.stack([1 - fraction, fraction], axis=1).ravel(), (rows, columns)), shape=(size, grid_side)
    )
    line.eliminate_zeros()
    return sparse.kron(line, line, format="csr")


def _from_scipy(matrix: sparse.csr_matrix) -> LiftingOperator:
    """A scipy matrix as an operator."""
    matrix.sort_indices()
    return LiftingOperator(
        torch.from_numpy(matrix.indptr.astype(np.int64)),
        torch.from_numpy(matrix.indices.astype(np.int64)),
        torch.from_numpy(matrix.data.astype(np.float32)),
        matrix.shape[1],
    )
