"""Working on a job: its commands one after the other, each in a process of its own, and what they leave behind."""

import ctypes
import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Generator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sweeps.jobs import Job, Step
from sweeps.locks import Owner, owner_of, taken
from utils.files import read_text, read_with, write_json
from utils.run_record import PROJECT_ROOT

RECORD, LOG = "record.json", "log.txt"
TAIL = 20  # lines of a failed command's output that are kept with its record
STATES = ("finished", "failed", "locked", "waiting")
"""Of jobs: all commands ended well; one did not; a process works on it; nothing of that."""


@dataclass(frozen=True)
class Place:
    """Where a sweep works.

    Attributes:
        root: folder of all jobs and tokens, of any number of sweeps; absolute.
        cwd: folder that relative paths in a grid's options start from; absolute.
        sweep: name of this run of a sweep, for `sweeps.locks`.
        again: whether jobs that failed before are tried again.
    """

    root: Path
    cwd: Path
    sweep: str
    again: bool = False

    def job(self, job: Job) -> Path:
        """The folder of a job."""
        return self.root / "jobs" / job.id

    def step(self, job: Job, step: Step) -> Path:
        """The folder of one of its commands."""
        return self.job(job) / step.name

    def words(self, job: Job, step: Step) -> list[str]:
        """A command line, with the folders in it; scripts are the project's, unless their path is absolute."""
        folders = {"{job}": self.job(job), "{step}": self.step(job, step), "{tokens}": self.root / "tokens"}
        found = []
        for word in (str(PROJECT_ROOT / step.words[0]), *step.words[1:]):
            for name, folder in folders.items():
                word = word.replace(name, str(folder))
            found.append(word)
        return found


def record_of(place: Place, job: Job, step: Step) -> dict[str, Any] | None:
    """What is known of a command that ended: `status` of its process, 0 if it did its work, and see `_record`.

    Raises:
        UserError: the file is damaged.
    """
    return record_of_folder(place.step(job, step))


def record_of_folder(folder: Path) -> dict[str, Any] | None:
    """The same of the command whose folder this is."""
    path = folder / RECORD
    if not path.exists():
        return None
    return read_with(path, _parse, "Remove it; the command is run again then.")


def _parse(path: Path) -> dict[str, Any]:
    content = dict(json.loads(read_text(path)))
    return {**content, "status": int(content["status"]), "message": str(content["message"])}


def state_of(place: Place, job: Job) -> tuple[str, Owner | None]:
    """One of STATES; and who has the job, where it is locked by a process that lives or may live."""
    records = [record_of(place, job, step) for step in job.steps]
    if all(record is not None and record["status"] == 0 for record in records):
        return "finished", None
    owner = owner_of(place.job(job))
    if owner is not None and owner.lives is not False:
        return "locked", owner
    failed = any(record is not None and record["status"] != 0 for record in records)
    return ("failed" if failed else "waiting"), None


class Running:
    """A command that runs. It is killed when the process that started it dies; on Linux even if that was killed.

    Attributes:
        status: exit status of its process, negative for a signal; None while it runs.
        seconds, cpu_seconds: that it took, once it has ended.
    """

    def __init__(self, words: list[str], cwd: Path, log: Path, environment: Mapping[str, str]) -> None:
        self.started, self.since = time.monotonic(), time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime())
        self.status: int | None = None
        with log.open("wb") as output:
            self.process = subprocess.Popen(
                [sys.executable, *words],
                cwd=cwd,
                env={**os.environ, **environment},
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,  # Ctrl-C is for the sweep, which then ends it
                preexec_fn=_end_with(os.getpid()),
            )

    def ended(self, wait: bool) -> bool:
        """Whether it has ended. wait: until it has."""
        if self.status is None:
            pid, status, usage = os.wait4(self.process.pid, 0 if wait else os.WNOHANG)
            if pid == 0:
                return False
            self.seconds, self.cpu_seconds = time.monotonic() - self.started, usage.ru_utime + usage.ru_stime
            self.status = self.process.returncode = os.waitstatus_to_exitcode(status)
        return True

    def kill(self) -> None:
        """End it, at once."""
        if not self.ended(wait=False):
            self.process.kill()
            self.ended(wait=True)


def _end_with(parent: int) -> Any:
    """What a new process does first, so that the system kills it when its parent ends; None where that is unknown."""
    if sys.platform != "linux":
        return None
    prctl, set_death_signal = ctypes.CDLL(None, use_errno=True).prctl, 1  # PR_SET_PDEATHSIG, <linux/prctl.h>

    def begin() -> None:
        prctl(set_death_signal, signal.SIGKILL, 0, 0, 0)
        if os.getppid() != parent:  # it has ended before that
            os._exit(1)

    return begin


def work(place: Place, job: Job, environment: Mapping[str, str]) -> Generator[Running, None, None]:
    """Work on a job, unless another process does: run those of its commands that have not ended well.

    Args:
        environment: variables that its processes get besides this one's own.

    Yields:
        Each process that was started; to be gone on with when it has ended. Left before, it is killed.
    """
    with taken(place.job(job), place.sweep) as other:
        if other is not None:
            return
        for step in job.steps:
            record = record_of(place, job, step)
            if record is not None and record["status"] == 0:
                continue
            if record is not None and not place.again:
                return
            folder = place.step(job, step)
            folder.mkdir(parents=True, exist_ok=True)
            (folder / RECORD).unlink(missing_ok=True)
            words = place.words(job, step)
            running = Running(words, place.cwd, folder / LOG, environment)
            try:
                yield running
            finally:
                running.kill()
            record = _record(running, words, folder / LOG)
            write_json(folder / RECORD, record)
            if record["status"]:
                return


def _record(running: Running, words: list[str], log: Path) -> dict[str, Any]:
    """What is kept of a command that has ended: `message` and `tail` (the last lines) of one that failed, times."""
    status = running.status or 0
    tail = last_lines(log) if status else []
    errors = [line for line in tail if re.match(r"\S*error\b|\w*Error\b", line, re.IGNORECASE)]
    ended = f"ended by signal {-status}" if status < 0 else f"exit status {status}"
    message = (errors or tail or ["nothing was printed"])[-1]
    return {
        "status": status,
        "message": f"{ended}: {message}" if status else "",
        "tail": tail,
        "command": words,
        "since": running.since,
        "seconds": round(running.seconds, 3),
        "cpu_seconds": round(running.cpu_seconds, 3),
        "host": socket.gethostname(),
    }


def last_lines(log: Path, count: int = TAIL) -> list[str]:
    """The last lines of a file that hold something; of a progress bar, which overwrites its line, the last state."""
    with log.open("rb") as stream:
        stream.seek(max(0, log.stat().st_size - 32768))
        text = stream.read().decode(errors="replace")
    lines = [line.rstrip().rpartition("\r")[2] for line in text.replace("\r\n", "\n").split("\n")]
    return [line for line in lines if line][-count:]


def work_to_the_end(place: Place, job: Job, environment: Mapping[str, str]) -> None:
    """Work on a job and wait for it, see `work`."""
    for running in work(place, job, environment):
        running.ended(wait=True)
