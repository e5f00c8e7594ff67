"""Who works on a job: a file in its folder, with host, process and time, that only one process can make."""

import json
import os
import secrets
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from functools import cache
from pathlib import Path

from utils.errors import UserError
from utils.files import locked, read_text, read_with

LOCK = "lock.json"


@dataclass(frozen=True)
class Owner:
    """A process that works on a job.

    Attributes:
        host: name of its machine.
        pid: of the process.
        born: when it was started, as the system says it: another process may have the number later.
        since: UTC time at which it took the job.
        sweep: the sweep that it works for, see `sweeps.engines`.
    """

    host: str
    pid: int
    born: str
    since: str
    sweep: str

    @property
    def lives(self) -> bool | None:
        """Whether the process is still there; None where another machine would have to be asked."""
        if self.host != socket.gethostname():
            return None
        return birth(self.pid) == self.born

    def __str__(self) -> str:
        return f"process {self.pid} on {self.host}, since {self.since}"


def birth(pid: int) -> str:
    """When a process was started, in words that only it has on this machine; empty where there is none."""
    stat = Path(f"/proc/{pid}/stat")
    try:
        if Path("/proc/self/stat").exists():
            after_name = stat.read_text(encoding="utf-8", errors="replace").rpartition(")")[2].split()
            return "" if after_name[0] in "ZX" else after_name[19]  # the 22nd field of proc(5): ticks since boot
        command = ["ps", "-o", "lstart=", "-p", str(pid)]
        return subprocess.run(command, capture_output=True, text=True, check=False).stdout.strip()
    except OSError:
        return ""


@cache
def _own_birth(pid: int) -> str:
    return birth(pid)


def owner_of(folder: Path) -> Owner | None:
    """Who works on the job of a folder, or worked on it when it was killed; None without anyone.

    Raises:
        UserError: the file says something else.
    """
    path = folder / LOCK
    try:
        return read_with(path, _parse, "If no process works on this job any more, remove the file.")
    except UserError:
        if not path.exists():
            return None
        raise


def _parse(path: Path) -> Owner:
    content = json.loads(read_text(path))
    owner = Owner(*(content[name] for name in ("host", "pid", "born", "since", "sweep")))
    if type(owner.pid) is not int or not all(isinstance(of, str) for of in (owner.host, owner.born, owner.sweep)):
        raise ValueError("expected a number as pid, and texts")
    return owner


@contextmanager
def taken(folder: Path, sweep: str) -> Iterator[Owner | None]:
    """Take the job of a folder for this process.

    The lock of a process of this machine that is no more, as of a killed sweep, is taken over; so is one that the same
    sweep made elsewhere, since a sweep gives a job to one process at a time and again only when that one was lost.

    Yields:
        None if this process has it now; else who has it, and it must be left alone.
    """
    folder.mkdir(parents=True, exist_ok=True)
    now = time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime())
    me = Owner(socket.gethostname(), os.getpid(), _own_birth(os.getpid()), now, sweep)
    other = _take(folder, me)
    try:
        yield other
    finally:
        if other is None:
            (folder / LOCK).unlink(missing_ok=True)


def _make(folder: Path, me: Owner) -> bool:
    """Make the lock, whole from the first moment on; False where there is one.

    A file that is made empty and then written (O_EXCL) would stay empty if the process was killed between the two.
    """
    complete = folder / f".{LOCK}.{secrets.token_hex(4)}"
    complete.write_text(json.dumps(asdict(me)), encoding="utf-8")
    try:
        os.link(complete, folder / LOCK)
    except FileExistsError:
        return False
    finally:
        complete.unlink()
    return True


def _take(folder: Path, me: Owner) -> Owner | None:
    """Make the lock, in the place of one whose process is no more; else who has it."""
    if _make(folder, me):
        return None
    with locked(folder, LOCK, wait=True):  # nobody else looks and removes meanwhile
        while not _make(folder, me):
            other = owner_of(folder)
            if other is None:
                continue  # it has just been given back
            if other.lives or (other.lives is None and other.sweep != me.sweep):
                return other
            (folder / LOCK).unlink(missing_ok=True)
    return None
