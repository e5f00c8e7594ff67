"""Clouds of every format come back number by number; wrong and hostile files are refused before memory is taken."""

import struct
import tracemalloc
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile

from datasets.scenes import render_scene
from processing.own_data.cloud_files import read_cloud
from utils.errors import UserError

CLOUD = np.random.default_rng(0).normal(0, 300, (3, 4, 3)).astype(np.float32)
CLOUD[1, 2] = np.nan
POINTS = CLOUD.reshape(-1, 3)
PLY = "ply\nformat {} 1.0\ncomment element vertex 99\nobj_info made by hand\nelement vertex {}\n{}end_header\n"
XYZ = "property float x\nproperty float y\nproperty float z\n"


def ply(kind: str, count: int = 12, properties: str = XYZ) -> bytes:
    return PLY.format(kind, count, properties).encode()


def pcd(kind: str, **changes: str) -> bytes:
    lines = {
        "VERSION": "0.7", "FIELDS": "x y z", "SIZE": "4 4 4", "TYPE": "F F F", "COUNT": "1 1 1", "WIDTH": "4",
        "HEIGHT": "3", "VIEWPOINT": "0 0 0 1 0 0 0", "POINTS": "12", "DATA": kind,
    } | changes  # fmt: skip
    text = "".join(f"{name} {value}\n" for name, value in lines.items() if value)
    return f"# .PCD v0.7 - Point Cloud Data file format\n{text}".encode()


def as_text(rows: np.ndarray) -> bytes:
    return "".join(" ".join(f"{float(value)!r}" for value in row) + "\n" for row in rows).encode()


def read(folder: Path, name: str, content: bytes) -> np.ndarray:
    (folder / name).write_bytes(content)
    return read_cloud(folder / name, (3, 4))


FACES = b"\x03\x00\x00\x00\x00\x01\x00\x00\x00\x02\x00\x00\x00"
MIXED = "property uchar red\nproperty double z\nproperty short q\nproperty float y\nproperty double x\n"


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("c.ply", ply("ascii") + as_text(POINTS)),
        ("c.ply", ply("ascii").replace(b"\n", b"\r\n") + as_text(POINTS).replace(b"\n", b"\r\n")),
        ("c.ply", ply("binary_little_endian") + POINTS.astype("<f4").tobytes()),
        ("c.PLY", ply("binary_big_endian") + POINTS.astype(">f4").tobytes()),
        ("c.ply", ply("binary_little_endian", 12, XYZ + "element face 1\nproperty list uchar int vertex_indices\n")
         + POINTS.tobytes() + FACES),
        ("c.ply", ply("ascii", 12, XYZ + "element face 1\nproperty list uchar int vertex_indices\n")
         + as_text(POINTS) + b"3 0 1 2\n"),
        ("c.pcd", pcd("ascii") + as_text(POINTS)),
        ("c.pcd", pcd("binary") + POINTS.tobytes()),
        ("c.pcd", pcd("binary", WIDTH="12", HEIGHT="1") + POINTS.tobytes()),
        ("c.pcd", pcd("binary", COUNT="", POINTS="") + POINTS.tobytes()),
        ("c.pcd", pcd("binary", FIELDS="X Y Z") + POINTS.tobytes()),
        ("c.ply", ply("ascii", 12, "property float X\nproperty float Y\nproperty float Z\n") + as_text(POINTS)),
    ],
)  # fmt: skip
def test_numbers_come_back(tmp_path: Path, name: str, content: bytes) -> None:
    found = read(tmp_path, name, content)
    assert found.dtype == np.float32
    np.testing.assert_array_equal(found, CLOUD)


def test_other_properties_and_types_are_stepped_over(tmp_path: Path) -> None:
    rows = [struct.pack(">Bdhfd", 7, z, -3, y, x) for x, y, z in POINTS]
    found = read(tmp_path, "c.ply", ply("binary_big_endian", 12, MIXED) + b"".join(rows))
    np.testing.assert_array_equal(found, CLOUD.astype(np.float64))
    assert found.dtype.isnative
    padded = pcd("binary", FIELDS="_ x y _ z rgb", SIZE="1 4 8 1 4 4", TYPE="U F F U F F", COUNT="3 1 1 5 1 1")
    rows = [struct.pack("<3sfd5sff", b"abc", x, y, b"defgh", z, 9.5) for x, y, z in POINTS]
    np.testing.assert_array_equal(read(tmp_path, "c.pcd", padded + b"".join(rows)), CLOUD)
    text = pcd("ascii", FIELDS="n x y z", SIZE="4 4 4 4", TYPE="F F F F", COUNT="3 1 1 1")
    table = np.concatenate([np.ones((12, 3)), POINTS], axis=1)
    np.testing.assert_array_equal(read(tmp_path, "t.pcd", text + as_text(table)), CLOUD)


