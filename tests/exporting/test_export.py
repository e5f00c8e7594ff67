"""Exported files: the answers of their run, what is refused, and that nothing is left where they differ."""

import importlib
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import cfm_training
import infer_onnx
import predict
from datasets.readers import read_rgb, read_xyz
from datasets.records import scan
from datasets.scenes.writer import Counts, write_mvtec3d
from exporting import run as exporting_run
from exporting.equality import Pair, compare
from exporting.graph import float32_below, resizing
from exporting.int8 import quantised
from inspection.answer import Answer
from inspection.detector import load_detector
from inspection.onnx_detector import load_onnx
from inspection.onnx_file import KEY, ROUNDING
from models.cfm import training
from models.methods import METHODS
from processing import preprocess_mvtec
from utils.errors import UserError

onnx = pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")
pytest.importorskip("onnxscript")


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """`data/cap`, preprocessed scenes with two kinds of defects, and `runs/cap`, a run with cnn_normals."""
    folder = tmp_path_factory.mktemp("export")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("datasets.scenes.writer.DEFECTS", ("hole", "paint"))
        write_mvtec3d(folder / "raw", ["cap"], 240, Counts(train=4, validation=3, test=1), seed=5, workers=1)
    assert preprocess_mvtec.main([str(folder / "raw"), "--workers", "1", "--target_dir", str(folder / "data")]) == 0
    words = ["--dataset_path", str(folder / "data"), "--class_name", "cap", "--extractor", "cnn_normals", "--device"]
    words += ["cpu", "--epochs_no", "1", "--augment", "none", "--checkpoint_savepath", str(folder / "runs")]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(training, "UPDATES", 4)
        patch.setattr(training, "CELLS", 4 * 1024)
        assert cfm_training.main(words) == 0
    return folder


def export(place: Path, output: Path, *more: str) -> int:
    """Call export.py, whose name a folder could have."""
    words = ["--checkpoint", str(place / "runs/cap"), "--dataset_path", str(place / "data"), "--output", str(output)]
    status: int = importlib.import_module("export").main([*words, *more])
    return status


@pytest.fixture(scope="module")
def exported(place: Path) -> Path:
    """The run as a file."""
    assert export(place, place / "part.onnx") == 0
    return place / "part.onnx"


def about(path: Path) -> dict[str, Any]:
    """What a file says of itself."""
    entries = {entry.key: entry.value for entry in onnx.load(str(path)).metadata_props}
    return dict(json.loads(entries[KEY]))


# Slow, as what follows: exporting takes some ten seconds, whatever the size.
@pytest.mark.slow
def test_file_says_what_it_is(place: Path, exported: Path) -> None:
    known = about(exported)
    thresholds = load_detector(place / "runs/cap", device="cpu").thresholds
    assert thresholds is not None
    assert known["threshold"] == pytest.approx(thresholds.image * (1 + ROUNDING), rel=1e-12)
    assert (known["class"], known["precision"], known["height"], known["width"]) == ("cap", "fp32", 240, 240)
    assert known["promise"].startswith("At most 25 %")
    assert known["points"] == list(thresholds.inputs["points"])
    assert known["background"].startswith("outside")
    assert known["equality"]["samples"] == len(scan(place / "data", "cap", "test")) + 3
    assert known["equality"]["map"] <= 1e-4
    assert known["equality"]["decisions"] == 0
    assert known["opset"]["ai.onnx"] >= 18
    assert len(known["weights_sha256"]) == 64
    assert [path.name for path in exported.parent.glob("*part*")] == ["part.onnx"]  # weights lie inside


@pytest.mark.slow
def test_answers_are_the_runs(place: Path, exported: Path) -> None:
    run, file = load_detector(place / "runs/cap", device="cpu"), load_onnx(exported, several=True)
    for record in [*scan(place / "data", "cap", "test")[:3], *scan(place / "data", "cap", "validation")[:1]]:
        rgb, xyz = read_rgb(record.rgb), read_xyz(record.xyz)
        expected, found = run.predict(rgb, xyz), file.predict(rgb, xyz)
        assert found.score == pytest.approx(expected.score, rel=1e-4)
        assert np.abs(found.map - expected.map).max() <= 1e-4 * expected.map.max()
        assert (found.anomalous, found.reasons) == (expected.anomalous, expected.reasons)
        assert [region.box for region in found.regions] == [region.box for region in expected.regions]
        outputs = file.session.run(None, {"rgb": rgb[None], "xyz": xyz[None]})
        assert np.abs(outputs[0][0] - expected.map).max() <= 1e-4 * expected.map.max()
        assert outputs[2][0] == (outputs[1][0] > file.about.stored["threshold"])
    raw = scan(place / "raw", "cap", "validation")[0]
    assert file.predict(read_rgb(raw.rgb), read_xyz(raw.xyz)).cleaned


