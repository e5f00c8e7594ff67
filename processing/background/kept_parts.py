"""Whether what is left of frames after background removal looks like one part: judged by size and place in the frame.

Pure. Measured on parts of MVTec 3D-AD and Eyecandies, none of which is doubted: they fill 4 to 17 % of the frame, stay
away from its border, and sizes differ from their median by a third at most.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from statistics import median
from typing import Any

import numpy as np

from datasets.frames import border_share
from processing.checks.findings import Finding

_EDGE = 0.02  # width of the frame's edge, as a share of the frame's shorter side
_REACHES, _FILLS, _DIFFERS = 0.01, 1 / 3, 2.0  # share of the edge, share of the frame, factor to the median size
_ADVICE = "Look at the clouds; other ways to cut: convert_rgbd.py --background depth-range, mask or none."


@dataclass(frozen=True)
class Kept:
    """What is left of one frame.

    Attributes:
        share: of the frame's pixels, in [0, 1].
        edge: share of the pixels of the frame's edge that are left.
        good: whether the sample has no defect, so that its size should be that of the others.
    """

    share: float
    edge: float
    good: bool


def cut_by_geometry(stamp: Mapping[str, Any] | None) -> bool:
    """Whether points decided what was cut away, as far as a cloud's stamp says; not a mask, nor nobody at all."""
    settings = stamp["preprocessing"].get("settings") if stamp else None
    return not (isinstance(settings, dict) and settings.get("background") in ("mask", "none"))


def measure_kept(valid: np.ndarray, good: bool) -> Kept:
    """`Kept` of an (h, w) bool mask, True = left."""
    return Kept(float(valid.mean()), border_share(valid, max(1, round(_EDGE * min(valid.shape)))), good)


def doubts(class_name: str, kept: Mapping[str, Kept]) -> list[Finding]:
    """Notes on the samples of one class, by name, that may hold another thing than the part."""
    typical = median([one.share for one in kept.values() if one.good] or [0.0])
    reaching = {name: one.edge for name, one in kept.items() if one.edge > _REACHES}
    filling = {name: one.share for name, one in kept.items() if one.share > _FILLS}
    other = {
        name: one.share
        for name, one in kept.items()
        if one.good and not typical / _DIFFERS <= one.share <= typical * _DIFFERS
    }
    told = (
        (reaching, "reaches the edge of the frame, {found} of it: perhaps a table or an arm rather"),
        (filling, "fills more than a third of the frame, {found}: perhaps the table or the box rather"),
        (other, f"is {{found}} of the frame, the median of the good samples {typical:.1%}: perhaps another thing"),
    )
    findings = []
    for found, text in told:
        if found:
            shares = " to ".join(dict.fromkeys((f"{min(found.values()):.1%}", f"{max(found.values()):.1%}")))
            text = f"what background removal left {text.format(found=shares)} than the part. {_ADVICE}"
            findings.append(Finding(False, "kept", class_name, text, tuple(found)))
    return findings