def test_doubles_keep_their_digits(tmp_path: Path) -> None:
    points = np.random.default_rng(1).normal(0, 300, (12, 3))
    assert not np.array_equal(points, points.astype(np.float32))
    doubles = XYZ.replace("float", "double")
    for name, content in (
        ("c.ply", ply("binary_little_endian", 12, doubles) + points.astype("<f8").tobytes()),
        ("c.ply", ply("binary_big_endian", 12, doubles) + points.astype(">f8").tobytes()),
        ("c.ply", ply("ascii", 12, doubles) + as_text(points)),
        ("c.pcd", pcd("binary", SIZE="8 8 8") + points.tobytes()),
        ("c.pcd", pcd("ascii", SIZE="8 8 8") + as_text(points)),
    ):
        found = read(tmp_path, name, content)
        assert found.dtype == np.float64
        np.testing.assert_array_equal(found.reshape(-1, 3), points)
    mixed = [struct.pack("<ffd", *point) for point in points]  # one double is enough
    found = read(
        tmp_path, "c.ply", ply("binary_little_endian", 12, XYZ.replace("float z", "double z")) + b"".join(mixed)
    )
    np.testing.assert_array_equal(found[..., 2].ravel(), points[:, 2])


@pytest.mark.parametrize("shape", [(60, 80), (80, 60), (60, 60)])
def test_points_stored_column_by_column_are_refused(tmp_path: Path, shape: tuple[int, int]) -> None:
    cloud = np.ascontiguousarray(render_scene("gear", None, 80, 0).xyz[: shape[0], : shape[1]]) * np.float32(1000)
    turned = np.ascontiguousarray(cloud.swapaxes(0, 1))
    height, width = shape
    count = height * width
    line = {"WIDTH": str(count), "HEIGHT": "1", "POINTS": str(count)}
    for name, header in (
        ("c.ply", ply("binary_little_endian", count)), ("c.pcd", pcd("binary", **line)),
    ):  # fmt: skip
        (tmp_path / name).write_bytes(header + cloud.tobytes())
        np.testing.assert_array_equal(read_cloud(tmp_path / name, shape), cloud)
        (tmp_path / name).write_bytes(header + turned.tobytes())
        with pytest.raises(UserError, match=rf"{name}: .*stored column by column.* Export them row by row"):
            read_cloud(tmp_path / name, shape)
    grid = pcd("binary", WIDTH=str(width), HEIGHT=str(height), POINTS="")  # says the order itself
    (tmp_path / "c.pcd").write_bytes(grid + turned.tobytes())
    np.testing.assert_array_equal(read_cloud(tmp_path / "c.pcd", shape).reshape(-1, 3), turned.reshape(-1, 3))


@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.int16])
def test_tiff_and_npy_keep_numbers_and_type(tmp_path: Path, dtype: Any) -> None:
    cloud: np.ndarray = np.nan_to_num(CLOUD).astype(dtype)
    tifffile.imwrite(tmp_path / "c.tiff", cloud, photometric="rgb")
    np.save(tmp_path / "c.npy", cloud)
    for name in ("c.tiff", "c.npy"):
        found = read_cloud(tmp_path / name, (3, 4))
        assert found.dtype == dtype
        np.testing.assert_array_equal(found, cloud)


def test_arrays_of_other_shapes_are_refused(tmp_path: Path) -> None:
    for shape, message in (
        ((12, 3), r"found \(12, 3\). Export"),
        ((3, 4), r"found \(3, 4\). Export"),
        ((2, 4, 4), r"found \(2, 4, 4\). Export"),
        ((3, 5, 4), r"found \(3, 5, 4\). Channels last: write \(height, width, 3\)"),
        ((4, 3, 3), "has 3×4"),
    ):
        np.save(tmp_path / "c.npy", np.ones(shape))
        with pytest.raises(UserError, match=message):
            read_cloud(tmp_path / "c.npy", (3, 4))
    with pytest.raises(UserError, match=r"c.obj: expected a cloud as .tif, .tiff, .npy, .ply, .pcd"):
        read_cloud(tmp_path / "c.obj", (3, 4))


