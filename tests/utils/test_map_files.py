"""utils/map_files.py: maps on disk."""

from pathlib import Path

import numpy as np
import pytest
import tifffile
from PIL import Image

from datasets.readers import read_array
from utils.map_files import save_map

ROWS, COLUMNS = np.mgrid[0:300, 0:500].astype(np.float32)
SMOOTH = np.exp(-((ROWS - 150) ** 2 + (COLUMNS - 200) ** 2) / 5000)


@pytest.mark.parametrize(
    "values", [SMOOTH, np.zeros((7, 3), np.float32), np.random.default_rng(0).random((1, 1)).astype(np.float32)]
)
def test_maps_come_back_bit_by_bit_whatever_reads_them(values: np.ndarray, tmp_path: Path) -> None:
    path = tmp_path / "new/a.tiff"
    save_map(path, values)
    for found in (tifffile.imread(path), np.asarray(Image.open(path)), read_array(path)):
        assert found.dtype == np.float32
        np.testing.assert_array_equal(found.reshape(values.shape), values)


def test_smooth_maps_are_packed(tmp_path: Path) -> None:
    save_map(tmp_path / "a.tiff", SMOOTH)
    assert (tmp_path / "a.tiff").stat().st_size < 0.7 * SMOOTH.nbytes
