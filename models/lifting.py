"""From tokens to pixels: everything between a frozen extractor's tokens and per-pixel features is one sparse matrix.

CFM gives every pixel a feature of either modality (CFM paper, section 3.1). RGB: the token grid is upsampled
bilinearly. Geometry: each valid pixel is the inverse-distance mean of its three nearest centres, invalid pixels are 0,
then a 3×3 mean (no padding) and adaptive average pooling back to the grid. All of it is linear in the tokens with
coefficients fixed per sample, so E = L·T with a sparse L of 4 to about 8 entries a row.

H = W is the side of the pixel grid, T the number of tokens, D their width, P the number of foreground pixels: those
whose geometry row of L is not empty. Only these rows are ever made.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from itertools import pairwise

import numpy as np
import torch
from scipy import sparse
from torch import Tensor
from torch.nn import functional


@dataclass(frozen=True)
class LiftingOperator:
    """A sparse (P, T) matrix in compressed rows: row p holds `values[offsets[p]:offsets[p + 1]]` at those `indices`.

    offsets: (P + 1,) int32.
    indices: (E,) int32 in [0, T).
    values: (E,) float32.
    n_tokens: T.
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
        """The same operator on another device; itself where it is there already."""
        values = self.values.to(device)
        if values is self.values:
            return self
        return LiftingOperator(self.offsets.to(device), self.indices.to(device), values, self.n_tokens)

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

    def rows(self, chosen: Tensor) -> "LiftingOperator":
        """The operator of the chosen pixels only, (P',) int64; rows are padded with zeros to one length."""
        starts, stops = self.offsets[chosen, None], self.offsets[chosen + 1, None]  # (P', 1)
        entries = starts + torch.arange(self.longest_row, device=chosen.device)  # (P', longest)
        inside = entries < stops
        entries = entries.clamp(max=len(self.indices) - 1).flatten()
        offsets = torch.arange(len(chosen) + 1, dtype=torch.int32, device=chosen.device) * self.longest_row
        return LiftingOperator(offsets, self.indices[entries], self.values[entries] * inside.flatten(), self.n_tokens)

    @cached_property
    def longest_row(self) -> int:
        """Most entries in a row."""
        return int(self.offsets.diff().max()) if self.n_pixels else 0

    @cached_property
    def transposed(self) -> "LiftingOperator":
        """Lᵀ, a (T, P) operator; kept as long as this object, since training asks for it at every step."""
        device = self.indices.device
        rows = torch.arange(self.n_pixels, dtype=torch.int32, device=device).repeat_interleave(
            self.offsets.diff(), output_size=len(self.indices)
        )
        columns, order = self.indices.sort(stable=True)
        return LiftingOperator(_row_offsets(columns, self.n_tokens), rows[order], self.values[order], self.n_pixels)


def _row_offsets(rows: Tensor, n_rows: int) -> Tensor:
    """Where each row starts in a list of entries sorted by row: (E,) row numbers → (n_rows + 1,) int32."""
    numbers = torch.arange(n_rows + 1, dtype=rows.dtype, device=rows.device)
    return torch.searchsorted(rows, numbers, out_int32=True)


def geometry_operators(
    valid: Tensor, neighbours: Sequence[Tensor], squared_distances: Sequence[Tensor], n_centres: int
) -> list[tuple[Tensor, LiftingOperator]]:
    """L_3D of each sample of a batch: from the tokens of point groups to pixels; its non-empty rows are the foreground.

    Args:
        valid: (B, H, W) bool, True = the pixel holds a point; H = W.
        neighbours: B of (N, 3) int64, the nearest centres of each valid pixel, pixels row-major.
        squared_distances: B of (N, 3) in m².
        n_centres: number of groups G.

    Returns:
        For each sample foreground (P,) int64 flat pixel indices, ascending, and the (P, G) operator, on the device of
        the input.
    """
    if valid.device.type != "cpu":
        return geometry_operators_by_torch(valid, neighbours, squared_distances, n_centres)
    return [_geometry_operator(*one, n_centres) for one in zip(valid, neighbours, squared_distances, strict=True)]


def _geometry_operator(
    valid: Tensor, neighbours: Tensor, squared_distances: Tensor, n_centres: int
) -> tuple[Tensor, LiftingOperator]:
    """That of one sample, on the CPU."""
    weights = _interpolation_weights(squared_distances).numpy()
    interpolation = sparse.csr_matrix(
        (weights.ravel(), neighbours.numpy().ravel(), np.arange(len(weights) + 1) * 3), shape=(len(weights), n_centres)
    )
    pooled = _pooling_matrix(valid.shape[0])[:, np.flatnonzero(valid.numpy())] @ interpolation
    foreground = np.flatnonzero(np.diff(pooled.indptr))
    matrix = pooled[foreground]
    matrix.sort_indices()
    offsets, indices = (torch.from_numpy(part.astype(np.int32)) for part in (matrix.indptr, matrix.indices))
    values = torch.from_numpy(matrix.data.astype(np.float32))
    return torch.from_numpy(foreground), LiftingOperator(offsets, indices, values, n_centres)


