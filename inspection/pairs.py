"""Which image and which cloud belong together, in a folder of any layout: `a/rgb/000.png` and `a/xyz/000.tiff`.

The two paths, relative to the folder and without suffix, are equal once `rgb` and `xyz` are taken out, as the whole
name of a folder or as a part of the file's name between `_`, `-` and `.`. What is left names the sample.
"""

import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from datasets.records import SUFFIXES
from processing.own_data.file_patterns import MAX_NAME

CLOUD_SUFFIXES = (*SUFFIXES["xyz"], ".npy")
IMAGE_SUFFIXES = tuple(suffix for suffix in SUFFIXES["rgb"] if suffix not in CLOUD_SUFFIXES)
NOT_SAMPLES = ("gt", "ground_truth", "calibration")
"""Folders that are not looked at, as hidden ones are."""
MASKS = ("gt", "mask")
"""As a part of a file's name: not looked at either."""

_KINDS = {"rgb": SUFFIXES["rgb"], "xyz": CLOUD_SUFFIXES}


@dataclass(frozen=True)
class Pair:
    """The files of one sample: colour image and organised cloud. `name` is a relative path with forward slashes."""

    name: str
    rgb: Path
    xyz: Path


def find_pairs(folder: Path, ignored: Path) -> tuple[list[Pair], list[str]]:
    """All pairs in a folder and below. Hidden files are not looked at, nor those with other suffixes.

    A file is an image or a cloud by `rgb` or `xyz` in its path, else by its suffix: .png, .jpg, .jpeg, .bmp are images,
    .tiff, .tif, .npy clouds. Links to folders are followed, each folder is looked at once.

    Args:
        folder: where to look; one that is not there holds nothing.
        ignored: not looked at, nor what is below.

    Returns:
        The pairs by name, and what is wrong with other files: a missing partner, more than one, a name that cannot be
        used, a folder that cannot be read.
    """
    found: dict[str, dict[str, list[Path]]] = {}
    problems: list[str] = []
    for path in _files(folder, ignored, problems):
        named = _split(PurePosixPath(path.relative_to(folder).as_posix()))
        if isinstance(named, str):
            problems.append(f"{_printable(path)}: {named}")
        elif named is not None:
            found.setdefault(named[0], {"rgb": [], "xyz": []})[named[1]].append(path)
    pairs = []
    for name, files in sorted(found.items()):
        if problem := _wrong(files["rgb"], files["xyz"]):
            problems.append(problem)
        else:
            pairs.append(Pair(name, files["rgb"][0], files["xyz"][0]))
    return pairs, problems


def single_pair(rgb: Path, xyz: Path) -> Pair:
    """A pair of files that are given, with the name that the image's file has without `rgb`, where it can be used."""
    name, _ = _without_kinds(rgb.stem)
    return Pair(name if name and _usable(name) else "sample", rgb, xyz)


def _files(folder: Path, ignored: Path, problems: list[str]) -> Iterator[Path]:
    """Regular files in a folder and below, sorted; what cannot be read goes to `problems`."""
    visited = {ignored.resolve()}

    def told(error: OSError) -> None:
        if not isinstance(error, FileNotFoundError):
            problems.append(f"{_printable(error.filename)}: cannot be read ({error.strerror}). Fix the permissions.")

    for base, folders, names in os.walk(folder, onerror=told, followlinks=True):
        here = Path(base).resolve()
        if here in visited:
            folders.clear()
            continue
        visited.add(here)
        folders[:] = sorted(name for name in folders if name[0] != "." and name.lower() not in NOT_SAMPLES)
        for path in (Path(base, name) for name in sorted(names) if name[0] != "."):
            try:
                if path.is_file():
                    yield path
            except OSError as error:
                told(error)


def _split(path: PurePosixPath) -> tuple[str, str] | str | None:
    """Name and kind ("rgb" or "xyz") of a file by its relative path; None for other files, or what is wrong with it."""
    if any(part.lower() in MASKS for part in re.split(r"[_.-]", path.stem)):
        return None
    stem, kinds = _without_kinds(path.stem)
    kinds |= {part.lower() for part in path.parts[:-1] if part.lower() in _KINDS}
    suffix = path.suffix.lower()
    if not kinds:
        kinds = {"rgb"} if suffix in IMAGE_SUFFIXES else {"xyz"}
    if not any(suffix in _KINDS[kind] for kind in kinds):
        return None
    if len(kinds) > 1:
        return "expected rgb or xyz in its path, found both. Rename it."
    parts = [part for part in (*path.parts[:-1], stem) if part and part.lower() not in _KINDS]
    if not all(map(_usable, parts)):
        return f"expected a name of at most {MAX_NAME} bytes, not hidden, without control characters. Rename it."
    return "/".join(parts) or "sample", kinds.pop()


def _usable(part: str) -> bool:
    """Whether files can be named after it, and it can be printed."""
    return part.isprintable() and not part.startswith(".") and len(part.encode()) <= MAX_NAME


def _without_kinds(stem: str) -> tuple[str, set[str]]:
    """A file's stem without `rgb` and `xyz`, each with the separator behind it or else before it; and which it had."""
    parts = re.split(r"([_.-])", stem)  # name, separator, name, …
    kinds = {part.lower() for part in parts[::2]} & _KINDS.keys()
    kept = [
        (part, parts[index + 1] if index + 1 < len(parts) else "")
        for index, part in enumerate(parts)
        if index % 2 == 0 and part.lower() not in _KINDS
    ]
    return "".join(part + separator for part, separator in kept[:-1]) + "".join(part for part, _ in kept[-1:]), kinds


def _wrong(images: list[Path], clouds: list[Path]) -> str | None:
    """Why these files, which have one name, are no pair; None when they are."""
    for paths, kind in ((images, "images"), (clouds, "clouds")):
        if len(paths) > 1:
            others = ", ".join(str(path) for path in paths[1:3])
            return f"{paths[0]}: expected one file, found {len(paths)} {kind} of the same sample: {others}. Remove one."
    if images and clouds:
        return None
    path = (images or clouds)[0]
    missing = "cloud (.tiff, .tif, .npy)" if images else "image (.png, .jpg, .jpeg, .bmp)"
    return f"{path}: no {missing} of the same name was found. Add it or remove this file."


def _printable(path: Path | str) -> str:
    return "".join(character if character.isprintable() else "?" for character in str(path))
