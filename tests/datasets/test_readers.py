"""Reading single files: stamps, layouts of a TIFF, and files that must not be trusted."""

import io
import os
import struct
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Literal

import numpy as np
import pytest
import tifffile
from PIL import Image

from datasets.readers import (
    checked_cloud,
    open_image,
    read_array,
    read_gt,
    read_rgb,
    read_stamp,
    read_xyz,
    refuse_raw,
    rgb_of,
)
from processing.manifest import Preprocessing, write_cloud
from utils.errors import UserError

Order = Literal["<", ">"]


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


@pytest.mark.parametrize("order", ["<", ">"])
def test_either_byte_order_is_read(tmp_path: Path, order: Order) -> None:
    xyz = cloud()
    np.save(tmp_path / "a.npy", xyz.astype(f"{order}f4"))
    tifffile.imwrite(tmp_path / "a.tiff", xyz.astype(f"{order}f4"), byteorder=order, photometric="rgb")
    for path in (tmp_path / "a.npy", tmp_path / "a.tiff"):
        assert read_array(path).dtype.isnative
        np.testing.assert_array_equal(read_xyz(path), xyz)
    for wide in (f"{order}f4", f"{order}f8"):
        found = checked_cloud(xyz.astype(wide), "xyz")
        assert found.dtype.isnative
        np.testing.assert_array_equal(found, xyz)
    with pytest.raises(UserError, match="expected float32 coordinates"):
        checked_cloud(xyz.astype(f"{order}i4"), "xyz")
    mask = np.array([[0, 1], [300, 0]], f"{order}u2")
    tifffile.imwrite(tmp_path / "gt.tiff", mask, byteorder=order)
    np.testing.assert_array_equal(read_gt(tmp_path / "gt.tiff"), mask > 0)


def deep(channels: int) -> np.ndarray:
    """What a camera of 12 bits stores in 16."""
    return np.random.default_rng(3).integers(0, 4096, (8, 9, channels)).astype(np.uint16)


@pytest.mark.parametrize("channels", [2, 3, 4])
def test_png_of_16_bits_a_channel_is_refused(tmp_path: Path, channels: int) -> None:
    """PIL keeps the upper 8 bits of them, here 4 of 12."""
    path = tmp_path / "000.png"
    path.write_bytes(png(deep(channels)))
    assert np.asarray(Image.open(path)).max() < 16
    for read in (read_rgb, read_gt, open_image):
        with pytest.raises(UserError, match=r"000.png: expected 8 bits a channel, found 16. Convert it to 8-bit RGB"):
            read(path)
    with pytest.raises(UserError, match=r"^rgb: expected 8 bits a channel"):
        rgb_of(Image.open(path), "rgb")


def png(pixels: np.ndarray) -> bytes:
    """A PNG of 16 bits a channel, which PIL cannot write (PNG specification, section 5)."""

    def chunk(kind: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    height, width, channels = pixels.shape
    head = struct.pack(">IIBBBBB", width, height, 16, {2: 4, 3: 2, 4: 6}[channels], 0, 0, 0)
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in pixels)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")


@pytest.mark.parametrize("planes", ["contig", "separate"])
@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("channels", [3, 4])
def test_tiff_of_16_bits_a_channel_is_refused(tmp_path: Path, channels: int, order: Order, planes: str) -> None:
    path, pixels = tmp_path / "000.tiff", deep(channels)
    if planes == "separate":
        pixels = np.moveaxis(pixels, 2, 0)
    extra = ["unassalpha"] if channels == 4 else None
    tifffile.imwrite(path, pixels, photometric="rgb", planarconfig=planes, byteorder=order, extrasamples=extra)
    with pytest.raises(UserError, match=r"000.tiff: expected 8 bits a channel, found 16"):
        read_rgb(path)
    image = Image.open(path)
    image.load()
    with pytest.raises(UserError, match="rgb: expected 8 bits a channel, found 16"):
        rgb_of(image, "rgb")


@pytest.mark.parametrize("mode", ["I;16", "I;16B", "I;16L", "I;16N", "I", "F"])
def test_deep_grey_images_are_no_rgb(mode: str) -> None:
    with pytest.raises(UserError, match=rf"^rgb: expected an 8-bit colour image, found mode {mode}"):
        rgb_of(Image.new(mode, (4, 4)), "rgb")


