"""A sweep is killed at random changes of files, and started again: jobs are finished once, and the table is the same.

A process that has the imports behind it forks one child a run, so that tens of kills take seconds.
"""

import json
import os
import random
import signal
import subprocess
import sys
import time
from functools import partial
from pathlib import Path

import pytest

import sweep
from sweeps.locks import LOCK, birth
from tests.forks import count_changes, run_or_kill
from tests.sweeps.stubs import counts, trace, write_grid

ROOT = Path(__file__).resolve().parents[2]
KILLS = 24
OPTIONS = {"value": list(range(50, 56)), "seed": [0, 1], "class_name": "gear"}
POINTS = [f"{value} {seed}" for value in range(50, 56) for seed in (0, 1)]

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="only there a killed sweep takes its commands along")


def run(grid: Path, output: Path) -> int:
    """The command line."""
    return sweep.main([str(grid), "--output", str(output), "--jobs", "3"])


def commands_of(grid: Path) -> list[int]:
    """Processes of this machine that run the grid's stub."""
    stub = str(grid.parent / "stub.py").encode()
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            if stub in (folder / "cmdline").read_bytes().split(b"\0") and birth(int(folder.name)):
                found.append(int(folder.name))
        except OSError:
            continue
    return found


def wait_for_none(grid: Path) -> None:
    """Until no process runs the grid's stub; the system takes a moment to end those of a killed sweep."""
    deadline = time.monotonic() + 30
    while commands_of(grid):
        assert time.monotonic() < deadline
        time.sleep(0.01)


def kill_again_and_again(folder: Path) -> dict[str, int]:
    """Kill sweeps at some change and start them again, until they are through; anew until KILLS are reached.

    Returns:
        The number of `kills`, how many of them left jobs that were under way, and of `sweeps` that got through.
    """
    grid = write_grid(folder / "grid", OPTIONS)
    status, changes = count_changes(lambda: run(grid, folder / "whole"))
    assert status == 0
    reference = (folder / "whole/stubs/table.csv").read_bytes()
    rng = random.Random(0)
    kills = midway = sweeps = 0
    while kills < KILLS:
        (grid.parent / "trace").unlink()
        output, own = folder / f"out{sweeps}", 0
        while (ended := run_or_kill(partial(run, grid, output), changes, rng)) is None:
            own += 1
            midway += any((output / "jobs").glob(f"*/{LOCK}"))
            assert "failed" not in counts(grid, output)
            wait_for_none(grid)  # none outlives the sweep
        assert ended == 0
        assert counts(grid, output) == {"finished": len(POINTS)}
        assert (output / "stubs/table.csv").read_bytes() == reference
        assert {*trace(grid.parent)} == {*POINTS}
        assert len(trace(grid.parent)) <= len(POINTS) + 3 * own  # only what was under way is done again
        kills, sweeps = kills + own, sweeps + 1
    return {"kills": kills, "midway": midway, "sweeps": sweeps}


# Slow: fewer kills miss the short moments between two files.
@pytest.mark.slow
def test_sweeps_that_are_killed_again_and_again_end_in_the_same_table(tmp_path: Path) -> None:
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, __file__, str(tmp_path)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-3000:]
    report = json.loads(done.stdout.splitlines()[-1])
    assert report["kills"] >= KILLS
    assert report["midway"] >= KILLS // 3


@pytest.mark.parametrize(("number", "status"), [(signal.SIGINT, 130), (signal.SIGKILL, -signal.SIGKILL)])
def test_stopping_a_sweep_ends_its_commands_and_gives_its_jobs_back(
    number: signal.Signals, status: int, tmp_path: Path
) -> None:
    grid = write_grid(tmp_path / "grid", OPTIONS, extra='{"seconds": 60}')
    command = [sys.executable, str(ROOT / "sweep.py"), str(grid), "--output", str(tmp_path / "out"), "--jobs", "3"]
    process = subprocess.Popen(
        command,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),  # which a shell's `&` ignores
    )
    while len(trace(grid.parent)) < 3:
        time.sleep(0.02)
    process.send_signal(number)
    assert process.wait(timeout=30) == status
    wait_for_none(grid)
    assert counts(grid, tmp_path / "out") == {"waiting": 12}


if __name__ == "__main__":
    print(json.dumps(kill_again_and_again(Path(sys.argv[1]))))