def geometry_operators_by_torch(
    valid: Tensor, neighbours: Sequence[Tensor], squared_distances: Sequence[Tensor], n_centres: int
) -> list[tuple[Tensor, LiftingOperator]]:
    """The same on any device: each entry of the pooling at a valid pixel, times its three centres, summed.

    All samples are one block-diagonal matrix, since a GPU is waited for whenever entries are counted. Sums are float64,
    as on the CPU.
    """
    n_samples, n_pixels, device = len(valid), valid[0].numel(), valid.device
    pixels, members, pooling = _pooling_entries(valid.shape[1], device)
    sample, chosen = valid.flatten(1)[:, members].nonzero(as_tuple=True)  # (E,) each
    points = (valid.flatten().cumsum(0) - 1)[sample * n_pixels + members[chosen]]  # number among all valid pixels
    weights = _interpolation_weights(torch.cat(list(squared_distances)))[points] * pooling[chosen, None]  # (E, 3)
    columns = torch.cat(list(neighbours))[points] + n_centres * sample[:, None]
    places = torch.stack([(n_pixels * sample + pixels[chosen])[:, None].expand(-1, 3), columns]).flatten(1)
    shape = n_samples * n_pixels, n_samples * n_centres
    matrix = torch.sparse_coo_tensor(places, weights.flatten(), shape, check_invariants=False).coalesce()
    rows, columns = matrix.indices()
    values, offsets = matrix.values().float(), _row_offsets(rows, shape[0])
    foreground = offsets.diff().nonzero().flatten()
    ends = torch.arange(n_samples + 1, device=device) * n_pixels
    bounds = torch.stack([torch.searchsorted(foreground, ends), offsets[ends]]).tolist()
    found = []
    for i, ((start, stop), (first, last)) in enumerate(zip(*map(pairwise, bounds), strict=True)):
        kept = foreground[start:stop]
        # Empty rows have no entries, so without them each row still ends where the next one starts.
        starts = torch.cat([offsets[kept], offsets[ends[i + 1 : i + 2]]]) - first
        indices = (columns[first:last] - n_centres * i).int()
        found.append((kept - n_pixels * i, LiftingOperator(starts, indices, values[first:last], n_centres)))
    return found


def _interpolation_weights(squared_distances: Tensor) -> Tensor:
    """Inverse-distance weights of the nearest centres: (N, 3) in m² → (N, 3) float64, each row sums to 1."""
    weights = 1.0 / (squared_distances.double() + 1e-8)
    return weights / weights.sum(dim=1, keepdim=True)


def pooled(lift: LiftingOperator, foreground: Tensor, size: int, block: int) -> tuple[Tensor, LiftingOperator]:
    """An operator whose pixels are averaged over blocks: from tokens to the cells of a coarser grid, still sparse.

    Args:
        lift: (P, T).
        foreground: (P,) int64 flat indices of its pixels; pixels beyond count as 0.
        size: side of the pixel grid, a multiple of `block`.
        block: side of a cell in pixels.

    Returns:
        Flat indices (C,) int64, ascending, of the cells that hold a pixel, and the (C, T) operator.
    """
    of_pixels = foreground // size // block * (size // block) + foreground % size // block
    cells, rows = of_pixels.unique(return_inverse=True)
    rows = rows.repeat_interleave(lift.offsets.diff(), output_size=len(lift.indices))  # of the entries
    keys, entry = (rows * lift.n_tokens + lift.indices).unique(return_inverse=True)
    sums = torch.zeros(len(keys), dtype=torch.float64, device=keys.device).index_add_(0, entry, lift.values.double())
    offsets = _row_offsets(keys // lift.n_tokens, len(cells))
    return cells, LiftingOperator(offsets, (keys % lift.n_tokens).int(), (sums / block**2).float(), lift.n_tokens)


def bilinear_operator(grid_side: int, size: int, foreground: Tensor) -> LiftingOperator:
    """L_2D: bilinear upsampling of a square token grid, half-pixel centres, clamped at the border, four entries a row.

    Args:
        grid_side: tokens a side, at least 2; T = grid_side².
        size: side H = W of the pixel grid.
        foreground: (P,) int64 flat pixel indices.

    Returns:
        The (P, T) operator on the device of `foreground`.
    """
    indices, values = (
        part.index_select(0, foreground) for part in _bilinear_entries(grid_side, size, foreground.device)
    )
    offsets = torch.arange(0, indices.numel() + 1, 4, dtype=torch.int32, device=foreground.device)
    return LiftingOperator(offsets, indices.flatten(), values.flatten(), grid_side**2)


@lru_cache(maxsize=4)
def _bilinear_entries(grid_side: int, size: int, device: torch.device) -> tuple[Tensor, Tensor]:
    """The four tokens around each pixel: their indices (size², 4) int32 and weights (size², 4) float32."""
    position = ((torch.arange(size).double() + 0.5) * grid_side / size - 0.5).clamp(0, grid_side - 1)
    low = position.int().clamp(max=grid_side - 2)
    fraction = position - low
    places, weights = torch.stack([low, low + 1], dim=1), torch.stack([1 - fraction, fraction], dim=1)  # (size, 2)
    indices = places[:, None, :, None] * grid_side + places[None, :, None, :]  # (size, size, 2, 2)
    values = weights[:, None, :, None] * weights[None, :, None, :]
    return indices.reshape(-1, 4).to(device), values.reshape(-1, 4).float().to(device)


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
def _pooling_entries(size: int, device: torch.device) -> tuple[Tensor, Tensor, Tensor]:
    """The pooling matrix as entries on a device: row (E,) int64, column (E,) int64, value (E,) float64."""
    matrix = _pooling_matrix(size).tocoo()
    rows, columns = (torch.from_numpy(part.astype(np.int64)).to(device) for part in (matrix.row, matrix.col))
    return rows, columns, torch.from_numpy(matrix.data).to(device)
