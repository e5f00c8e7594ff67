"""BTF (Horwitz and Hoshen, "Back to the Feature", CVPR Workshops 2023): PatchCore on its features, after its release.

What differs: a map is smoothed by a Gaussian in float32, where the release smooths an 8-bit picture of it by boxes; the
coreset is chosen by float32 values, where the release rounds them to float16; the random projection that it is chosen
on is drawn by torch.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from models.btf.features import CELLS, describe, width
from models.btf.settings import FEATURES, PAPER_BACKBONE, WITH_NETWORK, BTFSettings
from models.extractors.backbone import Backbone, load_backbone
from models.memory.bank import Bank, fit_bank, load_bank
from models.memory.maps import BankMap, spread
from models.token_store import Grid
from utils.errors import UserError


@dataclass(frozen=True)
class BTF:
    """A bank, and what describes samples to it: a pipeline; `backbone` is None for features without a network."""

    chosen: BTFSettings
    backbone: Backbone | None
    bank: Bank
    view: None = None
    """Of samples: it takes their grid."""

    @property
    def settings(self) -> dict[str, Any]:
        """What thresholds for the maps depend on besides the weights: nothing."""
        return {}

    def maps(self, samples: Sequence[Grid]) -> list[BankMap]:
        """The map of each sample of a batch, on the CPU.

        Raises:
            UserError: a feature is not finite.
        """
        return [self.score(sample).cpu() for sample in samples]

    def score(self, sample: Grid) -> BankMap:
        """Map and score of a sample on the grid of 224×224, on the bank's device; raises as `maps`."""
        rows = _rows(sample, self.chosen, self.backbone, self.bank.rows.device)
        distances, nearest = self.bank.distances(rows)
        plain, smoothed = spread(distances.view(CELLS, CELLS))
        return BankMap(plain, plain, smoothed, self.bank.image_score(rows, distances, nearest))

    def to(self, device: torch.device) -> "BTF":
        """The same on another device; the backbone moves."""
        return BTF(self.chosen, self.backbone and self.backbone.to(device), self.bank.to(device))

    def state_dict(self) -> dict[str, Tensor]:
        """The bank's tensors; with the settings all that `load` needs."""
        return self.bank.state_dict()


def settings_for(
    features: str, backbone: str | None, weights: Path | None, fraction: float = 0.1
) -> tuple[BTFSettings, Backbone | None]:
    """Settings, and the network where the features need one.

    Args:
        features: one of FEATURES.
        backbone: None: the paper's.
        weights: file to use instead of the package's or hub's.
        fraction: see BTFSettings.

    Raises:
        UserError: no such features, a fraction out of range; see also `load_backbone`.
    """
    if features not in FEATURES:
        raise UserError(f"--features {features}: expected one of {', '.join(FEATURES)}.")
    if not 0 < fraction <= 1:
        raise UserError(f"the share of rows that a bank keeps: expected a number in (0, 1], found {fraction}.")
    if features not in WITH_NETWORK:
        return BTFSettings(features, None, None, fraction), None
    name = backbone or PAPER_BACKBONE
    network, sha256 = load_backbone(name, weights)
    return BTFSettings(features, name, sha256, fraction), network.drop_later_layers()


def read_rows(
    samples: Iterable[Grid], count: int, chosen: BTFSettings, backbone: Backbone | None, device: torch.device
) -> Tensor:
    """Rows of nominal samples, (n, 784, D) float32, n ≤ count; they can fill gigabytes, and are held once.

    Args:
        samples: `count` of them at most.
        chosen, backbone: of `settings_for`, the backbone on `device`.
    """
    rows = torch.empty(count, CELLS * CELLS, width(chosen.features, backbone), device=device)
    filled = 0
    for filled, sample in enumerate(samples, start=1):
        rows[filled - 1] = _rows(sample, chosen, backbone, device)
    return rows[:filled]


def fit(rows: Tensor, chosen: BTFSettings, backbone: Backbone | None, seed: int = 0) -> BTF:
    """Learn from the rows of nominal samples.

    Args:
        rows: of `read_rows`, made with the same settings and backbone.
        seed: of the projection they are chosen on.

    Raises:
        UserError: a feature is not finite, or there are too few samples.
    """
    flat = rows.flatten(0, 1)
    return BTF(chosen, backbone, fit_bank(flat, int(chosen.fraction * len(flat)), seed))


def load(chosen: BTFSettings, state: Mapping[str, Tensor], backbone: Backbone | None) -> BTF:
    """From what `BTF.chosen` and `BTF.state_dict` gave.

    Raises:
        UserError: the state is not that of a bank of these features.
    """
    bank, expected = load_bank(state), width(chosen.features, backbone)
    if bank.rows.shape[1] != expected:
        raise UserError(f"a bank of {chosen.features}: expected rows {expected} wide, found {bank.rows.shape[1]}.")
    return BTF(chosen, backbone, bank)


def _rows(sample: Grid, chosen: BTFSettings, backbone: Backbone | None, device: torch.device) -> Tensor:
    """(784, D) of a sample on `device`."""
    return describe(sample.rgb.to(device), sample.xyz.to(device), chosen.features, backbone)
