"""What is measured of a sample, nominal or not: pure functions of its RGB and its valid points."""

import numpy as np


def exposure(rgb: np.ndarray, valid: np.ndarray) -> float:
    """Mean of the three channels in [0, 255] over the valid points.

    Args:
        rgb: (h, w, 3) uint8.
        valid: (h, w) bool, True = measured; at least one is.
    """
    return float(rgb[valid].mean())
