"""The benchmark programs run and report what they promise. No figure of time is judged."""

import copy
import json
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from benchmarks import (
    cases,
    cell_cases,
    demo_case,
    machine,
    one_class,
    plain_cfm,
    preprocessing_cases,
    run,
    stage_cases,
)
from benchmarks.kinds import CELLS, KINDS, STAGES, Kind
from benchmarks.measure import Case, Setting, call, measure
from datasets.records import scan
from datasets.sample import load_sample
from datasets.scenes.writer import Counts
from models.extractors import point_mae
from utils.errors import UserError

FIELDS = {"seconds", "fastest", "images", "repetitions", "device", "peak_gib", "gpu_gib", "baseline", "figures"}


def once(name: str, *arguments: Any) -> Case:
    return Case(name, arguments, repetitions=1, warm_up=False)


@pytest.fixture
def setting(tmp_path: Path) -> Setting:
    return Setting("cpu", tmp_path)


@pytest.fixture(scope="module")
def pruned() -> Any:
    """Encoders of one block."""
    pair = cases.encoders()
    for encoder in pair:
        encoder.prune(1)
    return pair


@pytest.fixture
def one_block(pruned: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Encoders of one block, single images."""
    monkeypatch.setattr(cases, "encoders", lambda seed=0: copy.deepcopy(pruned))
    monkeypatch.setattr(cases, "FILES", {"cpu": 1})
    monkeypatch.setattr(cases, "TRAINING_BATCH", 1)


@pytest.fixture
def little_dome(monkeypatch: pytest.MonkeyPatch) -> None:
    """A fifth of the measured pixels and a quarter of the groups, for tests that look at neither number."""
    monkeypatch.setattr(point_mae, "N_GROUPS", 256)
    dome = cases.dome
    monkeypatch.setattr(cases, "dome", lambda side=448, seed=0: dome(4000, side, seed))


def test_table_names_functions_and_baselines_that_exist() -> None:
    methods = {"extraction", "inference", "training", "stages", "dbmrnet"}
    assert set(KINDS) == {*methods, "preprocessing", "metrics", "memory", "demo", "export"}
    for name in (case.function for added in CELLS.values() for case in added.values()):
        assert callable(getattr(cell_cases, name.removeprefix("cell_cases.")))
    for kind in KINDS.values():
        for name in [kind.prepare] * bool(kind.prepare) + [case.function for case in kind.cases.values()]:
            module, function = name.split(".")
            assert callable(getattr(__import__(f"benchmarks.{module}", fromlist=[function]), function))
        assert {case.baseline for case in kind.cases.values()} <= {"", *kind.cases}


def test_dome_has_twenty_thousand_foreground_pixels(one_block: None, setting: Setting) -> None:
    cases.write_files(setting)
    (record,) = scan(setting.folder / "domes", "dome", "test")
    frozen = cases.extractor("fp32", torch.device("cpu"))
    for item in (cases.sample(), load_sample(record)):
        tokens = cases.extract_batch([item], frozen, torch.device("cpu"))[0]
        assert len(tokens.foreground) == pytest.approx(20_000, rel=0.01)


@pytest.mark.parametrize("name", ["extraction", "inference", "inference_with_reading", "training"])
def test_cases_of_the_project(name: str, one_block: None, little_dome: None, setting: Setting) -> None:
    cases.write_files(setting)
    row = measure(once(f"cases.{name}", "fp32"), setting)
    assert set(row) == FIELDS
    assert (row["images"], row["repetitions"], row["device"], row["gpu_gib"]) == (1, 1, "cpu", None)
    assert row["seconds"] == row["fastest"] > 0


@pytest.mark.parametrize("name", ["extraction", "inference", "inference_with_reading", "training"])
def test_cases_of_cnn_normals(name: str, setting: Setting, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cases, "FILES", {"cpu": 1})
    cases.write_files(setting)
    row = measure(once(f"cell_cases.{name}", "fp32"), setting)
    assert set(row) == FIELDS
    assert row["images"] == (4 if name == "training" else 1)


def test_training_on_a_share_of_the_pixels(one_block: None, little_dome: None, setting: Setting) -> None:
    everything, share = (cases.training(setting, "fp32", part) for part in (1.0, 0.1))
    assert stage_cases.gigaflops(share.step) < 0.3 * stage_cases.gigaflops(everything.step)


def test_operations_of_the_stages(one_block: None) -> None:
    work = stage_cases.stages("fp32", torch.device("cpu"))
    assert set(work) == set(STAGES)
    assert stage_cases.gigaflops(work["matrix product"]) == pytest.approx(10 * 2 * 2048 * 960 * 960 / 1e9, rel=0.01)
    hidden = (768 + 384) // 2  # one block is kept of Point-MAE
    pixels = 20_000 * (2 * hidden * hidden + hidden * 384 + hidden * 768)
    tokens = (784 + 1024) * 768 * 384 * 1.5
    assert stage_cases.gigaflops(work["mappers and maps"]) == pytest.approx(2 * (pixels + tokens) / 1e9, rel=0.02)
    rows = 1024 * 128 * (3 * 128 + 128 * 256 + 128 * 512 + 512 * 384) + 1024 * 256 * 512
    assert stage_cases.gigaflops(work["mini-PointNet"]) == pytest.approx(2 * rows / 1e9, rel=0.01)


@pytest.mark.parametrize("name", ["plain_extraction", "plain_inference", "plain_training"])
def test_plain_cases(name: str, one_block: None, setting: Setting, monkeypatch: pytest.MonkeyPatch) -> None:
    """The plain implementation is tested elsewhere; here its extraction is replaced by a small one."""
    side, seen = 32, []

    def extract(rgb: Any, xyz: Any, valid: Any, vit: Any, state: Any, mode: str) -> plain_cfm.PlainFeatures:
        seen.append((tuple(rgb.shape), tuple(xyz.shape), tuple(valid.shape), mode))
        generator = torch.Generator().manual_seed(0)
        rgb_features, xyz_features = (torch.randn(side * side, width, generator=generator) for width in (768, 1152))
        return plain_cfm.PlainFeatures(rgb_features, xyz_features, torch.ones(side * side, dtype=torch.bool))

    monkeypatch.setattr(plain_cfm, "extract", extract)
    monkeypatch.setattr(plain_cfm, "SIZE", side)
    assert set(measure(once(f"cases.{name}"), setting)) == FIELDS
    assert seen == [((3, 224, 224), (3, 224, 224), (224, 224), "eval")]


def test_metrics_agree_with_scikit_learn(setting: Setting) -> None:
    figures = measure(once("metrics_cases.evaluation", 10, 32), setting)["figures"]
    assert figures["p_auroc"] == pytest.approx(figures["p_auroc_scikit_learn"], abs=1e-12)
    assert 0.6 < figures["p_auroc"] < 1


def test_preprocessing_cases(setting: Setting, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(preprocessing_cases, "TREE", Counts(1, 0, 1))
    monkeypatch.setattr(preprocessing_cases, "OBJECT_CLASSES", ("cap", "loaf"))
    monkeypatch.setattr("datasets.scenes.writer.DEFECTS", ("hole",))
    monkeypatch.setattr(preprocessing_cases, "keep_to_one_core", lambda: None)  # the tests go on with all
    call("preprocessing_cases.prepare", setting, (128,), 128)
    ours = measure(once("preprocessing_cases.in_memory", 128), setting)
    reference = measure(once("preprocessing_cases.open3d_in_memory", 128), setting)
    assert ours["images"] == reference["images"] == 4
    assert reference["figures"]["iou_lowest"] >= 0.99
    assert reference["figures"]["iou_lowest"] <= reference["figures"]["iou_mean"] <= 1
    command = measure(once("preprocessing_cases.command_line", 1), setting)
    assert command["images"] == 8
    assert sorted(path.name for path in setting.folder.iterdir()) == ["scans_128", "tree"]


def test_stages_of_a_trace() -> None:
    trace = (
        "@ 1.25 .venv/bin/python a.py --x 1\nnoise @ 2.0 python b.py\n@ 3.50 for i in 1 2\n"
        "@ 3.75 /usr/bin/python3 b.py\n@@ 4.00 basename x\n@ 5.00 .venv/bin/python a.py\n@ 5.50 echo done\n"
    )
    assert demo_case.stages(trace) == {"a.py": 2.75, "b.py": 0.25}


def test_demo_is_traced(setting: Setting) -> None:
    script = setting.folder / "demo.sh"
    call_ = f'"{sys.executable}" one.py "$RESULTS"'
    script.write_text(
        f'set -euo pipefail\ncd "$(dirname "${{BASH_SOURCE[0]}}")"\nfor i in 1 2; do {call_}; done\necho ok'
    )
    (setting.folder / "one.py").write_text(
        "import sys, pathlib\nwith open(sys.argv[1] + '/log', 'a') as f: f.write('1')"
    )
    work = demo_case.demo(setting, script)
    work.step()
    assert list(work.figures()["stages"]) == ["one.py"]
    assert (setting.folder / "log").read_text() == "11"


def test_report_and_json(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    rows = {
        "small": Case("metrics_cases.evaluation", (5, 16), 1),
        "left out": Case("metrics_cases.evaluation", (5, 16), 1, full=True),
        "again": Case("metrics_cases.evaluation", (5, 16), 2, "small"),
    }
    monkeypatch.setitem(run.KINDS, "metrics", Kind("class", "little maps", rows))
    path = tmp_path / "out.json"
    assert run.main(["--what", "metrics", "--json", str(path)]) == 0
    report = json.loads(path.read_text())
    assert {"what", "command", "date", "timed", "cases", "machine", "versions", "git_commit"} == set(report)
    assert report["command"] == f"python benchmarks/run.py --what metrics --json {path}"
    assert report["timed"] == "seconds per class: little maps"
    of_machine = {"cpu", "cpu_capability", "cpu_flags", "cores", "gpu", "memory_gib", "omp_num_threads"}
    assert of_machine == set(report["machine"])
    small, again = report["cases"]["small"], report["cases"]["again"]
    assert list(report["cases"]) == ["small", "again"]
    assert set(small) == {*FIELDS, "ratio"}
    assert small["ratio"] is None
    assert again["ratio"] == round(small["seconds"] / again["seconds"], 2)
    printed = capsys.readouterr().out
    assert "| again | cpu |" in printed
    assert report["machine"]["cpu"] in printed


def test_one_class_is_extrapolated_plainly() -> None:
    seconds = {"fp32": 0.4, "bf16": 0.2, "extraction fp32": 2.0, "extraction bf16": 1.0}
    rows = {name: {"seconds": value, "images": 4} for name, value in seconds.items()}
    found = one_class.extrapolate("training", rows)
    assert found["fp32"] == pytest.approx({"once": 500, "training": 5000, "total": 5500, "step": 1.6})
    assert found["bf16"] == pytest.approx({"once": 250, "training": 2500, "total": 2750, "step": 0.8})
    assert one_class.extrapolate("inference", rows) == {}


def test_report_of_training_tells_of_one_class(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    tiny = Case("metrics_cases.evaluation", (5, 16), 1)
    rows = dict.fromkeys(("fp32", "bf16", "extraction fp32", "extraction bf16"), tiny)
    monkeypatch.setitem(run.KINDS, "training", Kind("image", "nothing of the kind", rows))
    monkeypatch.setattr(run, "in_fresh_process", lambda function, *arguments: function(*arguments))
    assert run.main(["--what", "training", "--json", str(tmp_path / "out.json")]) == 0
    report = json.loads((tmp_path / "out.json").read_text())
    assert report["one_class"]["bf16"]["once"] == 250 * report["cases"]["extraction bf16"]["seconds"]
    assert "one class, bf16, extrapolated: 250 images extracted" in capsys.readouterr().out


def test_cpu_flags(tmp_path: Path) -> None:
    cpuinfo = tmp_path / "cpuinfo"
    cpuinfo.write_text("model name : X\nflags\t\t: fpu avx512_bf16 avx2 amx_bf16_not\n")
    assert machine.cpu_flags(cpuinfo) == ["avx2", "avx512_bf16"]
    assert machine.cpu_flags(tmp_path / "missing") == []


PEER = """#!/bin/sh
echo a warning
echo '{"seconds": 2.0, "device": "'$5'", "peak_gib": 1.0, "gpu_gib": null, "figures": {}}'
"""


def executable(path: Path, text: str) -> Path:
    path.write_text(text)
    path.chmod(0o755)
    return path


def test_row_of_the_peer(setting: Setting, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(run, "in_fresh_process", lambda function, *arguments: function(*arguments))
    row = run.measure_peer("inference", executable(setting.folder / "python", PEER), setting)
    assert (row["seconds"], row["device"], row["baseline"]) == (2.0, "cpu", "plain")
    with pytest.raises(UserError, match=r"can run anomalib's CFM:\nno module"):
        run.measure_peer(
            "training", executable(setting.folder / "other", "#!/bin/sh\necho no module >&2; exit 1"), setting
        )


@pytest.mark.parametrize(
    "options", [["--peer", "anomalib"], ["--peer_python", "x"], ["--peer", "anomalib", "--peer_python", "x"]]
)
def test_peer_options_that_do_not_fit(options: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="2"):
        run.main(["--what", "metrics", *options])
    assert "--peer" in capsys.readouterr().err
