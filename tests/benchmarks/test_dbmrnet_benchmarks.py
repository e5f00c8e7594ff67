"""Timing and ablation of DBMRNet, on small networks. No figure of time is judged."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from benchmarks import cases, dbmrnet_ablation, dbmrnet_cases, dbmrnet_runs, one_class
from benchmarks.dbmrnet_variations import BASE, METRICS, VARIATIONS, Plan, trainings
from benchmarks.kinds import KINDS
from benchmarks.measure import Case, Setting, measure
from models.dbmrnet.detector import DBMRNetDetector
from models.dbmrnet.settings import FUSIONS, PRESETS, SCORES, ModelSettings, Preset
from utils.errors import UserError

TINY = Preset(32, 2, (8, 16, 32), 128, (32, 16, 16), (8, 4, 4), 8, 1, 1, 1, 2, 2e-3)
PLAN = Plan("tiny", ("biscuit",), train=2, validation=1, test=1, epochs=2, batch_size=2)


@pytest.fixture(autouse=True)
def tiny(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(PRESETS, "tiny", TINY)


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Preprocessed scenes of PLAN."""
    yield dbmrnet_ablation.make_scenes(tmp_path_factory.mktemp("scenes"), *PLAN.scene_options())
    dbmrnet_runs.load_class.cache_clear()


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


def test_each_variation_changes_one_choice() -> None:
    assert VARIATIONS["base"] == type(VARIATIONS["base"])()
    described = {name: str(variation) for name, variation in VARIATIONS.items()}
    assert len(set(described.values())) == len(VARIATIONS) == 20
    for name, variation in VARIATIONS.items():
        ModelSettings("small", **{**BASE, **variation.model})  # refuses what does not go together
        for word in name.split(",") if variation.model else ():
            key, value = word.split("=")
            assert str(variation.model[key]).removesuffix(".0") == value


def test_variations_of_the_same_network_share_a_training() -> None:
    jobs = trainings(Plan(), VARIATIONS, [0, 1], set())
    assert len(jobs) == 11 * 3 * 2
    base = [job for job in jobs if job.model == ModelSettings("small", **BASE)]
    assert [(job.class_name, job.seed) for job in base] == [(c, s) for c in ("biscuit", "cap", "gear") for s in (0, 1)]
    assert {job.names for job in base} == {tuple(name for name, v in VARIATIONS.items() if not v.model)}


def test_finished_rows_are_left_out() -> None:
    done = {("base", "cap", 0), ("fusion=max", "cap", 0), ("base", "gear", 1)}
    jobs = trainings(Plan(classes=("cap", "gear")), ["base", "fusion=max"], [0], done)
    assert [(job.class_name, job.seed, job.names) for job in jobs] == [("gear", 0, ("base", "fusion=max"))]


# Slow, as the next: scenes are made and preprocessed as the benchmark does it.
@pytest.mark.slow
def test_distance_to_points(root: Path) -> None:
    detector = DBMRNetDetector(ModelSettings("tiny"), "fp32", 0).eval()
    inputs = detector.prepare([dbmrnet_runs.load_class(root, "biscuit")["train"][0][1]])
    rebuilt = detector.reconstruct(inputs)
    distance = dbmrnet_runs.distance_to_points(inputs, rebuilt.points)
    points = inputs.cloud[0].permute(1, 2, 0)[inputs.valid[0]]
    expected = torch.cdist(points, rebuilt.points[0], compute_mode="donot_use_mm_for_euclid_dist").amin(dim=1)
    torch.testing.assert_close(distance[0][inputs.valid[0]], expected)
    assert not distance[~inputs.valid].any()
    to_points, default = (
        dbmrnet_runs.discrepancies(detector, VARIATIONS[name], inputs, rebuilt).residuals
        for name in ("residual=points", "base")
    )
    assert to_points is not None
    assert default is not None
    assert torch.equal(to_points[0], default[0])
    assert (to_points[1] >= default[1] - 1e-5).all()  # a plane through the point is at most as far as the point


@pytest.mark.slow
def test_ablation_goes_on_where_it_stopped(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    trained: list[tuple[str, ...]] = []
    complete = dbmrnet_runs.train_and_evaluate

    def train_and_evaluate(job: Any, *rest: Any) -> list[dict[str, Any]]:
        if len(trained) == 1 and "cross_weight=0" in job.names and not path.with_suffix(".go").exists():
            raise KeyboardInterrupt
        trained.append(job.names)
        return complete(job, *rest)

    monkeypatch.setattr(dbmrnet_runs, "train_and_evaluate", train_and_evaluate)
    monkeypatch.setattr(dbmrnet_ablation, "make_scenes", lambda folder, *options: root)
    path = tmp_path / "ablation.json"
    names = ["base", "cross_weight=0", "fusion=3d", "checkpoint=best"]
    with pytest.raises(KeyboardInterrupt):
        dbmrnet_ablation.main(["--json", str(path), "--only", *names], PLAN)
    first = json.loads(path.read_text())["rows"]
    assert [row["variation"] for row in first] == ["base", "fusion=3d", "checkpoint=best"]
    path.with_suffix(".go").touch()
    assert dbmrnet_ablation.main(["--json", str(path), "--only", *names], PLAN) == 0
    assert trained == [("base", "fusion=3d", "checkpoint=best"), ("cross_weight=0",)]
    report = json.loads(path.read_text())
    assert report["rows"][:3] == first
    default, fused_3d = first[:2]
    assert default["i_auroc_dent_3d"] == fused_3d["i_auroc_dent_3d"]  # the branches do not depend on the fusion
    assert default["p_auroc"] != fused_3d["p_auroc"]
    assert all(0 <= row[column] <= 1 for row in report["rows"] for column in METRICS)
    capsys.readouterr()

    assert dbmrnet_ablation.main(["--json", str(path), "--only", "fusion=3d"], PLAN) == 0
    assert len(trained) == 2
    printed = capsys.readouterr().out.splitlines()
    assert printed[-1] == "| fusion=3d | " + " | ".join(f"{fused_3d[c]:.3f}" for c in METRICS) + " |"


def test_table_holds_means_over_classes_and_seeds() -> None:
    columns = dict.fromkeys(METRICS, 0.5)
    rows = [
        {"variation": "base", "class": "cap", "seed": 0, **columns, "i_auroc": 0.8},
        {"variation": "base", "class": "gear", "seed": 0, **columns, "i_auroc": 0.9},
        {"variation": "fusion=max", "class": "cap", "seed": 0, **columns, "i_auroc": 0.1},
    ]
    lines = dbmrnet_ablation.table(rows, ["base", "fusion=max"]).splitlines()
    assert lines[1] == "|---|---:|---:|---:|---:|---:|"
    assert lines[2:] == [
        "| base | 0.850 | 0.500 | 0.500 | 0.500 | 0.500 |",
        "| fusion=max | 0.100 | 0.500 | 0.500 | 0.500 | 0.500 |",
    ]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('{"plan": {"epochs": 3}, "rows": []}', r"made with \{'epochs': 3\}, now it is .*'epochs': 2"),
        ('{"runs": []}', "not a file that this benchmark wrote"),
        ("[", "not a file that this benchmark wrote"),
    ],
)
def test_rows_of_another_plan_are_refused(text: str, message: str, tmp_path: Path) -> None:
    path = tmp_path / "ablation.json"
    path.write_text(text)
    with pytest.raises(UserError, match=message):
        dbmrnet_ablation.main(["--json", str(path)], PLAN)
