"""Organised point clouds as 3D cameras save them: TIFF, NPY, PLY and PCD, in stored units, with their colours.

PLY and PCD are parsed here: what is needed is little, the grid of PCD is kept, and sizes that a file declares are
compared with its length before anything is allocated.
"""

import struct
import warnings
from pathlib import Path
from typing import BinaryIO

import imagecodecs
import numpy as np

from datasets.readers import MAX_PIXELS, read_array
from processing.own_data.cloud_headers import Header, pcd_header, ply_header
from processing.own_data.rgbd_depth import stored_by_columns
from utils.errors import UserError
from utils.files import read_with

SUFFIXES = (".tif", ".tiff", ".npy", ".ply", ".pcd")

_CHANNELS = ("red", "green", "blue")
_PACKED = ("rgb", "rgba")  # four bytes, 0xAARRGGBB, whatever type of number they are declared as
_LZF_RATIO = 88  # a reference of 3 bytes stands for 264 at most
_ADVICE = "Export the cloud again, organised: one point for every pixel, invalid ones kept."


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
        return read_with(path, lambda file: _read_points(file, shape, False), _ADVICE)[0]
    cloud = read_array(path)
    if cloud.ndim != 3 or cloud.shape[2] != 3:
        advice = "Channels last: write (height, width, 3)." if cloud.ndim == 3 and cloud.shape[0] == 3 else _ADVICE
        raise UserError(f"{path}: expected the shape (height, width, 3), found {cloud.shape}. {advice}")
    if cloud.shape[:2] != shape:
        raise UserError(_mismatch(path, f"{cloud.shape[1]}×{cloud.shape[0]}", shape))
    return cloud


def read_coloured_cloud(path: Path, shape: tuple[int, int] | None) -> tuple[np.ndarray, np.ndarray]:
    """(h, w, 3) coordinates in stored units and type, and (h, w, 3) uint8 RGB of the same points.

    Args:
        path: PLY or PCD with the fields red, green, blue, or with packed colours, rgb or rgba, as PCL writes them.
        shape: (h, w); None = the grid of the file, which only PCD has.

    Raises:
        UserError: unreadable, without colours, not organised, not of that shape, or no shape known.
    """
    if path.suffix.lower() not in (".ply", ".pcd"):
        raise UserError(f"{path}: expected a PLY or PCD with colours, since there is no --rgb. Pass --rgb PATTERN.")
    return read_with(path, lambda file: _read_points(file, shape, True), _ADVICE)


def _read_points(path: Path, shape: tuple[int, int] | None, coloured: bool) -> tuple[np.ndarray, np.ndarray]:
    """Coordinates and, if `coloured`, colours of a PLY or PCD file; else no colours, (h, w, 0)."""
    with path.open("rb") as stream:
        header = ply_header(stream) if path.suffix.lower() == ".ply" else pcd_header(stream)
        shape = shape or _own_shape(path, header)
        height, width = shape
        if header.points != height * width:
            raise UserError(_mismatch(path, f"{header.points} points", shape))
        if header.grid not in (None, shape, (1, height * width)):
            raise UserError(_mismatch(path, f"a grid of {header.grid[1]}×{header.grid[0]}", shape))
        names = ["x", "y", "z", *(_colour_fields(path, header) if coloured else ())]
        left = path.stat().st_size - stream.tell()
        read = {"ascii": _read_text, "lzf": _read_compressed}.get(header.encoding, _read_binary)
        columns = read(stream, header, names, left)
    with np.errstate(over="ignore"):
        cloud = np.stack(columns[:3], axis=1).astype(_kind(header), copy=False).reshape(height, width, 3)
    if header.grid != shape and stored_by_columns(cloud):
        raise UserError(
            f"{path}: its points seem to be stored column by column, expected row by row, as the pixels of the RGB. "
            f"Export them row by row{', or correct --size' if coloured else ''}."
        )
    return cloud, _colours(columns[3:]).reshape(height, width, -1)


def _own_shape(path: Path, header: Header) -> tuple[int, int]:
    """(h, w) as the file itself says it."""
    if header.grid is None or header.grid[0] <= 1:
        raise UserError(
            f"{path}: does not say the size of its image, and there is no --rgb that does. Pass --size WIDTH HEIGHT."
        )
    if header.points > MAX_PIXELS:
        raise ValueError(f"declares {header.points} points, expected at most {MAX_PIXELS}")
    return header.grid


def _mismatch(path: Path, found: str, shape: tuple[int, int]) -> str:
    return (
        f"{path}: has {found}, its RGB {shape[1]}×{shape[0]} (W×H) = {shape[0] * shape[1]} pixels. Expected an "
        "organised cloud with one point for every pixel of the RGB, in its order. Export it as organised (ordered), "
        "with invalid points kept, aligned to the colour image and at its size."
    )


