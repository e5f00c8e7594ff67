"""Anomaly maps as files."""

from pathlib import Path

import numpy as np

from utils.files import atomic_path


def save_map(path: Path, values: np.ndarray) -> None:
    """Write an (H, W) float32 map as TIFF, losslessly compressed (Deflate, floating-point predictor), atomically."""
    import tifffile

    with atomic_path(path) as temporary:
        tifffile.imwrite(temporary, values, compression="zlib", predictor=True, compressionargs={"level": 1})
