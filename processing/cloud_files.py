"""Organised point clouds as 3D cameras save them: TIFF, NPY, PLY and PCD, in stored units.

PLY and PCD are parsed here: what is needed is little, the grid of PCD is kept, and sizes that a header declares are
compared with the file before anything is allocated.
"""

import re
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import numpy as np

from datasets.readers import read_array
from processing.rgbd_depth import stored_by_columns
from utils.errors import UserError
from utils.files import read_with

SUFFIXES = (".tif", ".tiff", ".npy", ".ply", ".pcd")

_MAX_LINES, _MAX_LINE = 1000, 1000  # of a header, and bytes of one of its lines
_PLY_TYPES = {
    **dict.fromkeys(("char", "int8"), "i1"),
    **dict.fromkeys(("uchar", "uint8"), "u1"),
    **dict.fromkeys(("short", "int16"), "i2"),
    **dict.fromkeys(("ushort", "uint16"), "u2"),
    **dict.fromkeys(("int", "int32"), "i4"),
    **dict.fromkeys(("uint", "uint32"), "u4"),
    **dict.fromkeys(("float", "float32"), "f4"),
    **dict.fromkeys(("double", "float64"), "f8"),
}
_PLY_FORMATS = {"ascii": "ascii", "binary_little_endian": "<", "binary_big_endian": ">"}
_ADVICE = "Export the cloud again, organised: one point for every pixel, invalid ones kept."


@dataclass(frozen=True)
class Field:
    """One property of the points: its name, type ("f4", "u1", …) and how many values it has."""

    name: str
    kind: str
    count: int = 1

    @property
    def size(self) -> int:
        """Bytes."""
        return int(self.kind[1:]) * self.count


@dataclass(frozen=True)
class Header:
    """What a PLY or PCD file declares.

    Attributes:
        encoding: "ascii", or the byte order "<" or ">".
        fields: of each point, in order.
        points: their number.
        grid: (height, width), where the format has it.
    """

    encoding: str
    fields: list[Field]
    points: int
    grid: tuple[int, int] | None = None


def read_cloud(path: Path, shape: tuple[int, int]) -> np.ndarray:
    """(h, w, 3) coordinates in stored units and type.

    Args:
        path: TIFF, NPY, PLY or PCD.
        shape: (h, w) of the RGB image, row by row the order of the points in PLY and PCD.

    Raises:
        UserError: unreadable, of another kind, not organised, or not of that shape.
    """
    suffix = path.suffix.lower()
    if suffix not in SUFFIXES:
        raise UserError(f"{path}: expected a cloud as {', '.join(SUFFIXES)}. Export it as one of these.")
    if suffix in (".ply", ".pcd"):
        return read_with(path, lambda file: _read_points(file, shape), _ADVICE)
    cloud = read_array(path)
    if cloud.ndim != 3 or cloud.shape[2] != 3:
        advice = "Channels last: write (height, width, 3)." if cloud.ndim == 3 and cloud.shape[0] == 3 else _ADVICE
        raise UserError(f"{path}: expected the shape (height, width, 3), found {cloud.shape}. {advice}")
    if cloud.shape[:2] != shape:
        raise UserError(_mismatch(path, f"{cloud.shape[1]}×{cloud.shape[0]}", shape))
    return cloud


def _read_points(path: Path, shape: tuple[int, int]) -> np.ndarray:
    with path.open("rb") as stream:
        header = _ply_header(stream) if path.suffix.lower() == ".ply" else _pcd_header(stream)
        height, width = shape
        if header.points != height * width:
            raise UserError(_mismatch(path, f"{header.points} points", shape))
        if header.grid not in (None, shape, (1, height * width)):
            raise UserError(_mismatch(path, f"a grid of {header.grid[1]}×{header.grid[0]}", shape))
        left = path.stat().st_size - stream.tell()
        points = (_read_text if header.encoding == "ascii" else _read_binary)(stream, header, left)
    cloud = points.reshape(height, width, 3)
    if header.grid != shape and stored_by_columns(cloud):
        raise UserError(
            f"{path}: its points seem to be stored column by column, expected row by row, as the pixels of the RGB. "
            "Export them row by row."
        )
    return cloud


def _mismatch(path: Path, found: str, shape: tuple[int, int]) -> str:
    return (
        f"{path}: has {found}, its RGB {shape[1]}×{shape[0]} (W×H) = {shape[0] * shape[1]} pixels. Expected an "
        "organised cloud with one point for every pixel of the RGB, in its order. Export it as organised (ordered), "
        "with invalid points kept, aligned to the colour image and at its size."
    )


def _read_binary(stream: BinaryIO, header: Header, left: int) -> np.ndarray:
    """(N, 3) in the declared type, native byte order. Raises ValueError where the file is shorter than declared."""
    size = sum(field.size for field in header.fields)
    _check_length(size * header.points, left)
    names = [field.name for field in header.fields]
    chosen = [names.index(axis) for axis in "xyz"]
    record = np.dtype(
        {
            "names": list("xyz"),
            "formats": [header.encoding + header.fields[index].kind for index in chosen],
            "offsets": [sum(field.size for field in header.fields[:index]) for index in chosen],
            "itemsize": size,
        }
    )
    points = np.frombuffer(stream.read(size * header.points), record)
    return np.stack([points[axis] for axis in "xyz"], axis=1).astype(_kind(header), copy=False)


