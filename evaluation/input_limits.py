"""What a part's input is like beside that of nominal parts: limits from nominal images, and what lies outside of them.

A detector judges what it sees as it was trained to. A part that was hardly measured, another part, or one before a
camera that was moved may get a score as low as a good one. So its input is held against that of good parts, in measures
of one number each (`evaluation.input_check` takes them).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

MARGIN = 1.5
"""Limits lie this many times as far from the nominal median as the conformal quantile of the nominal deviations."""

Limits = Mapping[str, tuple[float | None, float | None]]
"""Measure → lowest and highest value that is taken for nominal; None: any."""

_SMALL = 20  # nominal images beside which a few more would widen the limits much: slack is doubled there
_LEAST = 0.25  # of the nominal median: a lower limit of a relative measure is never below


@dataclass(frozen=True)
class Measure:
    """How a measure is judged and told.

    Attributes:
        name: in words.
        scale, unit: from the stored number to the told one.
        slack: by which limits are widened besides, in the stored unit; if `relative`, as a share of the nominal median.
        below: whether values below the nominal ones matter too.
        question: what to look for where it is outside.
    """

    name: str
    scale: float
    unit: str
    slack: float
    relative: bool
    below: bool
    question: str


_PART = "Is the part there, whole, alone and of this class?"
_SURFACE = "Is surface missing that good parts show?"
_CAMERA = "Was the camera, the cloud or the image moved?"

MEASURES = {
    "points": Measure("measured points", 100, "% of the frame", 0.05, True, True, _PART),
    "area": Measure("measured surface", 1e6, "mm²", 0.05, True, True, _PART),
    "reach": Measure("reach from its middle", 1e3, "mm", 0.05, True, True, _PART),
    "gaps": Measure("unmeasured share within its outline", 100, "%", 0.01, False, False, _SURFACE),
    "hole": Measure("largest unmeasured spot in it", 100, "% of it", 0.01, False, False, _SURFACE),
    "exposure": Measure("brightness", 1, "of 255", 5.0, False, True, "Did light or exposure change?"),
    "right": Measure("image beside its cloud, to the right", 100, "% of the side", 0.005, False, True, _CAMERA),
    "down": Measure("image beside its cloud, downwards", 100, "% of the side", 0.005, False, True, _CAMERA),
}


def limits(inputs: Mapping[str, Sequence[float]], rank: int) -> Limits:
    """Limits of each measure: MARGIN times the `rank`-th smallest deviation from the nominal median, and some slack.

    Without margin and slack, and but for the median's own error, each would be exceeded by as many good parts as the
    image threshold (`evaluation.thresholds`); with them, by far fewer.

    Args:
        inputs: measure → its values on n nominal images.
        rank: conformal rank among them, in 1 … n.
    """
    found: dict[str, tuple[float | None, float | None]] = {}
    for name, values in inputs.items():
        measure, numbers = MEASURES[name], np.asarray(values, np.float64)
        middle = float(np.median(numbers))
        beside = np.abs(numbers - middle) if measure.below else np.maximum(numbers - middle, 0)
        slack = measure.slack * (1 + _SMALL / len(numbers)) * (abs(middle) if measure.relative else 1)
        room = MARGIN * float(np.sort(beside)[rank - 1]) + slack
        low = middle - room
        if measure.relative:
            low = max(low, _LEAST * middle)
        found[name] = (low if measure.below else None, middle + room)
    return found


def outside(measured: Mapping[str, float], limits: Limits) -> list[str]:
    """What lies outside of the limits, a sentence or two each: what was found, what is nominal, what to look for."""
    reasons = []
    for name, (low, high) in limits.items():
        value, measure = measured[name], MEASURES[name]
        if (low is None or value >= low) and (high is None or value <= high):
            continue
        told = [None if number is None else f"{measure.scale * number:.4g}" for number in (value, low, high)]
        nominal = f"at most {told[2]}" if low is None else f"{told[1]} to {told[2]}"
        reasons.append(f"{measure.name}: {told[0]} {measure.unit}, good parts have {nominal}. {measure.question}")
    return reasons
