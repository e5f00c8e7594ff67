"""sweep.py with the real commands on a few generated scenes: a training is shared by all evaluations of it."""

import json
from pathlib import Path
from typing import Any

import pytest
import yaml

import sweep
from tests.trained import Trained


def record(folder: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((folder / "record.json").read_text())
    return found


# Slow: four processes with all their imports.
@pytest.mark.slow
def test_trained_once_and_evaluated_with_each_aggregation(
    trained: Trained, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    options = {
        **{"variant": {"HC": {"method": "cfm", "extractor": "handcrafted"}}, "aggregation": ["product", "2d"]},
        **{"dataset_path": str(trained.scenes), "class_name": "cap", "shots": 3, "draw_shots": True, "seed": 4},
        **{"epochs_no": 1, "pixel_fraction": 0.1, "device": "cpu"},
    }
    grid = tmp_path / "two.yaml"
    grid.write_text(yaml.safe_dump({"title": "Two", "options": options, "compare": "aggregation"}, sort_keys=False))
    assert sweep.main([str(grid), "--output", str(tmp_path / "out"), "--jobs", "2"]) == 0
    [job] = (tmp_path / "out/jobs").iterdir()
    steps = sorted(path.name.partition("_")[0] for path in job.glob("*_*"))
    assert steps == ["evaluate", "evaluate", "train"]
    results = [json.loads(path.read_text()) for path in job.glob("evaluate_*/results/cap_1ep_4bs.json")]
    assert {result["config"]["aggregation"] for result in results} == {"product", "2d"}
    assert {result["config"]["training"]["shots_drawn"] for result in results} == {True}
    assert all(result["timing"]["peak_mib"]["process"] > 100 for result in results)
    size = sum(path.stat().st_size for path in job.rglob("CFM_*.pth")) / 1e6
    assert [result["timing"]["weights_mb"] for result in results] == [size, size]
    assert len(list((tmp_path / "out/tokens").glob("*.safetensors"))) == 3
    printed = capsys.readouterr().out
    assert "| HC, aggregation product |" in printed
    assert "| 2d - product, variant HC: I-AUROC" in printed
    page = (tmp_path / "out/two/sweep.html").read_text(encoding="utf-8")
    assert f"../jobs/{job.name}/evaluate_" in page
    spent = [record(step)["cpu_seconds"] for step in job.glob("*_*")]
    assert all(seconds > 0.5 for seconds in spent)
