"""Compressed PCD files and the colours of clouds: values come back; what is broken or hostile is refused cheaply."""

import struct
import tracemalloc
from pathlib import Path

import numpy as np
import pytest

from processing.own_data.cloud_files import read_cloud, read_coloured_cloud
from tests.processing.tools import compressed, lzf, pack_colours
from utils.errors import UserError

RNG = np.random.default_rng(0)
CLOUD = RNG.normal(0, 300, (3, 4, 3)).astype(np.float32)
CLOUD[1, 2] = np.nan
RGB = RNG.integers(0, 256, (3, 4, 3), np.uint8)
X, Y, Z = CLOUD.reshape(-1, 3).T
PACKED = pack_colours(RGB).ravel()


def pcd(
    kind: str, fields: str = "x y z", types: str = "F F F", counts: str = "", grid: tuple[int, int] = (4, 3)
) -> bytes:
    sizes = " ".join("1" if name == "_" else "4" for name in fields.split())
    lines = [f"FIELDS {fields}", f"SIZE {sizes}", f"TYPE {types}", f"WIDTH {grid[0]}", f"HEIGHT {grid[1]}"]
    lines += [f"COUNT {counts}"] if counts else []
    return "\n".join([*lines, f"DATA {kind}", ""]).encode()


def ply(kind: str, properties: str, count: int = 12) -> bytes:
    return f"ply\nformat {kind} 1.0\nelement vertex {count}\n{properties}end_header\n".encode()


def written(folder: Path, name: str, content: bytes) -> Path:
    (folder / name).write_bytes(content)
    return folder / name


@pytest.mark.parametrize("references", [False, True])
def test_compressed_points_come_back(tmp_path: Path, references: bool) -> None:
    """One field after the other; fields of several values, and others, are stepped over."""
    path = written(tmp_path, "c.pcd", pcd("binary_compressed") + compressed([X, Y, Z], references))
    np.testing.assert_array_equal(read_cloud(path, (3, 4)), CLOUD)
    normals = RNG.normal(size=(12, 3)).astype(np.float32)
    header = pcd("binary_compressed", "n z rgb x y", "F F F F F", "3 1 1 1 1")
    path = written(tmp_path, "n.pcd", header + compressed([normals, Z, PACKED, X, Y], references))
    np.testing.assert_array_equal(read_cloud(path, (3, 4)), CLOUD)
    np.testing.assert_array_equal(read_coloured_cloud(path, (3, 4))[1], RGB)


def test_long_references_come_back(tmp_path: Path) -> None:
    """A frame of depth steps, mostly the same bytes again: overlapping references of all lengths, far and near."""
    z = np.repeat(np.arange(1, 41, dtype=np.float32), 80).reshape(40, 80)
    z[:, ::7] = RNG.integers(1, 5, (40, 12))
    x, y = np.zeros_like(z), np.full_like(z, np.nan)
    body = compressed([x, y, z])
    assert len(body) < 0.2 * z.nbytes
    path = written(tmp_path, "c.pcd", pcd("binary_compressed", grid=(80, 40)) + body)
    np.testing.assert_array_equal(read_cloud(path, (40, 80)), np.stack([x, y, z], axis=-1))


BODY = compressed([X, Y, Z])
LENGTH = len(BODY) - 8


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (BODY[:7], "declares at least 8 bytes of points, 7 follow"),
        (BODY[:-1], f"declares at least {LENGTH} bytes of points, {LENGTH - 1} follow"),
        (struct.pack("<II", LENGTH, 143) + BODY[8:], "declares 143 bytes of points, its fields need 144"),
        (struct.pack("<II", LENGTH - 4, 144) + BODY[8:], r"140 bytes of points, expected 144|cannot be read"),
        (struct.pack("<II", 1, 144) + b"\0", "declares 144 bytes of points in 1 compressed ones, more than can be"),
        (struct.pack("<II", 0, 144), "declares 144 bytes of points in 0 compressed"),
        (struct.pack("<II", 3, 144) + b"\xff\xff\xff", "LzfError"),  # refers to what is before the first byte
        (struct.pack("<II", 145, 144) + lzf(bytes(range(140)), False), "LzfError|expected 144"),
        (struct.pack("<II", 0xFFFFFFFF, 144) + BODY[8:], "declares at least 4294967295 bytes"),
        (struct.pack("<II", 2, 144) + b"\x1fa", "LzfError"),  # a run that is longer than the file
    ],
)  # fmt: skip
def test_broken_streams_are_refused(tmp_path: Path, body: bytes, message: str) -> None:
    path = written(tmp_path, "c.pcd", pcd("binary_compressed") + body)
    with pytest.raises(UserError, match=message) as caught:
        read_cloud(path, (3, 4))
    assert str(path) in str(caught.value)


