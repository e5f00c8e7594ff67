"""A command in a child process that has the imports behind it, ended by SIGKILL where it changes something outside.

The moment is an event and no time, so that it does not hang on the machine's speed: one of the changes that a whole run
makes (it opens a file to write, renames, removes, starts a process), and some calls more. A file that was just opened
is then empty, half written, whole, or renamed.
"""

import os
import random
import signal
import sys
import tempfile
import threading
from collections.abc import Callable
from types import FrameType
from typing import Any

from tqdm import tqdm

CHANGES = {"os.rename", "os.remove", "os.mkdir", "os.rmdir", "os.truncate", "subprocess.Popen"}
CALLS = 6  # at most 2 to this power between the change that was drawn and the kill
Command = Callable[[], int]
"""What a child process runs; it ends with what this returns."""


def count_changes(command: Command) -> tuple[int, int]:
    """Run the command in a child process, silently. Returns its exit status, and how many changes it makes."""
    with tempfile.TemporaryFile() as told:

        def counted() -> int:
            changes = [0]

            def count(event: str, arguments: tuple[Any, ...]) -> None:
                changes[0] += _is_change(event, arguments)

            sys.addaudithook(count)
            status = command()
            os.write(told.fileno(), str(changes[0]).encode())
            return status

        status = os.waitpid(_fork(counted), 0)[1]
        told.seek(0)
        return os.waitstatus_to_exitcode(status), int(told.read())


def run_or_kill(command: Command, changes: int, rng: random.Random) -> int | None:
    """Run the command in a child process, silently, that kills itself soon after one of its first `changes` changes.

    Returns:
        Its exit status, or None if it was killed, which it is not where it makes fewer changes.
    """
    change, calls = rng.randrange(changes), int(2 ** rng.uniform(0, CALLS)) - 1  # most files are written in few calls

    def doomed() -> int:
        left, process = [change, calls], os.getpid()

        def at_change(event: str, arguments: tuple[Any, ...]) -> None:
            if _is_change(event, arguments):
                left[0] -= 1
                if left[0] == -1:
                    if not calls:
                        os.kill(process, signal.SIGKILL)  # before it
                    sys.setprofile(at_call)  # of this thread; the first call is the change itself

        def at_call(frame: FrameType, event: str, argument: Any) -> None:
            left[1] -= 1
            if left[1] < 0 and os.getpid() == process:  # not one that it has just forked
                os.kill(process, signal.SIGKILL)

        sys.addaudithook(at_change)
        return command()

    status = os.waitstatus_to_exitcode(os.waitpid(_fork(doomed), 0)[1])
    assert status in (0, 1, -signal.SIGKILL), status
    return None if status == -signal.SIGKILL else status


def _is_change(event: str, arguments: tuple[Any, ...]) -> bool:
    """Whether an audit event is a change: of files, or a process that starts."""
    if event == "open":
        return isinstance(arguments[2], int) and bool(arguments[2] & (os.O_WRONLY | os.O_RDWR))
    return event in CHANGES


def _fork(command: Command) -> int:
    """The process id of a child that runs the command."""
    child = os.fork()
    if child == 0:
        status = 1
        try:
            tqdm.set_lock(threading.RLock())  # its own, shared, would stay taken when its owner is killed
            silent = os.open(os.devnull, os.O_WRONLY)
            os.dup2(silent, 1)
            os.dup2(silent, 2)
            status = command()
        finally:
            os._exit(status)
    return child
