"""Headers of organised point clouds in PLY and PCD: what they declare, checked word by word."""

import re
from dataclasses import dataclass
from typing import BinaryIO

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
_PCD_FORMATS = {"ascii": "ascii", "binary": "<", "binary_compressed": "lzf"}


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
        encoding: "ascii", the byte order "<" or ">" of points in binary, or "lzf": field by field, compressed by LZF.
        fields: of each point, in order.
        points: their number.
        grid: (height, width), where the format has it.
    """

    encoding: str
    fields: list[Field]
    points: int
    grid: tuple[int, int] | None = None

    @property
    def size(self) -> int:
        """Bytes of one point in binary."""
        return sum(field.size for field in self.fields)


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


def ply_header(stream: BinaryIO) -> Header:
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


def pcd_header(stream: BinaryIO) -> Header:
    """Header of a PCD file (Point Cloud Library, version 0.7). Raises ValueError."""
    lines = {words[0]: words[1:] for words in _header_lines(stream, "DATA") if words}
    for name in ("FIELDS", "SIZE", "TYPE", "WIDTH", "HEIGHT", "DATA"):
        if not lines.get(name):
            raise ValueError(f"expected a line {name!r} with values in the header, found none")
    encoding = _known(_PCD_FORMATS, lines["DATA"][0], "DATA")
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
    return _checked(Header(encoding, fields, points, (height, width)))