@pytest.mark.slow
def test_empty_and_other_frames(exported: Path) -> None:
    file = load_onnx(exported)
    nothing = np.zeros((1, 240, 240, 3), np.float32)
    outputs = file.session.run(None, {"rgb": nothing.astype(np.uint8), "xyz": nothing})
    assert (outputs[1][0], outputs[3][0], not outputs[0].any()) == (0, 0, True)
    assert outputs[2][0]  # no part is anomalous by its measured points
    with pytest.raises(UserError, match="empty cloud"):
        file.predict(nothing[0].astype(np.uint8), nothing[0], raw=False)
    with pytest.raises(UserError, match=r"expected frames of 240×240, found 100×90 \(W×H\)"):
        file.predict(np.zeros((90, 100, 3), np.uint8), np.full((90, 100, 3), 0.5, np.float32), raw=False)


@pytest.mark.slow
def test_both_command_lines_answer_alike(
    place: Path, exported: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = place / "data/cap/validation"
    (tmp_path / "parts").mkdir()
    for record in scan(place / "data", "cap", "validation"):
        (tmp_path / f"parts/{record.stem}_rgb.png").write_bytes(record.rgb.read_bytes())
        (tmp_path / f"parts/{record.stem}.tiff").write_bytes(record.xyz.read_bytes())
    assert folder.is_dir()
    words = ["--checkpoint", str(exported), "--input", str(tmp_path / "parts"), "--output", str(tmp_path / "out")]
    assert predict.main(words) == 0
    expected = [json.loads(line) for line in (tmp_path / "out/predictions.jsonl").read_text().splitlines()]
    capsys.readouterr()
    assert infer_onnx.main([str(exported), str(tmp_path / "parts"), "--maps", str(tmp_path / "maps")]) == 0
    found = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [line["sample"] for line in found] == [line["sample"] for line in expected] == ["000", "001", "002"]
    for line, other in zip(found, expected, strict=True):
        assert line["score"] == pytest.approx(other["score"], rel=1e-5)
        assert {name: line[name] for name in ("threshold", "anomalous", "rgb", "xyz")} == {
            name: other[name] for name in ("threshold", "anomalous", "rgb", "xyz")
        }
    (tmp_path / "parts/000.tiff").write_bytes(b"II*")
    assert infer_onnx.main([str(exported), str(tmp_path / "parts")]) == 1
    assert ["error" in json.loads(line) for line in capsys.readouterr().out.splitlines()] == [True, False, False]
    raw = scan(place / "raw", "cap", "validation")[0]
    assert infer_onnx.main([str(exported), str(raw.rgb), str(raw.xyz)]) == 0
    line = json.loads(capsys.readouterr().out)
    assert line["anomalous"]
    assert "its background removed?" in line["reasons"][0]
    with pytest.raises(UserError, match=r"--precision: .*part\.onnx holds its own weights"):
        predict.main([*words, "--precision", "bf16"])


@pytest.mark.slow
def test_mappers_in_8_bits(place: Path, exported: Path, tmp_path: Path) -> None:
    parts = [(read_rgb(one.rgb), read_xyz(one.xyz)) for one in scan(place / "data", "cap", "train")]
    small = quantised(onnx.load(str(exported)), ["maps.mappers"], parts[:3])
    onnx.save(small, str(tmp_path / "int8.onnx"))
    assert (tmp_path / "int8.onnx").stat().st_size < 0.8 * exported.stat().st_size
    whole = {
        one.name for one in small.graph.initializer if one.data_type == onnx.TensorProto.INT8 and len(one.dims) > 1
    }
    assert len(whole) == 6  # three layers of each mapper
    assert all("mappers" in name for name in whole)
    file, exact = load_onnx(tmp_path / "int8.onnx"), load_onnx(exported)
    for rgb, xyz in parts[3:]:
        found, expected = file.predict(rgb, xyz), exact.predict(rgb, xyz)
        assert 0 < np.abs(found.map - expected.map).max() < 0.1 * expected.map.max()


@pytest.mark.slow
def test_openvino_gives_the_same_maps(place: Path, exported: Path) -> None:
    openvino = pytest.importorskip("openvino")
    settings = {"INFERENCE_PRECISION_HINT": "f32"}
    compiled = openvino.Core().compile_model(str(exported), "CPU", settings)
    record = scan(place / "data", "cap", "validation")[0]
    rgb, xyz = read_rgb(record.rgb), read_xyz(record.xyz)
    found = compiled({"rgb": rgb[None], "xyz": xyz[None]})
    expected = load_onnx(exported).predict(rgb, xyz)
    assert np.abs(found["map"][0] - expected.map).max() < 1e-3 * expected.map.max()
    assert found["score"][0] == pytest.approx(expected.score, rel=1e-3)


@pytest.mark.slow
def test_nothing_is_left_where_answers_differ(
    place: Path, exported: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = onnx.load(str(exported))
    [last] = [one for one in model.graph.initializer if one.name.endswith("mappers.0.output.bias")]
    changed = onnx.numpy_helper.to_array(last) + np.float32(0.1)
    last.CopyFrom(onnx.numpy_helper.from_array(changed, last.name))
    monkeypatch.setattr(exporting_run, "to_onnx", lambda graph, shape: model)
    with pytest.raises(UserError, match="not written, since its answers are not the run's: maps differ by"):
        export(place, tmp_path / "bad.onnx")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
def test_damaged_and_foreign_files(exported: Path, tmp_path: Path) -> None:
    path, content = tmp_path / "bad.onnx", exported.read_bytes()

    def refused(written: bytes, said: str) -> None:
        path.write_bytes(written)
        with pytest.raises(UserError, match=said) as error:
            load_onnx(path)
        assert str(path) in str(error.value)

    refused(b"", "it is empty")
    refused(content[: len(content) // 2], "cannot be read")
    refused(b"\x89PNG" + content[4:], "cannot be read")
    model = onnx.load(str(exported))
    kept = model.metadata_props[0].value
    for text, said in ((kept[:-9], "cannot be read"), (kept.replace('"format": 1', '"format": 9'), "found 9")):
        model.metadata_props[0].value = text
        refused(model.SerializeToString(), said)
    model.metadata_props[0].value = kept.replace('"height": 240', '"height": 241')
    refused(model.SerializeToString(), "expected inputs")
    del model.metadata_props[:]
    refused(model.SerializeToString(), "not one of export.py")
    with pytest.raises(UserError, match="no such file"):
        load_onnx(tmp_path / "none.onnx")
    with pytest.raises(UserError, match="CUDA takes onnxruntime-gpu"):
        load_onnx(exported, "cuda")


@pytest.mark.slow
def test_weights_elsewhere_are_not_read(exported: Path, tmp_path: Path) -> None:
    model = onnx.load(str(exported))
    onnx.save(model, str(tmp_path / "apart.onnx"), save_as_external_data=True, location="weights.bin")
    with pytest.raises(UserError, match=r"apart\.onnx: cannot be read"):
        load_onnx(tmp_path / "apart.onnx")


def test_what_cannot_be_exported_says_why(tmp_path: Path) -> None:
    loaded: Any = None
    for name in ("dbmrnet", "btf"):
        with pytest.raises(UserError, match=METHODS[name].no_graph):
            METHODS[name].graph(loaded, (8, 8))

    class Other:
        class extractor:
            @staticmethod
            def fingerprint() -> dict[str, str]:
                return {"extractor": "dino_pointmae"}

    loaded = type("Loaded", (), {"pipeline": Other})
    with pytest.raises(UserError, match=r"picks 1024 points one after another.*Train with --extractor cnn_normals"):
        METHODS["cfm"].graph(loaded, (8, 8))


def pair(scores: tuple[float, float], decided: tuple[bool, bool], defective: bool) -> Pair:
    run = Answer(scores[0], decided[0], np.full((4, 4), scores[0], np.float32), [], np.zeros((4, 4), np.int32), False)
    return Pair(run, np.full((4, 4), scores[1], np.float32), scores[1], decided[1], decided[0], defective)


def test_equality_tells_what_differs() -> None:
    same = [pair((value, value), (value > 2, value > 2), value > 2) for value in (1.0, 2.0, 3.0)]
    equal = compare(same, "fp32", "here")
    assert (equal.map, equal.score, equal.rank, equal.decisions, equal.auroc_run) == (0, 0, 1, 0, 1)
    assert equal.faults() == []
    changed = [*same, pair((2.0, 4.0), (False, True), False)]
    found = compare(changed, "fp32", "here")
    assert (found.map, found.decisions, found.score) == (1.0, 1, pytest.approx(2 / 3))
    assert len(found.faults()) == 2
    assert len(compare(changed, "fp16", "here").faults()) == len(compare(changed, "int8", "here").faults()) == 1
    broken = compare([*same, pair((2.0, float("nan")), (False, False), False)], "fp32", "here")
    assert broken.faults() != []


def test_threshold_in_float32_parts_the_same_scores() -> None:
    for value in (0.1, 1 / 3, 0.5, 7.3e-5):
        limit = float32_below(value)
        assert limit <= value
        for score in (np.float32(value), np.nextafter(np.float32(value), np.float32(9))):
            assert (torch.tensor(score) > limit).item() == (float(score) > value)


@pytest.mark.parametrize("shape", [(300, 260), (60, 90), (224, 224)])
def test_resizing_as_matrices(shape: tuple[int, int]) -> None:
    from datasets.frames import from_square

    values = np.random.default_rng(0).random((224, 224), np.float32)
    down, across = resizing(shape)
    assert np.allclose(down @ values @ across.T, from_square(values, shape), atol=1e-5)
