"""Reading single files: stamps, layouts of a TIFF, and files that must not be trusted."""

import io
import os
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import tifffile
from PIL import Image

from datasets.readers import open_image, read_array, read_gt, read_rgb, read_stamp, read_xyz, refuse_raw
from processing.manifest import Preprocessing, write_cloud
from utils.errors import UserError


def cloud(height: int = 40, width: int = 60) -> np.ndarray:
    """A raw scan: a rough table in front of the camera."""
    v, u = np.mgrid[:height, :width]
    z = 0.5 + np.random.default_rng(0).normal(0, 1e-4, v.shape)
    return np.stack([u * 1e-3 + 0.01, v * 1e-3 + 0.01, z], axis=-1).astype(np.float32)


def test_stamped_cloud_may_fill_the_frame(tmp_path: Path) -> None:
    path, xyz = tmp_path / "000.tiff", cloud()
    write_cloud(path, xyz, Preprocessing(), 1.0, "abc")
    assert read_stamp(path) == {"preprocessing": Preprocessing().as_json(), "valid_share": 1.0, "sources": "abc"}
    refuse_raw(xyz, path, tmp_path)
    path.write_bytes(path.read_bytes()[:-1])  # cut short: the stamp says nothing any more
    assert read_stamp(path) is None
    for text in ("[]", '{"other": 1}', '{"preprocessing": 1}', "a photograph"):
        tifffile.imwrite(path, xyz, photometric="rgb", metadata=None, description=text)
        assert read_stamp(path) is None
        with pytest.raises(UserError, match="raw data, the plane that the part lies on is still there"):
            refuse_raw(xyz, path, tmp_path)


def test_cloud_may_be_one_page_or_a_page_a_row(tmp_path: Path) -> None:
    path, xyz = tmp_path / "000.tiff", cloud()
    for photometric, pages in (("rgb", 1), ("minisblack", 40)):
        tifffile.imwrite(path, xyz, photometric=photometric)
        with tifffile.TiffFile(path) as file:
            assert len(file.pages) == pages
        np.testing.assert_array_equal(read_xyz(path), xyz)


def test_tiff_that_names_other_files_is_read_alone(tmp_path: Path) -> None:
    """OME-XML may spread a series over files; what it names outside of this one is not opened."""
    tifffile.imwrite(tmp_path / "other.tiff", np.full((4, 4), 7, np.float32))
    planes = "".join(
        f'<TiffData FirstT="{t}" IFD="0" PlaneCount="1"><UUID FileName="{name}">urn:uuid:{t}</UUID></TiffData>'
        for t, name in enumerate(("000.ome.tiff", "other.tiff"))
    )
    pixels = 'DimensionOrder="XYZCT" Type="float" SizeX="4" SizeY="4" SizeZ="1" SizeC="1" SizeT="2"'
    xml = f'<OME UUID="urn:uuid:0"><Image ID="Image:0"><Pixels ID="P:0" {pixels}>{planes}</Pixels></Image></OME>'
    path = tmp_path / "000.ome.tiff"
    tifffile.imwrite(path, np.ones((4, 4), np.float32), description=xml, metadata=None)
    assert tifffile.imread(path).shape == (2, 4, 4)
    np.testing.assert_array_equal(read_array(path), np.ones((4, 4), np.float32))


@pytest.mark.parametrize(
    "dtype", [np.uint8, np.int16, np.uint16, np.int32, np.uint32, np.float16, np.float32, np.float64]
)
def test_arrays_of_any_real_type_come_back(tmp_path: Path, dtype: type) -> None:
    values: np.ndarray = np.arange(6).reshape(2, 3).astype(dtype)
    np.save(tmp_path / "a.npy", values)
    tifffile.imwrite(tmp_path / "a.tiff", values)
    for path in (tmp_path / "a.npy", tmp_path / "a.tiff"):
        found = read_array(path)
        assert found.dtype == dtype
        np.testing.assert_array_equal(found, values)