@pytest.mark.parametrize("mode", ["RGB", "RGBA", "L", "LA", "P", "1", "CMYK"])
def test_8_bit_images_of_any_mode_are_rgb(tmp_path: Path, mode: str) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (6, 7, 3), np.uint8)
    image = Image.fromarray(pixels).convert(mode)
    np.testing.assert_array_equal(rgb_of(image, "rgb"), np.array(image.convert("RGB")))
    image.save(tmp_path / ("000.tiff" if mode == "CMYK" else "000.png"))
    np.testing.assert_array_equal(read_rgb(next(tmp_path.iterdir())), np.array(image.convert("RGB")))


@pytest.mark.parametrize("suffix", ["png", "jpg", "tiff"])
def test_images_that_are_shown_turned_are_refused(tmp_path: Path, suffix: str) -> None:
    path, exif = tmp_path / f"000.{suffix}", Image.Exif()
    for orientation in (1, 3, 6):
        exif[274] = orientation
        Image.new("RGB", (8, 4)).save(path, exif=exif)
        if orientation == 1:
            assert read_rgb(path).shape == (4, 8, 3)
            continue
        with pytest.raises(UserError, match=rf"000.{suffix}: .* found EXIF orientation {orientation}: .*as it lies on"):
            read_rgb(path)
        with pytest.raises(UserError, match=r"^rgb: .*found EXIF orientation"):
            rgb_of(Image.open(path), "rgb")


@pytest.mark.filterwarnings("ignore:Corrupt EXIF")
def test_broken_metadata_does_not_spoil_an_image(tmp_path: Path) -> None:
    Image.new("RGB", (8, 4), (9, 8, 7)).save(tmp_path / "000.jpg", exif=b"Exif\0\0II*\0nonsense")
    assert read_rgb(tmp_path / "000.jpg").shape == (4, 8, 3)


def test_several_pages_are_refused_but_previews_do_not_count(tmp_path: Path) -> None:
    path, small = tmp_path / "000.tiff", np.zeros((4, 4, 3), np.uint8)
    pages = [np.full((16, 16, 3), value, np.uint8) for value in (7, 8, 9)]
    tifffile.imwrite(path, np.stack(pages), photometric="rgb")
    for read in (read_rgb, read_gt):
        with pytest.raises(UserError, match=r"000.tiff: holds 3 pages, expected one: .*Write that one alone"):
            read(path)
    with tifffile.TiffWriter(path) as file:
        file.write(pages[0], photometric="rgb")
        file.write(small, photometric="rgb", subfiletype=1)
    assert (read_rgb(path) == 7).all()


def test_several_arrays_are_refused_but_previews_do_not_count(tmp_path: Path) -> None:
    path, xyz = tmp_path / "000.tiff", cloud()
    with tifffile.TiffWriter(path) as file:
        file.write(xyz, photometric="rgb", metadata=None)
        file.write(xyz[::4, ::4], photometric="rgb", subfiletype=1, metadata=None)
    np.testing.assert_array_equal(read_xyz(path), xyz)
    with tifffile.TiffWriter(path) as file:
        file.write(xyz, photometric="rgb", metadata=None)
        file.write(xyz[..., 2], photometric="minisblack", metadata=None)
    with pytest.raises(UserError, match=r"000.tiff: holds 2 arrays of different kind, expected one"):
        read_xyz(path)
    for page in range(2):
        tifffile.imwrite(path, xyz, photometric="rgb", append=page > 0)
    with pytest.raises(UserError, match=r"000.tiff: "):
        read_xyz(path)


def test_masks_mark_what_they_show(tmp_path: Path) -> None:
    """Palettes by their colours, not by their numbers; what is transparent shows nothing."""
    marked = np.zeros((5, 6), bool)
    marked[1:3, 2:5] = True
    grey = Image.fromarray(np.where(marked, 255, 0).astype(np.uint8))
    labels = Image.fromarray(np.where(marked, 0, 3).astype(np.uint8))  # number 0 is the defect
    labels.putpalette([255, 0, 0, 0, 255, 0, 0, 0, 255, 0, 0, 0])
    clear = Image.fromarray(np.full((5, 6, 4), 255, np.uint8))
    clear.putalpha(grey)
    images = {mode: grey.convert(mode) for mode in ("1", "L", "RGB", "LA", "RGBA", "P", "I;16")}
    for name, image in {**images, "labels": labels, "clear": clear}.items():
        image.save(tmp_path / "gt.png")
        np.testing.assert_array_equal(read_gt(tmp_path / "gt.png"), marked, name)
    for path, image in ((tmp_path / "gt.bmp", grey), (tmp_path / "gt.tiff", grey.convert("I"))):
        image.save(path)
        np.testing.assert_array_equal(read_gt(path), marked)
