"""The run that asks a GPU everything: its steps' answers, how they end, and planted faults. The CPU takes its place."""

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from benchmarks import gpu_checks, gpu_points, gpu_steps, on_gpu, wheels
from benchmarks.gpu_task import Skipped, Task, answers, rate
from models import point_ops
from models.lifting import LiftingOperator


@pytest.fixture
def make_task(tmp_path: Path) -> Callable[[str], Task]:
    """(name of a step) -> a task in small sizes on the CPU."""
    return lambda name: Task("cpu", True, tmp_path, name)


def test_table_names_functions_that_exist() -> None:
    for name in gpu_steps.STEPS.values():
        module, function = name.split(".")
        assert callable(getattr(__import__(f"benchmarks.{module}", fromlist=[function]), function))


def test_figures_are_held_against_their_targets(
    make_task: Callable[[str], Task], capsys: pytest.CaptureFixture[str]
) -> None:
    task = make_task("machine")
    task.tell("fast", 120.0, "images/s", least=100, floor=900.0)
    task.tell("slow", 61.0, "s", most=60)
    task.tell("matrix products, bf16", 0.5, "10¹² operations/s")
    told = answers(task.folder, "machine")
    assert [(line["figure"], line["target"], line["reached"], line["floor"]) for line in told] == [
        ("fast", 100, True, 900.0),
        ("slow", 60, False, None),
        ("matrix products, bf16", None, None, None),
    ]
    assert (rate(task, "bf16"), rate(task, "fp32")) == (0.5e12, None)
    assert capsys.readouterr().out.splitlines()[:2] == [
        "  fast: 120 images/s (target ≥ 100: reached, arithmetic alone: 900)",
        "  slow: 61 s (target ≤ 60: missed)",
    ]


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (None, {"status": "passed", "reason": ""}),
        (Skipped("no such package"), {"status": "skipped", "reason": "no such package"}),
        (RuntimeError("CUDA error"), {"status": "failed", "reason": "RuntimeError: CUDA error"}),
    ],
)
def test_step_says_how_it_ended(
    error: Exception | None,
    expected: dict[str, str],
    make_task: Callable[[str], Task],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def step(task: Task) -> None:
        task.note("seen", 1)
        if error is not None:
            raise error

    monkeypatch.setattr(gpu_points, "products", step)
    task = make_task("products")
    assert gpu_steps.run_here(task) == gpu_steps.ENDED
    assert json.loads((task.folder / "products_outcome.json").read_text()) == expected
    assert answers(task.folder, "products") == [{"note": "seen", "value": 1}]


CHILD = """
import os, sys, time
from pathlib import Path
folder = Path(sys.argv[sys.argv.index("--out") + 1])
print("a line", sys.argv[sys.argv.index("--step") + 1], flush=True)
(folder / "products.jsonl").write_text('{{"note": "n", "value": 2}}\\n')
{end}
"""
FINISHED = """(folder / "products_outcome.json").write_text('{"status": "passed", "reason": ""}'); sys.exit(9)"""


@pytest.mark.parametrize(
    ("end", "seconds", "status", "reason"),
    [
        (FINISHED, 60, "passed", ""),
        ("sys.exit(9)", 60, "failed", "its process ended with status 9, see the log"),
        ("os.abort()", 60, "failed", "its process ended with status -6, see the log"),
        ("os.fork(); time.sleep(60)", 2, "failed", "ended after 2 s, when its time was over"),
    ],
)
def test_step_in_a_process_of_its_own(
    end: str,
    seconds: float,
    status: str,
    reason: str,
    tmp_path: Path,
    make_task: Callable[[str], Task],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    script = tmp_path / "child.py"
    script.write_text(CHILD.format(end=end))
    monkeypatch.setattr(gpu_steps, "SCRIPT", script)
    said: list[str] = []
    outcome = gpu_steps.run_apart(make_task("products"), seconds, said.append)
    assert (outcome["status"], outcome["reason"]) == (status, reason)
    assert outcome["answers"] == [{"note": "n", "value": 2}]
    assert said[0] == "a line products"


def test_run_writes_a_report_and_a_log(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    figure = {"figure": "f", "value": 3.0, "unit": "s", "target": 2, "floor": 1.0, "reached": False}

    def run_apart(task: Task, seconds: float, say: Callable[[str], None]) -> dict[str, Any]:
        assert 0 < seconds <= on_gpu.STEP_SECONDS
        say(f"  of {task.name}")
        failed = task.name == "products"
        outcome = {"status": "failed" if failed else "passed", "reason": "it broke" if failed else ""}
        return {**outcome, "seconds": 1.0, "answers": [figure]}

    monkeypatch.setattr(gpu_steps, "run_apart", run_apart)
    words = ["--device", "cpu", "--out", str(tmp_path), "--only", "machine", "products"]
    assert on_gpu.main(words) == 1
    report = json.loads((tmp_path / "on_gpu.json").read_text())
    assert {name: step["status"] for name, step in report["steps"].items()} == {
        "machine": "passed",
        "products": "failed",
    }
    assert report["steps"]["products"]["answers"] == [figure]
    log = (tmp_path / "on_gpu.log").read_text()
    assert log == capsys.readouterr().out
    for line in ("  of machine", "== products: failed: it broke", "failed   products, 1 s  it broke"):
        assert line in log.splitlines()
    assert "missed   f: 3 s, target 2, arithmetic alone 1" in log.splitlines()
    assert on_gpu.main([*words[:-1]]) == 0
    assert on_gpu.main([*words, "--minutes", "1e-9"]) == 0
    late = json.loads((tmp_path / "on_gpu.json").read_text())["steps"]["machine"]
    assert (late["status"], late["reason"]) == ("skipped", "the 1e-09 minutes are over")


@pytest.mark.parametrize("name", ["sampling", "neighbours", "products"])
def test_routines_pass(name: str, make_task: Callable[[str], Task]) -> None:
    getattr(gpu_points, name)(make_task(name))
    assert any("figure" in line for line in answers(make_task(name).folder, name))


@pytest.mark.parametrize("name", ["sampling", "neighbours", "products"])
def test_planted_faults_are_told(name: str, make_task: Callable[[str], Task], monkeypatch: pytest.MonkeyPatch) -> None:
    multiply = LiftingOperator.multiply
    samplers = point_ops.sample_by_torch, point_ops.nearest_by_blocks
    monkeypatch.setattr(LiftingOperator, "multiply", lambda self, tokens: multiply(self, tokens) * 1.1)
    monkeypatch.setattr(point_ops, "sample_by_torch", lambda *args: samplers[0](*args).flip(1))
    monkeypatch.setattr(point_ops, "nearest_by_blocks", lambda *args: tuple(t.flip(1) for t in samplers[1](*args)))
    with pytest.raises(AssertionError):
        getattr(gpu_points, name)(make_task(name))


def test_weights_that_differ_are_told(make_task: Callable[[str], Task]) -> None:
    state = {"a": torch.ones(3), "steps": torch.tensor(4)}
    gpu_checks.compare(make_task("runs"), "same", state, {"a": torch.ones(3) + 1e-4, "steps": torch.tensor(4)})
    with pytest.raises(AssertionError, match="other: relative difference"):
        gpu_checks.compare(make_task("runs"), "other", state, {"a": torch.ones(3) + 1, "steps": torch.tensor(4)})
    with pytest.raises(AssertionError, match="nothing"):
        gpu_checks.compare(make_task("runs"), "nothing", {"a": torch.full((3,), torch.nan)}, {"a": torch.ones(3)})


def test_wheel_that_is_missing_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(wheels, "PACKAGES", {"pytest": "pytest", "no-such-package": "no_such_package"})
    assert wheels.install(tmp_path, tmp_path / "target") == 0
    assert capsys.readouterr().out.startswith("no-such-package: left out: ")


def test_tests_of_a_gpu_import_only_what_they_need() -> None:
    """They are collected without what other tests and other programs need."""
    program = """
import sys
for name in "fpsample plotly imagecodecs open3d wandb playwright timm pandas matplotlib sklearn jinja2".split():
    sys.modules[name] = None  # importing it fails
import pytest
raise SystemExit(pytest.main(["--collect-only", "-q", "-p", "no:cacheprovider", *sys.argv[1:]]))
"""
    files = ("test_cuda.py", "test_golden_on_cuda.py", "dbmrnet/test_on_cuda.py", "memory/test_memory_on_cuda.py")
    command = [sys.executable, "-c", program, *(f"tests/models/{file}" for file in files)]
    ran = subprocess.run(command, cwd=gpu_checks.ROOT, capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stdout
    assert {line.split(":")[0] for line in ran.stdout.splitlines() if line} == set(command[-len(files) :])
