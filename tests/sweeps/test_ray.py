"""The Ray engine on a real cluster of two nodes on this machine: a killed worker and a lost node cost nothing."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import sweep
from sweeps.locks import LOCK
from tests.sweeps.stubs import counts, trace, write_grid

ray = pytest.importorskip("ray", reason="not installed: requirements-ray.txt")
ROOT = Path(__file__).resolve().parents[2]
OPTIONS = {"value": list(range(50, 58)), "seed": [0, 1], "class_name": "gear"}

# Slow: a cluster has to start.
pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def cluster() -> Iterator[Any]:
    from ray.cluster_utils import Cluster

    found = Cluster(initialize_head=True, head_node_args={"num_cpus": 2, "include_dashboard": False})
    yield found
    ray.shutdown()
    found.shutdown()


def wait_for(what: Any, seconds: float = 60) -> Any:
    """The first value of `what()` that is true."""
    end = time.monotonic() + seconds
    while not (found := what()):
        assert time.monotonic() < end
        time.sleep(0.02)
    return found


def test_a_killed_worker_and_a_lost_node_cost_their_jobs_only(cluster: Any, tmp_path: Path) -> None:
    grid = write_grid(tmp_path / "grid", OPTIONS, extra='{"seconds": 0.4}')
    words = [str(grid), "--jobs", "4"]
    assert sweep.main([*words, "--output", str(tmp_path / "local")]) == 0
    reference = (tmp_path / "local/stubs/table.csv").read_bytes()
    (grid.parent / "trace").unlink()

    output = tmp_path / "ray"
    node = cluster.add_node(num_cpus=2)
    cluster.wait_for_nodes()
    engine = ["--engine", "ray", "--address", cluster.address]
    command = [sys.executable, str(ROOT / "sweep.py"), *words, "--output", str(output), *engine]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
    jobs = output / "jobs"
    lock = wait_for(lambda: next(jobs.glob(f"*/{LOCK}"), None) if trace(grid.parent) else None)
    os.kill(json.loads(lock.read_text())["pid"], signal.SIGKILL)
    wait_for(lambda: len(trace(grid.parent)) > 7)
    cluster.remove_node(node)
    said = process.communicate(timeout=60)[1].decode(errors="replace")
    assert process.returncode == 0, said[-2000:]
    assert counts(grid, output) == {"finished": 16}
    assert (output / "stubs/table.csv").read_bytes() == reference
    assert len(trace(grid.parent)) > 16  # those that were lost were begun again
    records = [json.loads(path.read_text()) for path in jobs.glob("*/*/record.json")]
    assert len(records) == 16


def test_a_failing_command_is_a_failed_job_not_a_lost_one(cluster: Any, tmp_path: Path) -> None:
    grid = write_grid(tmp_path / "grid", OPTIONS, extra='{"broken": "52"}')
    engine = ["--engine", "ray", "--address", cluster.address]
    command = [sys.executable, str(ROOT / "sweep.py"), str(grid), "--output", str(tmp_path / "out"), *engine]
    assert subprocess.run(command, capture_output=True, timeout=60).returncode == 1
    assert counts(grid, tmp_path / "out") == {"finished": 14, "failed": 2}
    assert sweep.main([str(grid), "--output", str(tmp_path / "out")]) == 1  # another engine reads the same
    assert len(trace(grid.parent)) == 16
