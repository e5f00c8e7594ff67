"""Thresholds from nominal images alone: conformal quantiles of what a detector says of images it did not learn from.

The image threshold decides whether a part is anomalous, the map threshold how far a defect reaches.

Source: split conformal prediction (Vovk, Gammerman and Shafer, Algorithmic Learning in a Random World, 2005; tutorial:
Angelopoulos and Bates, arXiv 2107.07511, section 1 for the quantile, section 3.2 for the distribution of the coverage).
"""

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from evaluation.input_limits import MEASURES, Limits, limits
from utils.errors import UserError
from utils.files import read_text, read_with, write_json

if TYPE_CHECKING:
    from utils.checkpoint import CheckpointName

DEFAULT_RATE = 0.01
MAP_SHARE = 0.01
"""Share of a nominal image's foreground that may lie above the map threshold."""


@dataclass(frozen=True)
class NominalScores:
    """What a detector says of nominal images that it was not trained on. The lists have one entry an image.

    Attributes:
        source: where the images come from: "validation" or "hold-out" (training images that were kept back).
        settings: of the maps, for example the aggregation; thresholds hold for maps made in the same way only.
        weights: SHA-256 of the weights behind them.
        maxima: maximum of the raw map.
        levels: what a share MAP_SHARE of the foreground's pixels of the raw map exceeds.
        medians: median of the raw map over the foreground.
        inputs: measures of the input (`evaluation.input_limits`) by name, each a list like these; none in older files.
    """

    source: str
    settings: Mapping[str, Any]
    weights: str
    maxima: Sequence[float]
    levels: Sequence[float]
    medians: Sequence[float]
    inputs: Mapping[str, Sequence[float]] = field(default_factory=dict)

    def thresholds(self, rate: float = DEFAULT_RATE) -> "Thresholds":
        """Thresholds for a false-alarm rate in (0, 1)."""
        rank = conformal_rank(len(self.maxima), rate)
        image, level = (float(np.sort(values)[rank - 1]) for values in (self.maxima, self.levels))
        typical, count = float(np.median(self.medians)), len(self.maxima)
        return Thresholds(rate, image, level, typical, count, rank, self.source, limits(self.inputs, rank))


@dataclass(frozen=True)
class Thresholds:
    """Limits for raw maps, whose scale is the same for all images of a class.

    Attributes:
        rate: false-alarm rate that was asked for, in (0, 1).
        image: a part is anomalous when the maximum of its map is above.
        map: around such a maximum, the defect reaches as far as the map is above this; at most `image`.
        typical: level of the map on a nominal part.
        images: nominal images behind the thresholds.
        rank: place of the thresholds among their sorted values, from 1.
        source: "validation" or "hold-out".
        inputs: limits of what a part's input is like, see `evaluation.input_limits`; empty where that is not known.
    """

    rate: float
    image: float
    map: float
    typical: float
    images: int
    rank: int
    source: str
    inputs: Limits = field(default_factory=dict)

    @property
    def guaranteed(self) -> float:
        """Least upper limit of the mean false-alarm rate that holds for any distribution of the scores."""
        return 1 - self.rank / (self.images + 1)

    @property
    def upper(self) -> float:
        """With 95 % confidence in these nominal images, the false-alarm rate of these very thresholds is below this.

        That rate is distributed as Beta(images + 1 - rank, rank), or lower where scores tie.
        """
        from scipy import special

        return float(special.betaincinv(self.images + 1 - self.rank, self.rank, 0.95))

    def statement(self) -> str:
        """What the thresholds promise, in a sentence or two."""
        text = (
            f"At most {_percent(self.guaranteed)} of good parts exceed the image threshold on average over draws of "
            f"the {self.images} nominal {self.source} images, if those and the parts come from the same process; at "
            f"most {_percent(self.upper)} with 95 % confidence in this draw."
        )
        if self.guaranteed > self.rate + 1e-9:
            needed = math.ceil(1 / self.rate - 1e-9) - 1
            text += (
                f" The {_percent(self.rate)} that was asked for takes at least {needed} images; the threshold is the "
                "largest nominal score."
            )
        if self.source != "validation":
            text += " There is no validation split: training images were kept back."
        return text

    def as_json(self) -> dict[str, Any]:
        """JSON values: the attributes, `guaranteed`, `upper`, `statement`."""
        return {
            **asdict(self),
            "inputs": {name: list(ends) for name, ends in self.inputs.items()},
            "guaranteed": self.guaranteed,
            "upper": self.upper,
            "statement": self.statement(),
        }