def _read_text(stream: BinaryIO, header: Header, left: int) -> np.ndarray:
    """(N, 3) in the declared type. Raises ValueError where numbers are missing."""
    values = sum(field.count for field in header.fields)
    _check_length(2 * values * header.points - 1, left)  # a digit and a space for each
    with warnings.catch_warnings():
        warnings.simplefilter("error", DeprecationWarning)  # what is no number
        numbers = np.fromfile(stream, np.float64, values * header.points, sep=" ")
    if len(numbers) != values * header.points:
        raise ValueError(f"{len(numbers)} numbers, expected {values} for each of {header.points} points")
    names = [field.name for field in header.fields]
    columns = [sum(field.count for field in header.fields[: names.index(axis)]) for axis in "xyz"]
    with np.errstate(over="ignore"):
        return numbers.reshape(header.points, values)[:, columns].astype(_kind(header))


def _check_length(needed: int, left: int) -> None:
    if left < needed:
        raise ValueError(f"the header declares at least {needed} bytes of points, {left} follow")


def _kind(header: Header) -> str:
    kinds = {field.kind for field in header.fields if field.name in ("x", "y", "z")}
    return "f8" if "f8" in kinds else "f4"


def _checked(header: Header) -> Header:
    """The header itself. Raises ValueError unless its points have coordinates."""
    for axis in "xyz":
        if [field.kind in ("f4", "f8") and field.count == 1 for field in header.fields if field.name == axis] != [True]:
            found = ", ".join(f"{field.name} {field.kind}" for field in header.fields[:20])
            raise ValueError(f"expected the coordinates x, y and z as float or double, found {found}")
    return header


def _header_lines(stream: BinaryIO, last: str) -> list[list[str]]:
    """The words of each line up to the one that begins with `last`."""
    lines = []
    for _ in range(_MAX_LINES):
        lines.append(stream.readline(_MAX_LINE).decode("ascii", "replace").split())
        if lines[-1][:1] == [last]:
            return lines
    raise ValueError(f"no header: expected a line {last!r} among the first {_MAX_LINES}")


def _whole(word: str) -> int:
    """A whole number ≥ 0 of a header."""
    if not re.fullmatch(r"[0-9]{1,15}", word):
        raise ValueError(f"expected a whole number in the header, found {word[:30]!r}")
    return int(word)


def _known(table: dict[str, str], word: str, what: str) -> str:
    """What a word of a header stands for."""
    if word not in table:
        raise ValueError(f"unknown {what} {word[:30]!r}, expected one of {', '.join(table)}")
    return table[word]


def _ply_header(stream: BinaryIO) -> Header:
    """Header of a PLY file (Turk, 1994) whose first element are the vertices. Raises ValueError."""
    lines = _header_lines(stream, "end_header")
    if lines[0] != ["ply"]:
        raise ValueError("does not begin with 'ply'")
    encoding, points, fields, elements = "", 0, list[Field](), 0
    for words in lines[1:-1]:
        if words[:1] in (["format"], ["element"], ["property"]) and len(words) < 3:
            raise ValueError(f"the header's line {' '.join(words)[:60]!r} is incomplete")
        if words[:1] == ["format"]:
            encoding = _known(_PLY_FORMATS, words[1], "format")
        elif words[:1] == ["element"]:
            elements += 1
            if elements == 1:
                if words[1] != "vertex":
                    raise ValueError(f"expected the vertices first, found {words[1][:30]!r}")
                points = _whole(words[2])
        elif words[:1] == ["property"] and elements == 1:
            if words[1] == "list":
                raise ValueError("expected vertices with single numbers, found a list")
            fields.append(Field(words[2].lower(), _known(_PLY_TYPES, words[1], "property type")))
    if not encoding:
        raise ValueError(f"expected a line 'format', one of {', '.join(_PLY_FORMATS)}")
    return _checked(Header(encoding, fields, points))


def _pcd_header(stream: BinaryIO) -> Header:
    """Header of a PCD file (Point Cloud Library, version 0.7). Raises ValueError."""
    lines = {words[0]: words[1:] for words in _header_lines(stream, "DATA") if words}
    for name in ("FIELDS", "SIZE", "TYPE", "WIDTH", "HEIGHT", "DATA"):
        if not lines.get(name):
            raise ValueError(f"expected a line {name!r} with values in the header, found none")
    kind = lines["DATA"][0]
    if kind not in ("ascii", "binary"):
        raise ValueError(f"DATA is {kind}, expected ascii or binary: save the cloud as binary, without compression")
    names, sizes, types = lines["FIELDS"], lines["SIZE"], lines["TYPE"]
    counts = lines.get("COUNT", ["1"] * len(names))
    if not len(names) == len(sizes) == len(types) == len(counts):
        raise ValueError(
            f"expected as many values of SIZE, TYPE and COUNT as FIELDS, found {len(names)} FIELDS, {len(sizes)} SIZE, "
            f"{len(types)} TYPE, {len(counts)} COUNT"
        )
    fields = [
        Field(name.lower(), f"{letter.lower()}{_whole(size)}", _whole(count))
        for name, letter, size, count in zip(names, types, sizes, counts, strict=True)
    ]
    width, height = _whole(lines["WIDTH"][0]), _whole(lines["HEIGHT"][0])
    points = _whole(lines["POINTS"][0]) if lines.get("POINTS") else width * height
    if points != width * height:
        raise ValueError(f"declares {points} points on a grid of {width}×{height}")
    return _checked(Header("ascii" if kind == "ascii" else "<", fields, points, (height, width)))
