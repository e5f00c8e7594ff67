"""The banks of M3DM: nominal rows of RGB, of geometry and of both, each in units of its own deviation.

The release subtracts a mean as well, which cancels in distances. It has two faults that change figures, and that
`as_released` repeats: all three banks are divided by the deviation of RGB's rows, and the sizes of RGB's and of the
fusion bank are counted from the reduced geometry bank, so that they keep less than the share that was asked for.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from models.m3dm.cells import Cells
from models.m3dm.settings import M3DMSettings
from models.m3dm.uff import UFF
from models.memory.bank import Bank, fit_bank, load_bank
from utils.errors import UserError


@dataclass(frozen=True)
class ScaledBank:
    """A bank of rows that were divided by `scale`, a scalar > 0."""

    bank: Bank
    scale: Tensor

    def score(self, rows: Tensor) -> tuple[Tensor, Tensor]:
        """Distance of each row, and the image's score: (P, D) → (P,) and a scalar; 0 for an image without rows."""
        if not len(rows):
            return rows.new_zeros(0), rows.new_zeros(())
        patches = rows / self.scale
        distances, nearest = self.bank.distances(patches)
        return distances, self.bank.image_score(patches, distances, nearest)

    def to(self, device: torch.device) -> "ScaledBank":
        """The same on another device."""
        return ScaledBank(self.bank.to(device), self.scale.to(device))

    def state_dict(self) -> dict[str, Tensor]:
        """All of it."""
        return {**self.bank.state_dict(), "scale": self.scale}


def rows_of(bank: str, cells: Cells, uff: UFF | None) -> Tensor:
    """Rows of a sample in a bank: `rgb`, `xyz` or `fusion`; the last are fused, or side by side without a network."""
    if bank == "rgb":
        return cells.rgb
    if bank == "xyz":
        return cells.xyz
    return uff(*cells.pairs) if uff else torch.cat(cells.pairs, dim=1)


def fit_banks(
    nominal: Sequence[Cells], chosen: M3DMSettings, uff: UFF | None, seed: int, device: torch.device
) -> dict[str, ScaledBank]:
    """The banks of nominal samples, made one after the other.

    Args:
        nominal: of each training image.
        chosen: which banks, and how large.
        uff: the trained network, on `device`; None without one.
        seed: of the projections on which rows are chosen.
        device: where it is computed.

    Raises:
        UserError: a value is not finite, or there are too few different rows.
    """
    counts = {bank: sum(len(cells.grid_of(bank).places) for cells in nominal) for bank in chosen.banks}
    sizes = bank_sizes(counts, chosen.fraction, chosen.as_released)
    found: dict[str, ScaledBank] = {}
    for bank in chosen.banks:
        rows = _all_rows(bank, nominal, counts[bank], uff, device)
        scale = rows.std() if len(rows) > 1 else rows.new_ones(())
        if chosen.as_released and "rgb" in found:
            scale = found["rgb"].scale
        scale = torch.where(scale > 0, scale, 1.0)
        found[bank] = ScaledBank(fit_bank(rows.div_(scale), sizes[bank], seed), scale)
    return found


def bank_sizes(counts: Mapping[str, int], fraction: float, as_released: bool) -> dict[str, int]:
    """How many rows each bank keeps of those that there are."""
    sizes = {bank: int(fraction * count) for bank, count in counts.items()}
    if as_released:
        sizes |= dict.fromkeys(sizes.keys() - {"xyz"}, int(fraction * sizes["xyz"]))
    return sizes


def _all_rows(bank: str, nominal: Sequence[Cells], count: int, uff: UFF | None, device: torch.device) -> Tensor:
    """Rows of all samples, (count, D); they can fill gigabytes, and are held once."""
    rows, filled = torch.empty(0), 0
    for cells in nominal:
        own = rows_of(bank, cells.to(device), uff)
        if not filled:
            rows = torch.empty(count, own.shape[1], device=device)
        rows[filled : filled + len(own)] = own
        filled += len(own)
    return rows


def load_banks(state: Mapping[str, Mapping[str, Tensor]], widths: Mapping[str, int]) -> dict[str, ScaledBank]:
    """From what `ScaledBank.state_dict` gave.

    Args:
        state: name of a bank → its state.
        widths: name of each bank that there has to be → the width of its rows.

    Raises:
        UserError: a bank is missing, too many, or not one of these rows.
    """
    if state.keys() != widths.keys():
        raise UserError(f"expected banks of {', '.join(widths)}, found {', '.join(state) or 'none'}. Train again.")
    found = {}
    for name, width in widths.items():
        own = dict(state[name])
        scale = own.pop("scale", torch.zeros(()))
        bank = load_bank(own)
        if bank.rows.shape[1] != width or scale.shape != () or not scale > 0:
            raise UserError(
                f"a bank of {name}: expected rows {width} wide and a scale > 0, found {bank.rows.shape[1]} and "
                f"{scale.tolist()}. Train again."
            )
        found[name] = ScaledBank(bank, scale)
    return found
