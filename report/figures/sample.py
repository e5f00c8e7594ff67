"""What is drawn of one test image."""

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class QualitativeInput:
    """All that is drawn of one test image, on one grid (H, W)."""

    title: str
    """For example "bagel, hole/003"."""
    defect: str
    """Name of the test folder; groups the contact sheet. "good" comes first and sets the colour scale."""
    image_score: float
    """Printed as it is."""
    rgb: np.ndarray
    """(H, W, 3) uint8."""
    gt: np.ndarray | None
    """(H, W) bool, True = anomalous; None = not known."""
    depth: np.ndarray
    """(H, W) float, metres; NaN or 0 = invalid."""
    map_2d: np.ndarray
    """(H, W) float >= 0, anomaly seen in the RGB image, 0 on background."""
    map_3d: np.ndarray
    """(H, W) float >= 0, anomaly seen in the geometry, 0 on background."""
    combined: np.ndarray
    """(H, W) float >= 0, smoothed and not normalised per image: per-image normalisation has no fixed scale."""

    @property
    def marked(self) -> np.ndarray:
        """`gt`; where it is not known, nothing is marked."""
        return np.zeros(self.depth.shape, bool) if self.gt is None else self.gt


def object_window(item: QualitativeInput) -> tuple[slice, slice]:
    """Rows and columns of a square around all valid depths and the ground truth, with a tenth of its side as border.

    It is moved inward and cut at the image's edge; the whole image when nothing is there to frame.
    """
    rows, columns = np.nonzero((np.isfinite(item.depth) & (item.depth != 0)) | item.marked)
    if not rows.size:
        return slice(None), slice(None)
    side = round(1.2 * (max(np.ptp(rows), np.ptp(columns)) + 1))
    starts = [
        int(np.clip(round((places.min() + places.max() + 1 - side) / 2), 0, max(0, size - side)))
        for places, size in ((rows, item.depth.shape[0]), (columns, item.depth.shape[1]))
    ]
    return slice(starts[0], starts[0] + side), slice(starts[1], starts[1] + side)
