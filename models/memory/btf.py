"""BTF (Horwitz and Hoshen, "Back to the Feature", CVPR Workshops 2023): PatchCore on its features, after its release.

What differs: a map is smoothed by a Gaussian in float32, where the release smooths an 8-bit picture of it by boxes; the
coreset is chosen by float32 values, where the release rounds them to float16; the random projection that it is chosen
on is drawn by torch.
"""

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from models.anomaly_map import DefectMap
from models.extractors.backbone import Backbone, load_backbone
from models.extractors.handcrafted import gaussian_matrix
from models.memory.bank import Bank, fit_bank, load_bank
from models.memory.btf_features import CELLS, FEATURES, WITH_NETWORK, describe
from models.token_store import Grid
from utils.errors import UserError

SMOOTHING = 4.0  # deviation of the Gaussian in pixels
PAPER_BACKBONE = "wide_resnet50_2"


@dataclass(frozen=True)
class BTFSettings:
    """What decides the bank, besides the samples.

    features: one of FEATURES. backbone: see `load_backbone`, and weights_sha256 of its weights; None without a network.
    fraction: of the nominal rows that the bank keeps, in (0, 1]. seed: of the projection they are chosen on.
    """

    features: str = "btf"
    backbone: str | None = None
    weights_sha256: str | None = None
    fraction: float = 0.1
    seed: int = 0


@dataclass(frozen=True)
class BankMap(DefectMap):
    """Distances of a sample's cells from a bank, as a map; `score` is the image's, re-weighted (`Bank.image_score`)."""

    score: Tensor

    def image_score(self) -> float:
        """The re-weighted distance of the farthest cell."""
        return float(self.score)


@dataclass(frozen=True)
class BTF:
    """A bank, and what describes samples to it; `backbone` is None for features without a network."""

    settings: BTFSettings
    backbone: Backbone | None
    bank: Bank

    def score(self, sample: Grid) -> BankMap:
        """Map and score of a sample on the grid of 224×224, on the bank's device.

        Raises:
            UserError: a feature is not finite.
        """
        rows = _rows(sample, self.settings, self.backbone, self.bank.rows.device)
        distances, nearest = self.bank.distances(rows)
        plain, smoothed = spread(distances)
        return BankMap(plain, plain, smoothed, self.bank.image_score(rows, distances, nearest))

    def state_dict(self) -> dict[str, Tensor]:
        """The bank's tensors; with the settings all that `load` needs."""
        return self.bank.state_dict()

    def fingerprint(self) -> dict[str, Any]:
        """The settings, as JSON values."""
        return asdict(self.settings)


def settings_for(
    features: str, backbone: str | None, weights: Path | None, fraction: float = 0.1, seed: int = 0
) -> tuple[BTFSettings, Backbone | None]:
    """Settings, and the network where the features need one.

    Args:
        features: one of FEATURES. backbone: None: the paper's. weights: file to use instead of the package's or hub's.
        fraction, seed: see BTFSettings.

    Raises:
        UserError: no such features, a fraction out of range; see also `load_backbone`.
    """
    if features not in FEATURES:
        raise UserError(f"--features {features}: expected one of {', '.join(FEATURES)}.")
    if not 0 < fraction <= 1:
        raise UserError(f"the share of rows that a bank keeps: expected a number in (0, 1], found {fraction}.")
    if features not in WITH_NETWORK:
        return BTFSettings(features, None, None, fraction, seed), None
    name = backbone or PAPER_BACKBONE
    network, sha256 = load_backbone(name, weights)
    return BTFSettings(features, name, sha256, fraction, seed), network


def fit(
    samples: Iterable[Grid], count: int, settings: BTFSettings, backbone: Backbone | None, device: torch.device
) -> BTF:
    """Learn from nominal samples.

    Args:
        samples: `count` of them at most; their rows, which can fill gigabytes, are held once.
        settings, backbone: of `settings_for`, the backbone on `device`.

    Raises:
        UserError: a feature is not finite, or there are too few samples.
    """
    rows, filled = torch.zeros(0, 1, device=device), 0
    for sample in samples:
        found = _rows(sample, settings, backbone, device)
        if not filled:
            rows = torch.empty(count * len(found), found.shape[1], device=device)
        rows[filled : filled + len(found)] = found
        filled += len(found)
    rows = rows[:filled]
    return BTF(settings, backbone, fit_bank(rows, int(settings.fraction * filled), settings.seed))


def load(settings: BTFSettings, state: Mapping[str, Tensor], backbone: Backbone | None) -> BTF:
    """From what `BTF.settings` and `BTF.state_dict` gave.

    Raises:
        UserError: the state is not that of a bank.
    """
    return BTF(settings, backbone, load_bank(state))


def spread(distances: Tensor) -> tuple[Tensor, Tensor]:
    """Of the cells, (784,), on the grid: enlarged bilinearly, and smoothed with repeated borders; (224, 224) both."""
    cells = distances.view(1, 1, CELLS, CELLS)
    plain = functional.interpolate(cells, scale_factor=8, mode="bilinear", align_corners=False)[0, 0]
    smoothing = _smoothing(len(plain)).to(plain)
    return plain, smoothing @ plain @ smoothing.T


@lru_cache(maxsize=1)
def _smoothing(size: int) -> Tensor:
    """Matrix of the Gaussian over a line of pixels."""
    return gaussian_matrix(size, size, SMOOTHING, 0)


def _rows(sample: Grid, settings: BTFSettings, backbone: Backbone | None, device: torch.device) -> Tensor:
    """(784, D) of a sample on `device`."""
    return describe(sample.rgb.to(device), sample.xyz.to(device), settings.features, backbone)
