"""The examples run as they stand, each in this process."""

import runpy
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from datasets.readers import read_xyz
from datasets.records import scan
from tests.documents import ROOT, run_here
from tests.scans import write_scans
from tests.trained import Trained

EXAMPLES = sorted((ROOT / "examples").glob("*.py"))


def run_example(name: str, *words: object, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", [name, *map(str, words)])
    runpy.run_path(str(ROOT / "examples" / name), run_name="__main__")


def test_they_are_short_and_each_has_a_test() -> None:
    assert [path.name for path in EXAMPLES] == ["compare_runs.py", "own_data.py", "part_in_memory.py"]
    assert max(len(path.read_text(encoding="utf-8").splitlines()) for path in EXAMPLES) <= 40


def test_own_data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its commands run in this process, on a CPU."""
    parts = {"train/good": (3, None), "val/good": (1, None), "test/good": (1, None), "test/hole": (1, "hole")}
    write_scans(tmp_path / "scans", parts, size=160)
    ran: list[str] = []
    start = subprocess.run

    def run(words: list[str], **how: Any) -> Any:
        if words[0] != sys.executable:
            return start(words, **how)
        assert how == {"check": True}
        ran.append(Path(words[1]).name)
        options = ["--workers", "1"] if ran[-1] == "convert_rgbd.py" else ["--device", "cpu"]
        assert run_here([str(Path(words[1]).relative_to(ROOT)), *words[2:], *options]) == 0
        return None

    monkeypatch.setattr(subprocess, "run", run)
    monkeypatch.chdir(tmp_path)
    options = ("--extractor", "handcrafted", "--epochs_no", "1")
    run_example("own_data.py", "scans", "bolt", *options, monkeypatch=monkeypatch)
    assert ran == ["convert_rgbd.py", "cfm_training.py", "cfm_inference.py"]
    assert (tmp_path / "results/quantitatives_mvtec/bolt_1ep_4bs/report.html").is_file()


@pytest.mark.parametrize("kind", ["good", "hole"])
def test_part_in_memory(
    kind: str, trained: Trained, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    record = next(r for r in scan(trained.raw, "cap", "validation" if kind == "good" else "test") if r.defect == kind)
    xyz = read_xyz(record.xyz).astype(np.float64)
    Image.fromarray(np.rint(xyz[..., 2] * 50_000).astype(np.uint16)).save(tmp_path / "depth.png")
    numbers = pinhole(xyz)
    words = (trained.cfm, record.rgb, tmp_path / "depth.png", *numbers, 1 / 50_000)
    run_example("part_in_memory.py", *words, monkeypatch=monkeypatch)
    verdict, *rest = capsys.readouterr().out.splitlines()
    assert verdict.split()[0] == ("good" if kind == "good" else "anomalous")
    assert any(line.startswith("region: box (") for line in rest) == (kind == "hole")


def pinhole(xyz: np.ndarray) -> tuple[float, ...]:
    """fx, fy, cx, cy of an organised cloud, (h, w, 3)."""
    v, u = np.nonzero(xyz[..., 2])
    x, y, z = xyz[v, u].T
    (fx, cx), (fy, cy) = np.polyfit(x / z, u, 1), np.polyfit(y / z, v, 1)
    return fx, fy, cx, cy


def test_compare_runs(
    trained: Trained, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    common = ["cfm_inference.py", "--dataset_path", str(trained.scenes), "--class_name", "cap", "--device", "cpu"]
    common += ["--checkpoint_folder", str(trained.cfm.parent), "--epochs_no", "8"]
    for aggregation in ("product", "2d"):
        assert (
            run_here([*common, "--aggregation", aggregation, "--quantitative_folder", str(tmp_path / aggregation)]) == 0
        )
    capsys.readouterr()
    run_example("compare_runs.py", tmp_path / "product", tmp_path / "2d", monkeypatch=monkeypatch)
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "cap"
    figures = {line.split()[0]: line.split()[1:] for line in lines[1:11]}
    assert list(figures)[:4] == ["I-AUROC", "P-AUROC", "AUPRO@30%", "AUPRO@10%"]
    for before, arrow, after, change in figures.values():
        assert arrow == "→"
        assert float(change) == pytest.approx(float(after) - float(before), abs=0.0011)
    ranks = [abs(float(line.split()[-1])) for line in lines[11:]]
    assert len(ranks) == 5
    assert ranks == sorted(ranks, reverse=True)
