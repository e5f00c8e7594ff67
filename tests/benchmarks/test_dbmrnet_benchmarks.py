"""Timing of DBMRNet, on a small network. No figure of time is judged."""

from pathlib import Path
from typing import Any

import pytest

from benchmarks import cases, dbmrnet_cases, one_class
from benchmarks.kinds import KINDS
from benchmarks.measure import Case, Setting, measure
from models.dbmrnet.detector import DBMRNetDetector
from models.dbmrnet.settings import FUSIONS, PRESETS, SCORES, ModelSettings, Preset

TINY = Preset(32, 2, (8, 16, 32), 128, (32, 16, 16), (8, 4, 4), 8, 1, 1, 1, 2, 2e-3)


@pytest.fixture(autouse=True)
def tiny(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(PRESETS, "tiny", TINY)


def test_rows_are_all_presets_in_both_precisions() -> None:
    rows = KINDS["dbmrnet"].cases
    assert len(rows) == 12
    assert rows["infer mid, bf16"].function == "dbmrnet_cases.inference"
    assert rows["infer mid, bf16"].arguments == ("mid", "bf16")
    assert rows["train full, bf16"].baseline == "train full, fp32"


@pytest.mark.parametrize(("name", "images"), [("training", 4), ("inference", 1)])
@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_cases(name: str, images: int, precision: str, tmp_path: Path) -> None:
    case = Case(f"dbmrnet_cases.{name}", ("tiny", precision), 1, warm_up=False)
    row = measure(case, Setting("cpu", tmp_path))
    assert (row["images"], row["device"], row["gpu_gib"]) == (images, "cpu", None)
    assert row["seconds"] > 0
    network = DBMRNetDetector(ModelSettings("tiny"), precision, 0).network
    assert row["figures"]["million_parameters"] == round(sum(p.numel() for p in network.parameters()) / 1e6, 2) > 0
    assert row["figures"]["preparation_seconds"] > 0


def test_training_step_trains(tmp_path: Path) -> None:
    step: Any = dbmrnet_cases.training(Setting("cpu", tmp_path), "tiny", "fp32").step
    losses = [float(sum(step().values())) for _ in range(60)]
    assert sum(losses[-5:]) < 0.8 * sum(losses[:5])


def test_inference_scores_as_the_detector_does(tmp_path: Path) -> None:
    step: Any = dbmrnet_cases.inference(Setting("cpu", tmp_path), "tiny", "fp32").step
    detector = DBMRNetDetector(ModelSettings("tiny"), "fp32", 0).eval()
    inputs = detector.prepare([cases.sample(0)])
    detector.network.fit_radii(inputs)
    found = detector.discrepancies(inputs, None, SCORES[0])
    (fused,) = detector.maps(found, FUSIONS[0])
    assert step() == [pytest.approx(fused.image_score())]


def test_one_class_is_extrapolated_in_minutes() -> None:
    figures = {"preparation_seconds": 0.12}
    rows = {
        f"train full, {p}": {"seconds": s, "images": 4, "figures": figures} for p, s in (("fp32", 0.4), ("bf16", 1))
    }
    found = one_class.extrapolate("dbmrnet", rows)
    assert found["fp32"] == pytest.approx({"once": 30, "training": 30_000, "total": 30_030, "step": 1.6})
    assert one_class.in_words("dbmrnet", "fp32", found["fp32"]) == (
        "one class, full, fp32, extrapolated: 250 images prepared 0.5 min + 300 epochs of them trained 500.0 min = "
        "500.5 min; measured 1.6 s a step"
    )
