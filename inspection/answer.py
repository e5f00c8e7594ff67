"""What is said of one part."""

from dataclasses import dataclass
from typing import Any

import numpy as np


@dataclass(frozen=True)
class Region:
    """A connected part of the image that is anomalous. Pixels are those of the image as given.

    Attributes:
        box: left, top, right, bottom in pixels; right and bottom are just outside.
        area_px: number of pixels.
        area_mm2: of the measured surface in it, in square millimetres; None without any.
        peak_score: maximum of the raw map in it.
        centroid_m: mean of its measured points (x, y, z), in metres in the camera's frame; None without any.
    """

    box: tuple[int, int, int, int]
    area_px: int
    area_mm2: float | None
    peak_score: float
    centroid_m: tuple[float, float, float] | None

    def as_json(self) -> dict[str, Any]:
        """JSON values."""
        return {
            "box": list(self.box),
            "area_px": self.area_px,
            "area_mm2": self.area_mm2,
            "peak_score": self.peak_score,
            "centroid_m": None if self.centroid_m is None else list(self.centroid_m),
        }


@dataclass(frozen=True)
class Answer:
    """What a detector says of one part, an image of (h, w) pixels.

    Attributes:
        score: maximum of the raw map on the detector's grid; higher = more anomalous, one scale for all parts.
        anomalous: whether the score is above the image threshold or there are `reasons`; None where the detector has no
            thresholds.
        map: (h, w) float32 raw anomaly map, ≥ 0, without normalisation and without padding.
        regions: the anomalous ones, highest peak first; at least one if and only if the score is above the image
            threshold. Empty without thresholds.
        labels: (h, w) int32, number of the region counted from 1, 0 = none.
        cleaned: whether the cloud was raw, so that its background was removed first.
        reasons: in what the part's input lies outside of what good parts have, in words: too little was measured,
            surface is missing, the light or the camera changed. Empty without thresholds.
    """

    score: float
    anomalous: bool | None
    map: np.ndarray
    regions: list[Region]
    labels: np.ndarray
    cleaned: bool
    reasons: tuple[str, ...] = ()


@dataclass(frozen=True)
class Logged:
    """What the newest line of the log (`inspection.predictions`) on a sample says.

    Attributes:
        sample: its name.
        key: hash of the files, detector and false-alarm rate that it holds for.
        rgb: path of the image, where known.
        score, anomalous: see `Answer`; None for a sample that failed, and `anomalous` without thresholds.
        error: why it failed, or None.
        cleaned, reasons: see `Answer`.
    """

    sample: str
    key: tuple[str | None, str, float]
    rgb: str | None
    score: float | None
    anomalous: bool | None
    error: str | None
    cleaned: bool = False
    reasons: tuple[str, ...] = ()