def giant_tiff(path: Path) -> None:
    """65535 × 65535 points, 52 GB, in a file of some kilobytes."""
    tifffile.imwrite(path, cloud(), photometric="rgb")
    with tifffile.TiffFile(path) as file:
        offsets = [file.pages.first.tags[name].valueoffset for name in ("ImageWidth", "ImageLength")]
    content = bytearray(path.read_bytes())
    for offset in offsets:
        content[offset : offset + 2] = (65535).to_bytes(2, "little")
    path.write_bytes(content)


def giant_png(path: Path) -> None:
    """A black image of 30000 × 30000 pixels, which takes 3 GB as RGB and a few bytes as a file."""
    Image.new("1", (30000, 30000)).save(path)


def large_png(path: Path) -> None:
    """60 million pixels: more than a frame has, less than Pillow itself refuses."""
    Image.new("1", (10000, 6000)).save(path)


def sparse_npy(path: Path) -> None:
    """A file of the size that it declares, 1.2 GB, without taking any space."""
    np.lib.format.open_memmap(path, "w+", np.float32, (10000, 10000, 3))


def giant_npy(path: Path) -> None:
    np.save(path, cloud())
    path.write_bytes(path.read_bytes().replace(b"(40, 60, 3), ", b"(4000, 60000, 3), ")[:-12])


def pickled_npy(path: Path) -> None:
    """Pickled objects run code when they are read."""
    np.save(path, np.array([{"a": 1}]), allow_pickle=True)


def zipped_npy(path: Path) -> None:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("../../evil.npy", b"")
    path.write_bytes(buffer.getvalue())


def complex_npy(path: Path) -> None:
    np.save(path, np.ones((4, 4), complex))


def empty_npy(path: Path) -> None:
    np.save(path, np.ones((0, 3)))


def postscript(path: Path) -> None:
    """Pillow hands PostScript to another program; the suffix says nothing of a file's kind."""
    Image.new("RGB", (8, 8)).save(path.with_suffix(".eps"))
    path.with_suffix(".eps").rename(path)


@pytest.mark.parametrize(
    ("name", "make", "read", "message"),
    [
        ("000.tiff", giant_tiff, read_xyz, "declares 4294836225 pixels, expected at most 50000000"),
        ("000.png", giant_png, read_rgb, "cannot be read .*DecompressionBomb"),
        ("000.png", large_png, read_rgb, "declares 60000000 pixels, expected at most 50000000"),
        ("000.npy", sparse_npy, read_array, "declares 100000000 pixels, expected at most 50000000"),
        ("000.npy", giant_npy, read_array, "cannot be read"),
        ("000.npy", pickled_npy, read_array, "cannot be read"),
        ("000.npy", zipped_npy, read_array, "cannot be read .*archive"),
        ("000.npy", complex_npy, read_array, r"expected real numbers, found shape \(4, 4\) and complex128"),
        ("000.npy", empty_npy, read_array, r"expected real numbers, found shape \(0, 3\)"),
        ("000.png", postscript, read_rgb, r"cannot be read \(UnidentifiedImageError"),
        ("000.png", os.mkfifo, read_gt, "expected a file, found something else"),
        ("000.png", Path.mkdir, open_image, "expected a file, found something else"),
        ("000.png", Path.touch, open_image, r"cannot be read \(it is empty\)"),
        ("000.png", lambda path: path.symlink_to("/dev/zero"), open_image, "expected a file, found something else"),
        ("000.png", lambda path: path.symlink_to(path), open_image, "expected a file, found no such file"),
        ("000.tiff", lambda path: None, read_xyz, "expected a file, found no such file"),
    ],
)
def test_hostile_files_are_refused(
    tmp_path: Path, name: str, make: Callable[[Path], object], read: Callable[[Path], object], message: str
) -> None:
    path = tmp_path / name
    make(path)
    with pytest.raises(UserError, match=message) as error:
        read(path)
    assert str(path) in str(error.value)
    assert "Restore the file" in str(error.value)
