"""sweeps/run.py with stub commands: what is done, what is not done again, what fails, and the tables of it."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

import sweep
from sweeps import engines
from sweeps.engines import Shares, find_gpus, local_slots
from sweeps.locks import LOCK, taken
from sweeps.work import last_lines
from tests.sweeps.stubs import counts, load, trace, write_grid
from utils.errors import UserError

OPTIONS = {"value": [70, 80, 90], "seed": [0, 1], "class_name": "gear"}


def run(grid: Path, output: Path, *words: str) -> int:
    return sweep.main([str(grid), "--output", str(output), "--jobs", "2", *words])


def test_a_sweep_does_each_job_once_and_writes_its_tables(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    grid = write_grid(tmp_path, OPTIONS)
    assert counts(grid, tmp_path / "out") == {"waiting": 6}
    assert run(grid, tmp_path / "out", "--dry_run") == 0
    assert "# 6 points, 6 jobs: 0 finished, 0 failed, 0 locked, 6 waiting" in capsys.readouterr().out
    assert trace(tmp_path) == []
    assert run(grid, tmp_path / "out") == 0
    assert sorted(trace(tmp_path)) == [f"{value} {seed}" for value in (70, 80, 90) for seed in (0, 1)]
    printed = capsys.readouterr().out
    first = next(line for line in printed.splitlines() if line.startswith("| value 70"))  # P-AUROC … of the template
    cells = ["value 70", "0.700 ± 0.001", "0.490 ± 0.000", "0.480 ± 0.000", "0.450 ± 0.000", "2"]
    assert [cell.strip() for cell in first.strip("|").split("|")] == cells
    table = tmp_path / "out/stubs/table.md"
    assert table.read_text() in printed
    assert {path.name for path in table.parent.iterdir()} == {"table.md", "table.tex", "table.csv", "sweep.html"}
    before = table.read_bytes()
    assert run(grid, tmp_path / "out") == 0
    assert len(trace(tmp_path)) == 6
    assert table.read_bytes() == before
    larger = write_grid(tmp_path, OPTIONS | {"seed": [0, 1, 2]})
    assert run(larger, tmp_path / "out") == 0
    assert sorted(trace(tmp_path)[6:]) == ["70 2", "80 2", "90 2"]  # what is new only
    assert counts(larger, tmp_path / "out") == {"finished": 9}


def test_a_failed_job_leaves_its_last_words_and_the_sweep_goes_on(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    grid = write_grid(tmp_path, OPTIONS, extra='{"broken": "80"}')
    assert run(grid, tmp_path / "out") == 1
    assert len(trace(tmp_path)) == 6
    assert counts(grid, tmp_path / "out") == {"finished": 4, "failed": 2}
    captured = capsys.readouterr()
    assert captured.err.count("| stub.py | exit status 3: ValueError: the value is 80 |") == 2
    assert "value 80: not there" in captured.out or "Not finished at all: value 80" in captured.out
    record = json.loads(next((tmp_path / "out/jobs").glob("*/*/record.json")).read_text())
    assert record["status"] in (0, 3)
    failed = load(grid, tmp_path / "out")
    step, found = failed.failure(failed.states()["failed"][0]) or (None, {})
    assert step is not None
    assert found["tail"] == ["Traceback (most recent call last):", "ValueError: the value is 80"]
    assert run(grid, tmp_path / "out") == 1  # it is not tried again without --resume
    assert len(trace(tmp_path)) == 6
    assert run(grid, tmp_path / "out", "--resume") == 1
    assert sorted(trace(tmp_path)[6:]) == ["80 0", "80 1"]
    script = tmp_path / "stub.py"
    script.write_text(script.read_text().replace("sys.exit(3)", "pass"))
    assert run(grid, tmp_path / "out", "--resume") == 0
    assert counts(grid, tmp_path / "out") == {"finished": 6}


def test_jobs_of_others_are_left_alone_and_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    grid = write_grid(tmp_path, OPTIONS)
    chosen = load(grid, tmp_path / "out")
    mine, theirs = (chosen.place.job(job) for job in chosen.jobs[:2])
    with taken(theirs, "theirs"):
        content = json.loads((theirs / LOCK).read_text())
    (theirs / LOCK).write_text(json.dumps(content | {"host": "elsewhere"}))
    with taken(mine, "another sweep of this machine"):
        assert run(grid, tmp_path / "out") == 1
    assert len(trace(tmp_path)) == 4
    told = [line for line in capsys.readouterr().err.splitlines() if "works on it" in line]
    assert f"process {os.getpid()} on" in told[0]
    assert told[1].endswith(f"works on it, or did: if that process is no more, remove {theirs / LOCK}")
    assert counts(grid, tmp_path / "out") == {"finished": 4, "locked": 1, "waiting": 1}
    (theirs / LOCK).unlink()
    assert run(grid, tmp_path / "out") == 0


def test_one_engine_ends_what_another_began(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """SLURM's array job, run as SLURM would, does one job of six; the local engine the rest."""
    grid = write_grid(tmp_path, OPTIONS)
    assert run(grid, tmp_path / "out", "--engine", "slurm", "--set", "class_name=cap") == 0
    script = capsys.readouterr().out
    assert "#SBATCH --array=0-5%2\n" in script
    environment = {**os.environ, "SLURM_ARRAY_TASK_ID": "3"}
    done = subprocess.run(["bash", "-c", script], env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert trace(tmp_path) == ["80 1"]
    assert run(grid, tmp_path / "out", "--engine", "slurm", "--set", "class_name=cap") == 0
    assert "--array=0-4%2" in capsys.readouterr().out  # what is left
    assert run(grid, tmp_path / "out", "--set", "class_name=cap") == 0
    assert len(trace(tmp_path)) == 6
    with pytest.raises(UserError, match="nothing is left"):
        run(grid, tmp_path / "out", "--engine", "slurm", "--set", "class_name=cap")
    with pytest.raises(UserError, match="no such job"):
        sweep.main(["job", str(grid), "--output", str(tmp_path / "out"), "--id", "0123"])


def test_status_and_tables_of_what_is_there(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    grid = write_grid(tmp_path, OPTIONS)
    words = [str(grid), "--output", str(tmp_path / "out")]
    assert sweep.main(["status", *words]) == 0
    assert sweep.main(["tables", *words]) == 1
    assert "waiting       6" in capsys.readouterr().out
    assert not (tmp_path / "out/stubs").exists()
    assert run(grid, tmp_path / "out", "--set", "value=90") == 0
    capsys.readouterr()
    assert sweep.main(["status", *words]) == 0
    printed = capsys.readouterr().out
    assert "finished      2" in printed
    assert "4 jobs are left" in printed
    assert sweep.main(["tables", *words]) == 1
    assert "Not finished at all: value 70; value 80." in capsys.readouterr().out
    assert len(trace(tmp_path)) == 2


def test_a_damaged_record_is_named(tmp_path: Path) -> None:
    grid = write_grid(tmp_path, OPTIONS)
    assert run(grid, tmp_path / "out", "--set", "value=90") == 0
    record = next((tmp_path / "out/jobs").glob("*/*/record.json"))
    record.write_text('{"status": "x"}')
    with pytest.raises(UserError, match=r"record\.json: cannot be read"):
        run(grid, tmp_path / "out")


@pytest.mark.parametrize(
    ("word", "found"),
    [("x", "--set x: expected NAME=VALUE"), ("a=[", "--set a=\\[: the value is no YAML"), ("a-b=1", "expected NAME")],
)
def test_words_of_set(word: str, found: str, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=found):
        load(write_grid(tmp_path, OPTIONS), tmp_path / "out", "--set", word)


def test_gpus_by_turn_and_a_share_of_the_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    monkeypatch.setattr(engines, "available_cores", lambda: 8)
    slots = local_slots(Shares(None, 0.5), ["3", "5"])
    assert [slot["CUDA_VISIBLE_DEVICES"] for slot in slots] == ["3", "5", "3", "5"]
    assert {slot["OMP_NUM_THREADS"] for slot in slots} == {"2"}
    assert [slot["CUDA_VISIBLE_DEVICES"] for slot in local_slots(Shares(3, 1.0), ["0", "1"])] == ["0", "1", "0"]
    without = local_slots(Shares(None, 1.0), [])
    assert len(without) == 8
    assert all("CUDA_VISIBLE_DEVICES" not in slot for slot in without)
    monkeypatch.setenv("OMP_NUM_THREADS", "4")
    assert local_slots(Shares(2, 1.0), []) == [{}, {}]  # the user's number stays
    with pytest.raises(UserError, match="one GPU at most"):
        local_slots(Shares(None, 2.0), ["0"])


def test_gpus_that_are_visible(monkeypatch: pytest.MonkeyPatch) -> None:
    for value, found in (("2,GPU-ab", ["2", "GPU-ab"]), ("", []), ("-1", [])):
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", value)
        assert find_gpus() == found


def test_last_lines_of_a_log_with_a_progress_bar(tmp_path: Path) -> None:
    log = tmp_path / "log.txt"
    log.write_bytes(b"begin\n" + b"".join(b"\r%d%%" % i for i in range(99)) + b"\n\n\xff\xfe\r\nend")
    assert last_lines(log) == ["begin", "98%", "\ufffd\ufffd", "end"]
    log.write_bytes(b"x" * 70000 + b"\n" + b"\n".join(b"%d" % i for i in range(50)))
    assert last_lines(log) == [str(i) for i in range(30, 50)]


def test_without_ray_its_engine_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(UserError, match=r"requirements-ray\.txt"):
        run(write_grid(tmp_path, OPTIONS), tmp_path / "out", "--engine", "ray")
