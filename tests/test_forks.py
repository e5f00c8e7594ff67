"""Killed commands: at every moment that tells half a file from a whole one, and without a trace in the next ones."""

import json
import os
import random
import signal
import subprocess
import sys
from pathlib import Path

from tqdm import tqdm

from tests.forks import count_changes, run_or_kill

ROOT = Path(__file__).resolve().parents[1]


def write_carelessly(path: Path) -> int:
    """In two pieces, under the final name."""
    with path.open("w") as stream:
        stream.write("a")
        stream.flush()
        stream.write("b")
    path.with_name("next").touch()
    return 0


def die_with_the_lock(path: Path) -> int:
    with tqdm.get_lock():
        path.write_text("")
        return min(abs(number) for number in range(10**4))  # the kill comes within these calls


def take_the_lock() -> int:
    signal.alarm(60)  # ends this process, should the lock never be free
    with tqdm.get_lock():
        return 0


def main(folder: Path) -> None:
    tqdm.get_lock()  # as of a command that has shown a bar before
    status, changes = count_changes(lambda: write_carelessly(folder / "whole"))
    rng, path, found = random.Random(0), folder / "file", set()
    for _ in range(60):
        path.unlink(missing_ok=True)
        ended = run_or_kill(lambda: write_carelessly(path), changes, rng)
        found.add((ended, path.read_text() if path.exists() else "absent"))
    killed = run_or_kill(lambda: die_with_the_lock(path), 1, rng)
    print(json.dumps([status, changes, sorted(map(str, found)), killed, count_changes(take_the_lock)]))


def test_files_are_seen_absent_empty_half_and_whole_and_locks_are_free(tmp_path: Path) -> None:
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run([sys.executable, __file__, str(tmp_path)], env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]
    status, changes, found, killed, after = json.loads(done.stdout)
    assert (status, changes, killed, after) == (0, 2, None, [0, 0])
    states = {str((None, content)) for content in ("absent", "", "a", "ab")}
    assert states <= {*found} <= states | {str((0, "ab"))}


if __name__ == "__main__":
    main(Path(sys.argv[1]))
