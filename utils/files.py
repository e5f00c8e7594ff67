"""Files that are written whole or not at all, and read without trust in what they hold."""

import hashlib
import json
import os
import re
import secrets
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, TypeVar

from utils.errors import UserError

MAX_TEXT = 16 << 20  # bytes of a settings file; the largest that are written here, manifests, take under 1 MiB
LOCK = ".lock"  # end of the name of the file by which a folder is locked
MAX_NAME = 255  # bytes of a file's name that file systems take

Value = TypeVar("Value")


@contextmanager
def atomic_path(path: Path) -> Iterator[Path]:
    """Yield a temporary path beside `path`; on success it replaces `path`, on any exception it is removed.

    The temporary name starts with a dot and keeps the suffix, so writers that look at the suffix work unchanged. It is
    cut, so that it fits wherever the name itself does. Parent folders are created.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.stem[:50]}.{secrets.token_hex(4)}.tmp{path.suffix}")
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


def check_names(paths: Iterable[Path]) -> None:
    """Refuse files that are to be written under names that are too long, before work begins.

    Raises:
        UserError: names the first of them.
    """
    for path in paths:
        if (size := len(os.fsencode(path.name))) > MAX_NAME:
            raise UserError(
                f"{path}: cannot be written, its name takes {size} bytes and file systems take {MAX_NAME}. Shorten the "
                "name that it is made of."
            )


@contextmanager
def locked(folder: Path, name: str = "", wait: bool = False) -> Iterator[None]:
    """Hold the right to write to a folder, which is made; the system frees it, even of a killed process.

    While it is held, a hidden file lies in the folder. On file systems that know no locks, nothing is held.

    Args:
        name: of the files in it that are meant; commands with different names may write side by side.
        wait: until another process that holds it is done.

    Raises:
        UserError: another process holds it and `wait` is not set, the name is too long, or the system has no locks of
            this kind.
    """
    path = folder / (f".{name}{LOCK}" if name else LOCK)
    check_names([path])
    made = [parent for parent in path.parents if not parent.exists()]
    descriptor = _hold(path, folder / name, wait)
    try:
        yield
    finally:
        path.unlink(missing_ok=True)  # while it is held: nobody else's is removed
        os.close(descriptor)
        with suppress(OSError):  # of the first that holds files
            for empty in made:
                empty.rmdir()


def _hold(path: Path, what: Path, wait: bool) -> int:
    """Descriptor of a lock's file, locked. what: to be named if another process holds it. wait: see `locked`."""
    try:
        import fcntl
    except ImportError as error:
        raise UserError(
            "this system has no fcntl, by which files are locked. The commands run on Linux and macOS; on Windows, run "
            "them in WSL."
        ) from error
    while True:
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o666)
        except FileNotFoundError:
            continue  # another command ended meanwhile and removed the folder
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
        except BlockingIOError as error:
            os.close(descriptor)
            raise UserError(
                f"{what}: another command is writing to it. Wait until it has finished, then run this one again."
            ) from error
        except OSError:
            pass  # a file system without locks
        with suppress(FileNotFoundError):
            if os.path.samestat(os.fstat(descriptor), path.stat()):
                return descriptor
        os.close(descriptor)  # the same: this file is not the one that others lock


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


def sha256_files(paths: Iterable[Path], sha256_one: Callable[[Path], str] | None = None) -> str:
    """Hexadecimal SHA-256 of the hashes of several files, in their order. sha256_one: `sha256_file`, with checks."""
    return sha256_text(" ".join(map(sha256_one or sha256_file, paths)))


def sha256_file(path: Path) -> str:
    """Hexadecimal SHA-256 of a file's bytes."""
    digest = hashlib.sha256()
    with Path(path).open("rb") as stream:
        while block := stream.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()
