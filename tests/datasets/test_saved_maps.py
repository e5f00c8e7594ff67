"""Saved maps: which belongs to which image, what is refused, and the mask at the map's size."""

from pathlib import Path

import numpy as np
import pytest
import tifffile
from PIL import Image

from datasets.records import Record
from datasets.saved_maps import find_maps, load_map
from utils.errors import UserError

NAMES = [("good", "000"), ("good", "001"), ("hole", "000")]


def record(defect: str, stem: str, gt: Path | None = None) -> Record:
    return Record("nut", "test", defect, stem, Path("rgb.png"), Path("xyz.tiff"), gt)


def write_map(folder: Path, name: str, values: np.ndarray | None = None) -> Path:
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    tifffile.imwrite(path, np.zeros((2, 3), np.float32) if values is None else values, photometric="minisblack")
    return path


@pytest.fixture
def records() -> list[Record]:
    return [record(*name) for name in NAMES]


def test_maps_come_in_the_order_of_the_records(tmp_path: Path, records: list[Record]) -> None:
    written = [write_map(tmp_path, name) for name in ("hole/000.tiff", "good/001.TIF", "good/000.tif")]
    others = [write_map(tmp_path, name) for name in ("crack/000.tiff", "hole/001.tiff")]
    write_map(tmp_path, "good/.000.0a1b2c3d.tmp.tiff")
    (tmp_path / "good/000.png").write_bytes(b"a picture beside the map")
    assert find_maps(tmp_path, records) == (written[::-1], others)
    assert find_maps(tmp_path, records[::-1]) == (written, others)


def test_missing_maps_are_counted_and_the_first_named(tmp_path: Path, records: list[Record]) -> None:
    with pytest.raises(UserError, match=r"3 test images, 3 are missing: good/000.tiff, good/001.tiff, hole/000.tiff\."):
        find_maps(tmp_path / "none", records)
    write_map(tmp_path, "good/001.tiff")
    with pytest.raises(UserError, match=r"2 are missing: good/000.tiff, hole/000.tiff\. Save them, or name"):
        find_maps(tmp_path, records)
    many = [record("hole", f"{i:03d}") for i in range(7)]
    with pytest.raises(UserError, match=r"7 are missing: .*hole/004.tiff, …\. Save"):
        find_maps(tmp_path, many)
    with pytest.raises(UserError, match=r"5 are missing: .*hole/004.tiff\. Save"):
        find_maps(tmp_path, many[:5])


def test_two_maps_of_one_image_are_refused(tmp_path: Path, records: list[Record]) -> None:
    for name in ("good/000.tif", "good/000.tiff", "good/001.tiff", "hole/000.tiff"):
        write_map(tmp_path, name)
    with pytest.raises(UserError, match=r"good/000.tiff: expected one map an image, found 000.tif beside it"):
        find_maps(tmp_path, records)


@pytest.mark.parametrize("kind", ["uint8", "int16", "float16", "float32", ">f8"])
def test_map_keeps_its_numbers(kind: str, tmp_path: Path) -> None:
    values = np.arange(6).reshape(2, 3).astype(kind)
    path = tmp_path / "map.tiff"
    tifffile.imwrite(path, values, byteorder=">" if kind.startswith(">") else "<")
    found, gt, padded = load_map(path, record("good", "map"))
    assert not padded
    np.testing.assert_array_equal(found, values)
    assert found.dtype.newbyteorder("=") == np.dtype(kind).newbyteorder("=")
    assert gt is not None
    assert (gt.shape, gt.dtype, gt.any()) == ((2, 3), bool, False)


def test_mask_is_brought_to_the_maps_size(tmp_path: Path) -> None:
    mask = np.zeros((4, 8), np.uint8)
    mask[0, 0], mask[2:, 4:] = 3, 255
    Image.fromarray(mask).save(tmp_path / "gt.png")
    bad = record("hole", "000", tmp_path / "gt.png")
    path = write_map(tmp_path, "map.tiff", np.zeros((4, 8), np.float32))
    np.testing.assert_array_equal(load_map(path, bad)[1], mask > 0)
    write_map(tmp_path, "map.tiff", np.zeros((2, 4), np.float32))
    np.testing.assert_array_equal(load_map(path, bad)[1], [[1, 0, 0, 0], [0, 0, 1, 1]])
    assert not load_map(path, bad)[2]
    write_map(tmp_path, "map.tiff", np.zeros((4, 4), np.float32))  # of the square, two rows above and below
    np.testing.assert_array_equal(load_map(path, bad)[1], [[0, 0, 0, 0], [1, 0, 0, 0], [0, 0, 1, 1], [0, 0, 0, 0]])
    assert load_map(path, bad)[2]
    write_map(tmp_path, "map.tiff", np.zeros((8, 4), np.float32))
    with pytest.raises(UserError, match=r"map.tiff: the map is 4×8, its mask 8×4 .*gt.png of nut/test/hole/000"):
        load_map(path, bad)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (np.full((2, 3), np.nan, np.float32), "6 of 6 scores are NaN or infinite"),
        (np.array([[0, np.inf], [1, 2]], np.float32), "1 of 4 scores are NaN or infinite"),
        (np.zeros((2, 3, 3), np.float32), r"expected one map \(height, width\), found shape \(2, 3, 3\)"),
        (np.zeros((2, 3), np.complex64), "expected real numbers"),
    ],
)
def test_arrays_that_are_no_maps_are_refused(values: np.ndarray, message: str, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=f"map.tiff: {message}"):
        load_map(write_map(tmp_path, "map.tiff", values), record("good", "map"))


def test_broken_files_are_refused(tmp_path: Path) -> None:
    path = write_map(tmp_path, "map.tiff", np.zeros((50, 50), np.float32))
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(UserError, match=r"map.tiff: cannot be read"):
        load_map(path, record("good", "map"))
    path.write_text("not a map")
    with pytest.raises(UserError, match=r"map.tiff: cannot be read"):
        load_map(path, record("good", "map"))


def test_good_image_with_anomalous_pixels_is_refused(tmp_path: Path) -> None:
    Image.fromarray(np.eye(3, dtype=np.uint8)).save(tmp_path / "gt.png")
    path = write_map(tmp_path, "map.tiff", np.zeros((3, 3), np.float32))
    with pytest.raises(UserError, match=r"gt.png: a mask in good/ must be all zero, 3 pixels are not"):
        load_map(path, record("good", "map", tmp_path / "gt.png"))
    _, gt, _ = load_map(path, record("hole", "map", tmp_path / "gt.png"))
    assert gt is not None
    assert gt.sum() == 3


def test_mask_of_a_defect_that_marks_nothing_is_refused_and_none_at_all_is_unknown(tmp_path: Path) -> None:
    Image.new("L", (3, 3)).save(tmp_path / "gt.png")
    path = write_map(tmp_path, "map.tiff", np.zeros((3, 3), np.float32))
    with pytest.raises(UserError, match=r"gt.png: the mask of a defect marks nothing, expected values above 0 on it"):
        load_map(path, record("hole", "map", tmp_path / "gt.png"))
    assert load_map(path, record("hole", "map"))[1] is None
