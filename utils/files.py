"""Files that are written whole or not at all, and read without trust in what they hold."""

import fcntl
import hashlib
import json
import os
import re
import secrets
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

from utils.errors import UserError

MAX_TEXT = 16 << 20  # bytes of a settings file; the largest that are written here, manifests, take under 1 MiB

Value = TypeVar("Value")


@contextmanager
def atomic_path(path: Path) -> Iterator[Path]:
    """Yield a temporary path beside `path`; on success it replaces `path`, on any exception it is removed.

    The temporary name starts with a dot and keeps the suffix, so writers that look at the suffix work unchanged.
    Parent folders are created.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.stem}.{secrets.token_hex(4)}.tmp{path.suffix}")
    temporary.touch(exist_ok=False)
    try:
        yield temporary
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def leftovers(folder: Path) -> list[Path]:
    """The temporary files that a killed `atomic_path` left in a folder and below."""
    ours = re.compile(r"\..*\.[0-9a-f]{8}\.tmp(\.[^.]*)?")
    return [path for path in folder.rglob(".*.tmp*") if ours.fullmatch(path.name) and not path.is_dir()]


def remove_leftovers(folder: Path) -> None:
    """Remove the `leftovers` of a folder."""
    for path in leftovers(folder):
        path.unlink()


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Hold the right to write to a folder, which is made; the system frees it, even of a killed process.

    On file systems that know no locks, nothing is held.

    Raises:
        UserError: another process holds it.
    """
    folder.mkdir(parents=True, exist_ok=True)
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise UserError(
                f"{folder}: another command is writing to it. Wait until it has finished, then run this one again."
            ) from error
        except OSError:
            pass  # a file system without locks
        yield
    finally:
        os.close(descriptor)


def refuse_links(folder: Path) -> None:
    """Refuse a folder in which something is a link to outside of it: writing there would change other files.

    Raises:
        UserError: names the link and where it leads. `folder` itself may be a link.
    """
    root = folder.resolve()
    for path in folder.rglob("*"):
        if path.is_symlink() and root not in path.resolve().parents:
            raise UserError(
                f"{path}: is a link to {path.resolve()}, outside of {folder}, where files are to be written. Put the "
                "files themselves in its place, or choose another folder."
            )


def write_json(path: Path, value: Any) -> None:
    """Write `value` as indented JSON, atomically. NaN and infinity are refused (they are not JSON)."""
    text = json.dumps(value, indent=1, allow_nan=False) + "\n"
    with atomic_path(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def read_with(path: Path, reader: Callable[[Path], Value], advice: str) -> Value:
    """`reader(path)`; whatever it raises becomes a UserError, since broken files fail in many ways in the libraries.

    Args:
        path: a regular file; what is none, as a pipe, is not opened: reading it might never end.
        reader: what to do with it.
        advice: what the user can do, the message's last sentence.

    Raises:
        UserError: no such file, no regular file, an empty one, or one that `reader` cannot read.
    """
    try:
        if not path.is_file():
            found = "something else" if path.exists() else "no such file"
            raise UserError(f"{path}: expected a file, found {found}. {advice}")
        if path.stat().st_size == 0:
            raise UserError(f"{path}: cannot be read (it is empty). {advice}")
        return reader(path)
    except UserError:
        raise
    except Exception as error:
        reason = " ".join(str(error).split())[:300]
        raise UserError(f"{path}: cannot be read ({type(error).__name__}: {reason}). {advice}") from error


def read_text(path: Path) -> str:
    """A text file in UTF-8. Raises ValueError where it is larger than any settings file, or not text."""
    size = path.stat().st_size
    if size > MAX_TEXT:
        raise ValueError(f"{size} bytes, expected a text file of at most {MAX_TEXT}")
    return path.read_text(encoding="utf-8")


def sha256_text(text: str) -> str:
    """Hexadecimal SHA-256 of a text in UTF-8."""
    return hashlib.sha256(text.encode()).hexdigest()


def sha256_files(paths: Iterable[Path]) -> str:
    """Hexadecimal SHA-256 of the hashes of several files, in their order."""
    return sha256_text(" ".join(map(sha256_file, paths)))


def sha256_file(path: Path) -> str:
    """Hexadecimal SHA-256 of a file's bytes."""
    digest = hashlib.sha256()
    with Path(path).open("rb") as stream:
        while block := stream.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()
