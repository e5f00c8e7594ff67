"""Jobs over processes: results, errors, dead workers and killed parents."""

import json
import math
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from utils.errors import UserError
from utils.parallel import run_parallel


@pytest.mark.parametrize("workers", [1, 2])
def test_every_job_gives_its_result(workers: int) -> None:
    assert sorted(run_parallel(math.factorial, range(8), workers)) == [1, 1, 2, 6, 24, 120, 720, 5040]
    assert list(run_parallel(math.factorial, [], workers)) == []


def test_an_exception_reaches_the_caller() -> None:
    with pytest.raises(ValueError, match="Expecting property name"):
        list(run_parallel(json.loads, ["{", "{"], 2))


def test_a_dead_worker_is_an_error() -> None:
    with pytest.raises(UserError, match=r"a worker process died.*fewer workers than 2"):
        list(run_parallel(os._exit, [3, 3], 2))


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_workers_end_with_a_killed_parent() -> None:
    code = "import time; from utils.parallel import run_parallel; list(run_parallel(time.sleep, [60, 60], 2))"
    root = Path(__file__).parents[2]
    with subprocess.Popen([sys.executable, "-c", code], cwd=root) as parent:
        children = Path(f"/proc/{parent.pid}/task/{parent.pid}/children")
        deadline = time.monotonic() + 30
        while len(workers := children.read_text().split()) < 3 and time.monotonic() < deadline:  # two and the tracker
            time.sleep(0.05)
        time.sleep(1)  # the workers have imported and sleep
        parent.kill()
    while any(alive(int(worker)) for worker in workers) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert len(workers) == 3
    assert not any(alive(int(worker)) for worker in workers)


def alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except OSError:
        return False