BODY = POINTS.tobytes()
HUGE = "999999999999"


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("c.ply", ply("binary_little_endian", 11) + BODY, r"has 11 points, its RGB 4×3 \(W×H\) = 12 pixels.*organised"),
        ("c.ply", ply("binary_little_endian", int(HUGE)) + BODY, f"has {HUGE} points"),
        ("c.ply", ply("binary_little_endian") + BODY[:-1], "declares at least 144 bytes of points, 143 follow"),
        ("c.ply", ply("ascii") + b"1 2 3\n" * 5, "declares at least 71 bytes"),
        ("c.ply", ply("ascii") + b"1 2 3\n" * 11 + b"         1 2", "35 numbers, expected 3 for each of 12"),
        ("c.ply", ply("ascii") + b"1 2 3\n" * 11 + b"1 x 3\n" * 9, "unmatched data"),
        ("c.ply", ply("binary_middle_endian") + BODY,
         r"\(ValueError: unknown format 'binary_middle_endian', expected one of ascii, binary_little"),
        ("c.ply", ply("ascii", 12, XYZ.replace("float z", "half z")),
         r"unknown property type 'half', expected one of char, .*, double"),
        ("c.ply", ply("ascii", 12, XYZ + "property float\n"), "line 'property float' is incomplete"),
        ("c.ply", ply("ascii").replace(b"format ascii 1.0", b"format"), "line 'format' is incomplete"),
        ("c.ply", ply("ascii").replace(b"element vertex 12", b"element vertex"), "line 'element vertex' is incomplete"),
        ("c.ply", ply("ascii").replace(b"format ascii 1.0\n", b"") + BODY, "expected a line 'format'"),
        ("c.ply", b"PLY\n" + ply("ascii")[4:] + BODY, "does not begin with 'ply'"),
        ("c.ply", ply("ascii").replace(b"vertex 12", b"vertex -12"), "a whole number in the header, found '-12'"),
        ("c.ply", ply("ascii").replace(b"vertex 12", b"vertex " + b"9" * 500), "expected a whole number in the header"),
        ("c.ply", ply("ascii").replace(b"element vertex 12", b"element face 12"), "expected the vertices first"),
        ("c.ply", ply("ascii", 12, "property list uchar int x\n"), "single numbers, found a list"),
        ("c.ply", ply("ascii", 12, XYZ.replace("float z", "float w")), "expected the coordinates x, y and z .* w f4"),
        ("c.ply", ply("ascii", 12, XYZ.replace("float z", "int z")), "as float or double, found .* z i4"),
        ("c.ply", ply("ascii", 12, XYZ + "property float x\n"), "expected the coordinates"),
        ("c.ply", b"ply\n" + b"comment\n" * 2000, "no header: expected a line 'end_header'"),
        ("c.ply", b"ply\n" + b"a" * 2_000_000, "no header"),
        ("c.ply", b"ply", "no header"),
        ("c.ply", b"", "it is empty"),
        ("c.pcd", pcd("zip") + BODY, "unknown DATA .zip., expected one of ascii, binary, binary_compressed"),
        ("c.pcd", pcd("binary", WIDTH="3", HEIGHT="4") + BODY, "has a grid of 3×4, its RGB 4×3"),
        ("c.pcd", pcd("binary", WIDTH="1", HEIGHT="12") + BODY, "has a grid of 1×12"),
        ("c.pcd", pcd("binary", WIDTH="12", HEIGHT="12") + BODY, "declares 12 points on a grid of 12×12"),
        ("c.pcd", pcd("binary", WIDTH=HUGE, HEIGHT=HUGE, POINTS="") + BODY, "points, its RGB 4×3"),
        ("c.pcd", pcd("binary", COUNT="1 1 1 1") + BODY, "found 3 FIELDS, 3 SIZE, 3 TYPE, 4 COUNT"),
        ("c.pcd", pcd("binary", SIZE="4 4") + BODY, "found 3 FIELDS, 2 SIZE, 3 TYPE, 3 COUNT"),
        ("c.pcd", pcd("binary", TYPE="F F") + BODY, "found 3 FIELDS, 3 SIZE, 2 TYPE, 3 COUNT"),
        ("c.pcd", pcd("binary", FIELDS="x y z X", SIZE="4 4 4 4", TYPE="F F F F", COUNT="") + BODY,
         "expected the coordinates"),
        ("c.pcd", pcd("binary", FIELDS="x y z a", SIZE="4 4 4 8", TYPE="F F F F", COUNT=f"1 1 1 {HUGE}") + BODY,
         "declares at least 96000000000048"),
        ("c.pcd", pcd("binary", SIZE="4 4 3") + BODY, "found x f4, y f4, z f3"),
        ("c.pcd", pcd("binary", TYPE="F F I") + BODY, "z i4"),
        ("c.pcd", pcd("binary", WIDTH="-4") + BODY, "found '-4'"),
        *(("c.pcd", pcd("binary", **{line: ""}) + BODY, rf"\(ValueError: expected a line '{line}' with values")
          for line in ("FIELDS", "SIZE", "TYPE", "WIDTH", "HEIGHT")),
        ("c.pcd", pcd("binary", FIELDS=" ") + BODY, "expected a line 'FIELDS' with values"),
        ("c.pcd", pcd("") + b"DATA\n" + BODY, "expected a line 'DATA' with values"),
    ],
)  # fmt: skip
def test_unsuitable_and_hostile_files_are_refused_cheaply(
    tmp_path: Path, name: str, content: bytes, message: str
) -> None:
    tracemalloc.start()
    try:
        with pytest.raises(UserError, match=message) as caught:
            read(tmp_path, name, content)
        assert tracemalloc.get_traced_memory()[1] < 30e6
    finally:
        tracemalloc.stop()
    assert str(tmp_path / name) in str(caught.value)
