"""Organised clouds of planes."""

import numpy as np


def flat(height: int, width: int, step: float = 0.002) -> np.ndarray:
    """A plane 0.5 m away, `step` metres a pixel: (height, width, 3) float32, nowhere (0, 0, 0)."""
    v, u = np.mgrid[1 : height + 1, 1 : width + 1]
    return np.stack([u * step, v * step, np.full(u.shape, 0.5)], axis=-1).astype(np.float32)