def test_hostile_sizes_are_refused_before_memory_is_taken(tmp_path: Path) -> None:
    """4 GB of points in 9 bytes, once by the size of the grid, once by that of a field."""
    big = struct.pack("<II", 9, 4_294_967_280) + bytes(9)
    grid = written(
        tmp_path,
        "grid.pcd",
        pcd("binary_compressed", grid=(23_860_920, 15)) + struct.pack("<II", 9, 4_294_965_600) + bytes(9),
    )
    field = pcd("binary_compressed", "x y z q", "F F F F", f"1 1 1 {(4_294_967_280 // 12 - 12) // 4}")
    field_path = written(tmp_path, "field.pcd", field + big)
    own = pcd("binary_compressed", "x y z rgb", "F F F F", grid=(16_777_215, 16))
    own_path = written(tmp_path, "own.pcd", own + big)
    tracemalloc.start()
    try:
        with pytest.raises(UserError, match="in 9 compressed ones, more than can be"):
            read_cloud(grid, (15, 23_860_920))
        with pytest.raises(UserError, match="in 9 compressed ones, more than can be"):
            read_cloud(field_path, (3, 4))
        with pytest.raises(UserError, match="declares 268435440 points, expected at most 50000000"):
            read_coloured_cloud(own_path, None)
        assert tracemalloc.get_traced_memory()[1] < 1e6
    finally:
        tracemalloc.stop()


ROWS = np.concatenate([CLOUD.reshape(-1, 3).astype(object), RGB.reshape(-1, 3).astype(object)], axis=1)
XYZ = "property float x\nproperty float y\nproperty float z\n"
UCHAR = "property uchar red\nproperty uchar green\nproperty uchar blue\n"


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("little.ply", ply("binary_little_endian", XYZ + UCHAR) + b"".join(struct.pack("<3f3B", *row) for row in ROWS)),
        ("big.ply", ply("binary_big_endian", XYZ + UCHAR) + b"".join(struct.pack(">3f3B", *row) for row in ROWS)),
        ("text.ply", ply("ascii", XYZ + UCHAR) + "\n".join(" ".join(map(str, row)) for row in ROWS).encode()),
        ("float.pcd", pcd("binary", "x y z rgb", "F F F F")
         + np.stack([X, Y, Z, PACKED.view(np.float32)], axis=1).tobytes()),
        ("whole.pcd", pcd("binary", "rgba x y z", "U F F F")
         + np.stack([PACKED.view(np.float32), X, Y, Z], axis=1).tobytes()),
        ("text.pcd", pcd("ascii", "x y z rgb", "F F F U")
         + "\n".join(f"{x} {y} {z} {c}" for x, y, z, c in zip(X, Y, Z, PACKED, strict=True)).encode()),
    ],
)  # fmt: skip
def test_colours_come_back_with_their_points(tmp_path: Path, name: str, content: bytes) -> None:
    cloud, rgb = read_coloured_cloud(written(tmp_path, name, content), (3, 4))
    assert (cloud.dtype, rgb.dtype) == (np.float32, np.uint8)
    np.testing.assert_array_equal(cloud, CLOUD)
    np.testing.assert_array_equal(rgb, RGB)


def test_size_of_the_image_comes_from_the_file_or_the_user(tmp_path: Path) -> None:
    header = pcd("binary_compressed", "x y z rgb", "F F F F")
    cloud, rgb = read_coloured_cloud(written(tmp_path, "c.pcd", header + compressed([X, Y, Z, PACKED])), None)
    assert cloud.shape == rgb.shape == (3, 4, 3)
    line = pcd("binary_compressed", "x y z rgb", "F F F F", grid=(12, 1)) + compressed([X, Y, Z, PACKED])
    for path in (
        written(tmp_path, "line.pcd", line),
        written(tmp_path, "c.ply", ply("binary_little_endian", XYZ + UCHAR) + bytes(180)),
    ):
        with pytest.raises(UserError, match=r"does not say the size of its image, .* Pass --size WIDTH HEIGHT"):
            read_coloured_cloud(path, None)
        assert read_coloured_cloud(path, (3, 4))[1].shape == (3, 4, 3)
        with pytest.raises(UserError, match="has 12 points"):
            read_coloured_cloud(path, (4, 4))


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("c.pcd", pcd("binary") + bytes(144), "as uchar, or packed rgb or rgba, .* found x f4, y f4, z f4. Export"),
        ("c.pcd", pcd("ascii", "x y z rgb", "F F F F") + b"1 2 3 4.2e+06\n" * 12, "in binary, or pass --rgb PATTERN"),
        ("c.pcd", pcd("ascii", "x y z rgb", "F F F U") + b"1 2 3 -4\n" * 12, "expected colours from 0 to 4294967295"),
        ("c.ply", ply("ascii", XYZ + UCHAR) + b"1 2 3 4 5 256\n" * 12, "expected colours from 0 to 255"),
        ("c.ply", ply("ascii", XYZ + UCHAR) + b"1 2 3 4 5 nan\n" * 12, "expected colours from 0 to 255"),
        ("c.ply", ply("ascii", XYZ + UCHAR.replace("uchar", "ushort")) + b"1 2 3 4 5 6\n" * 12, "red u2, green u2"),
        ("c.tiff", bytes(9), "expected a PLY or PCD with colours, since there is no --rgb"),
    ],
)
def test_what_has_no_colours_is_refused(tmp_path: Path, name: str, content: bytes, message: str) -> None:
    with pytest.raises(UserError, match=message):
        read_coloured_cloud(written(tmp_path, name, content), (3, 4))