def _percent(share: float) -> str:
    """Three digits are all that a few hundred images can tell."""
    return f"{100 * share:.3g} %"


def conformal_rank(count: int, rate: float) -> int:
    """Which of `count` sorted nominal scores a new one exceeds with a probability of at most `rate`.

    It is ⌈(count + 1)(1 − rate)⌉: each place among the count + 1 scores is equally likely for the new one. Where that
    is more than `count`, no score will do; the largest exceeds 1 / (count + 1) only.

    Args:
        count: ≥ 1.
        rate: in (0, 1).

    Returns:
        In 1 … count.
    """
    if count < 1 or not 0 < rate < 1:
        raise ValueError(f"expected at least one score and a rate in (0, 1), got {count} and {rate}")
    rank = math.ceil((count + 1) * (1 - rate) - 1e-9)  # a product that should be whole may lie just above
    return min(max(rank, 1), count)


def measure(smoothed: np.ndarray, foreground: np.ndarray) -> tuple[float, float, float]:
    """Maximum, level and median of one nominal image's map, as in `NominalScores`.

    Args:
        smoothed: (H, W) raw map.
        foreground: (H, W) bool, True = the object; all of the map counts where there is none.
    """
    values = np.sort(smoothed[foreground] if foreground.any() else smoothed.reshape(-1))
    above = math.floor(MAP_SHARE * len(values))
    return float(smoothed.max()), float(values[len(values) - 1 - above]), float(np.median(values))


def thresholds_path(name: "CheckpointName", part: str) -> Path:
    """Where the nominal scores of a checkpoint lie. part: of its weights' file name."""
    return name.path(f"{part}_thresholds", ".json")


def save_scores(path: Path, scores: NominalScores) -> None:
    """Write nominal scores as JSON, atomically."""
    write_json(path, asdict(scores))


def load_scores(path: Path) -> NominalScores:
    """Read what `save_scores` wrote.

    Raises:
        UserError: the file is missing, damaged, or no file of nominal scores.
    """
    return read_with(path, _parse_file, "Make it again: python calibrate.py --help.")


def _parse_file(path: Path) -> NominalScores:
    return parse_scores(dict(json.loads(read_text(path))))


def parse_scores(content: Mapping[str, Any]) -> NominalScores:
    """Nominal scores of JSON values, as `asdict` gives them. Raises ValueError and others where they are none."""
    lists = [[float(value) for value in content[name]] for name in ("maxima", "levels", "medians")]
    if not lists[0] or len({len(values) for values in lists}) > 1:
        raise ValueError("expected as many maxima as levels and medians, at least one")
    given = dict(content.get("inputs", {}))
    inputs = {name: [float(value) for value in given[name]] for name in MEASURES if name in given}
    if any(len(values) != len(lists[0]) for values in inputs.values()):
        raise ValueError("expected as many values of each input measure as maxima")
    if not np.isfinite(lists).all() or not all(np.isfinite(values).all() for values in inputs.values()):
        raise ValueError("expected finite numbers")
    maxima, levels, medians = lists
    known = str(content["source"]), dict(content["settings"]), str(content["weights"])
    return NominalScores(*known, maxima, levels, medians, inputs)


def load_thresholds(
    path: Path, settings: Mapping[str, Any], weights: str, rate: float
) -> tuple[Thresholds | None, str | None]:
    """Thresholds for maps that were made with these settings and weights.

    Args:
        path: of the nominal scores.
        settings, weights: see `NominalScores`.
        rate: false-alarm rate in (0, 1).

    Returns:
        The thresholds, or None and the reason.

    Raises:
        UserError: the file is damaged, or belongs to other weights.
    """
    advice = "python calibrate.py makes them from images of good parts"
    if not path.exists():
        return None, f"no thresholds: {path} is not there; {advice}"
    scores = load_scores(path)
    if scores.weights != weights:
        raise UserError(f"{path}: made with other weights than those beside it. Make it again: {advice}.")
    if dict(scores.settings) != dict(settings):
        return None, f"no thresholds: those beside the checkpoint are for {dict(scores.settings)}, not {dict(settings)}"
    return scores.thresholds(rate), None
