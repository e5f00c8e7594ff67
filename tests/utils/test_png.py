"""utils/png.py: others read the same pixels from its files."""

import struct
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from utils.png import write_png


@pytest.mark.parametrize("shape", [(1, 1), (3, 70), (200, 1), (121, 256)])
def test_pixels_come_back(shape: tuple[int, int], tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    image = rng.integers(0, 256, (*shape, 3), np.uint8)
    image[: shape[0] // 2] = 7  # equal bytes too
    write_png(tmp_path / "a.png", image)
    with Image.open(tmp_path / "a.png") as read:
        assert (read.format, read.mode) == ("PNG", "RGB")
        np.testing.assert_array_equal(np.asarray(read), image)
    with Image.open(tmp_path / "a.png") as read:
        read.verify()  # check sums of all chunks


def test_parts_of_larger_arrays(tmp_path: Path) -> None:
    image = np.random.default_rng(1).integers(0, 256, (40, 50, 3), np.uint8)
    write_png(tmp_path / "a.png", image[5:20, ::2])
    with Image.open(tmp_path / "a.png") as read:
        np.testing.assert_array_equal(np.asarray(read), image[5:20, ::2])


def test_flat_images_take_little(tmp_path: Path) -> None:
    write_png(tmp_path / "a.png", np.full((400, 400, 3), 90, np.uint8))
    assert (tmp_path / "a.png").stat().st_size < 5000
    assert (tmp_path / "a.png").read_bytes()[-12:] == struct.pack(">I", 0) + b"IEND\xaeB`\x82"
