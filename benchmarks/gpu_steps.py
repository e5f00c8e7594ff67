"""The steps of on_gpu.py: their order, and how one is run: in a process of its own, for a limited time."""

import json
import os
import signal
import subprocess
import sys
import threading
import time
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

from benchmarks.gpu_task import Skipped, Task, answers
from benchmarks.measure import call

STEPS = {
    "machine": "gpu_points.machine",
    "sampling": "gpu_points.sampling",
    "neighbours": "gpu_points.neighbours",
    "products": "gpu_points.products",
    "golden": "gpu_checks.golden",
    "inference": "gpu_speed.inference",
    "training": "gpu_speed.training",
    "dbmrnet": "gpu_speed.dbmrnet",
    "tests": "gpu_checks.tests",
    "runs": "gpu_checks.runs",
    "load": "gpu_checks.load",
    "reading": "gpu_speed.reading",
}
"""Name → `module.function` below `benchmarks`, what matters most first; each takes a Task."""

SCRIPT = Path(__file__).with_name("on_gpu.py")
ENDED = 9  # exit status of a step that says itself how it ended


def run_here(task: Task) -> int:
    """Do a step in this process and write how it ended."""
    try:
        call(STEPS[task.name], task)
        outcome = {"status": "passed", "reason": ""}
    except Skipped as error:
        outcome = {"status": "skipped", "reason": str(error)}
    except Exception as error:  # whatever goes wrong in a step must not end the run
        traceback.print_exc()
        outcome = {"status": "failed", "reason": f"{type(error).__name__}: {error}"}
    _outcome_path(task).write_text(json.dumps(outcome), encoding="utf-8")
    return ENDED


def run_apart(task: Task, seconds: float, say: Callable[[str], None]) -> dict[str, Any]:
    """Do a step in a process of its own.

    Args:
        task: the step.
        seconds: after which it is ended.
        say: called with each line that it prints, at once.

    Returns:
        `status` (passed, failed or skipped), `reason`, `seconds`, and all that it told, `answers`.
    """
    start = time.monotonic()
    command = [sys.executable, str(SCRIPT), "--step", task.name, "--device", task.device, "--out", str(task.folder)]
    process = subprocess.Popen(
        [*command, *["--small"] * task.small],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
        start_new_session=True,  # so that what it starts can be ended with it
        env=os.environ | {"PYTHONUNBUFFERED": "1", "TQDM_DISABLE": "1"},
    )
    late = threading.Event()

    def end() -> None:
        late.set()
        os.killpg(process.pid, signal.SIGKILL)

    timer = threading.Timer(seconds, end)
    timer.start()
    assert process.stdout is not None
    for line in process.stdout:
        say(line.rstrip("\n"))
    status = process.wait()
    timer.cancel()
    path = _outcome_path(task)
    if late.is_set():
        outcome = {"status": "failed", "reason": f"ended after {seconds:.0f} s, when its time was over"}
    elif status == ENDED and path.exists():
        outcome = json.loads(path.read_text(encoding="utf-8"))
    else:
        outcome = {"status": "failed", "reason": f"its process ended with status {status}, see the log"}
    return {**outcome, "seconds": round(time.monotonic() - start, 1), "answers": answers(task.folder, task.name)}


def _outcome_path(task: Task) -> Path:
    return task.folder / f"{task.name}_outcome.json"