def _read_binary(stream: BinaryIO, header: Header, names: list[str], left: int) -> list[np.ndarray]:
    """(N,) values of each named field, in its declared type. Raises ValueError where the file is too short."""
    _check_length(header.size * header.points, left)
    places = [_place(header, name) for name in names]
    record = np.dtype(
        {
            "names": names,
            "formats": [header.encoding + header.fields[place].kind for place in places],
            "offsets": [sum(field.size for field in header.fields[:place]) for place in places],
            "itemsize": header.size,
        }
    )
    points = np.frombuffer(stream.read(header.size * header.points), record)
    return [points[name] for name in names]


def _read_compressed(stream: BinaryIO, header: Header, names: list[str], left: int) -> list[np.ndarray]:
    """As `_read_binary`: two sizes, then the fields one after the other, all points of each, packed by LZF (PCL)."""
    _check_length(8, left)
    packed, size = struct.unpack("<II", stream.read(8))
    if size != header.size * header.points:
        raise ValueError(f"declares {size} bytes of points, its fields need {header.size * header.points}")
    _check_length(packed, left - 8)
    if size > _LZF_RATIO * packed:
        raise ValueError(f"declares {size} bytes of points in {packed} compressed ones, more than can be")
    data = imagecodecs.lzf_decode(stream.read(packed), out=size)  # raises where the stream does not fit
    if len(data) != size:
        raise ValueError(f"{len(data)} bytes of points, expected {size}")
    columns = []
    for place in (_place(header, name) for name in names):
        offset = sum(field.size for field in header.fields[:place]) * header.points
        columns.append(np.frombuffer(data, "<" + header.fields[place].kind, header.points, offset))
    return columns


def _read_text(stream: BinaryIO, header: Header, names: list[str], left: int) -> list[np.ndarray]:
    """(N,) values of each named field: coordinates as float64, colours in their type.

    Raises ValueError where numbers are missing, or are no colours.
    """
    values = sum(field.count for field in header.fields)
    _check_length(2 * values * header.points - 1, left)  # a digit and a space for each
    with warnings.catch_warnings():
        warnings.simplefilter("error", DeprecationWarning)  # what is no number
        numbers = np.fromfile(stream, np.float64, values * header.points, sep=" ")
    if len(numbers) != values * header.points:
        raise ValueError(f"{len(numbers)} numbers, expected {values} for each of {header.points} points")
    table = numbers.reshape(header.points, values)
    columns = []
    for name, place in ((name, _place(header, name)) for name in names):
        column = table[:, sum(field.count for field in header.fields[:place])]
        columns.append(column if name in ("x", "y", "z") else _whole_numbers(column, header.fields[place].kind))
    return columns


def _whole_numbers(column: np.ndarray, kind: str) -> np.ndarray:
    """Numbers of colours that were written as text, in their type. Raises ValueError for those that are none."""
    limits = np.iinfo(kind)
    if not ((column >= limits.min) & (column <= limits.max)).all():
        raise ValueError(f"expected colours from {limits.min} to {limits.max}")
    return column.astype(kind)


def _colour_fields(path: Path, header: Header) -> tuple[str, ...]:
    """The names of the fields that hold colours."""
    kinds = {field.name: field.kind for field in header.fields if field.count == 1}
    if all(kinds.get(name) == "u1" for name in _CHANNELS):
        return _CHANNELS
    allowed = ("u4", "i4") if header.encoding == "ascii" else ("u4", "i4", "f4")  # as text, floats lose their bits
    if found := [name for name in _PACKED if kinds.get(name) in allowed]:
        return (found[0],)
    told = ", ".join(f"{name} {kind}" for name, kind in list(kinds.items())[:20])
    raise UserError(
        f"{path}: expected the colours red, green and blue as uchar, or packed rgb or rgba, since there is no --rgb; "
        f"found {told}. Export the cloud with colours, in binary, or pass --rgb PATTERN."
    )


def _colours(columns: list[np.ndarray]) -> np.ndarray:
    """(N, 3) uint8 of three channels or of one packed column; (N, 0) of none."""
    if len(columns) == 1:
        packed = np.ascontiguousarray(columns[0], columns[0].dtype.newbyteorder("=")).view(np.uint32)
        columns = [(packed >> shift & 255).astype(np.uint8) for shift in (16, 8, 0)]
    return np.stack(columns, axis=1) if columns else np.empty((0, 0), np.uint8)


def _place(header: Header, name: str) -> int:
    return next(index for index, field in enumerate(header.fields) if field.name == name)


def _check_length(needed: int, left: int) -> None:
    if left < needed:
        raise ValueError(f"the header declares at least {needed} bytes of points, {left} follow")


def _kind(header: Header) -> str:
    kinds = {field.kind for field in header.fields if field.name in ("x", "y", "z")}
    return "f8" if "f8" in kinds else "f4"
