"""What is measured of a sample, nominal or not: pure functions of its RGB and its valid points."""

import numpy as np


def exposure(rgb: np.ndarray, valid: np.ndarray) -> float | None:
    """Mean of the three channels in [0, 255] over the valid points; None where there is none.

    Args:
        rgb: (h, w, 3) uint8. valid: (h, w) bool, True = measured.
    """
    return float(rgb[valid].mean()) if valid.any() else None
