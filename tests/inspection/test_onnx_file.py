"""Exported files, opened without trust; by a file of a few operations. Real ones: tests/exporting."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import infer_onnx
import predict
from inspection.onnx_detector import load_onnx
from inspection.onnx_file import FORMAT, MAX_BYTES
from tests.inspection.parts import cloud, image, lines, write_part
from utils import cli
from utils.errors import UserError

onnx = pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")

from tests.inspection.onnx_stub import write_stub  # noqa: E402


def test_answers_of_a_sound_file(tmp_path: Path) -> None:
    detector = load_onnx(write_stub(tmp_path / "part.onnx"), false_alarm_rate=0.4)
    answer = detector.predict(image(204), cloud())
    assert answer.score == pytest.approx(204 / 255)
    assert answer.anomalous is True
    assert [region.box for region in answer.regions] == [(6, 6, 10, 10)]
    np.testing.assert_allclose(answer.map[7:9, 7:9], 0.8, rtol=1e-6)
    assert detector.predict(image(100), cloud()).anomalous is False


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"format": FORMAT + 1}, "expected format 1, found 2"),
        ({"drop": "scores"}, "cannot be read"),
        ({"drop": "height"}, "cannot be read"),
        ({"scores": {"maxima": []}}, "cannot be read"),
        ({"height": "sixteen"}, "cannot be read"),
        ({"width": 17}, "expected inputs"),
    ],
)
def test_metadata_that_do_not_hold(changes: dict[str, Any], said: str, tmp_path: Path) -> None:
    path = write_stub(tmp_path / "part.onnx", **changes)
    with pytest.raises(UserError, match=said) as error:
        load_onnx(path)
    assert str(path) in str(error.value)


def test_huge_files_are_not_read(tmp_path: Path) -> None:
    path = tmp_path / "part.onnx"
    with path.open("wb") as stream:
        stream.truncate(MAX_BYTES + 1)  # a hole, which takes no room
    with pytest.raises(UserError, match=r"part\.onnx: cannot be read .*expected at most"):
        load_onnx(path)


def changed(path: Path, name: str, value: np.ndarray) -> Path:
    """The file with another weight."""
    model = onnx.load(str(path))
    [kept] = [one for one in model.graph.initializer if one.name == name]
    kept.CopyFrom(onnx.numpy_helper.from_array(value, name))
    path.write_bytes(model.SerializeToString())
    return path


@pytest.mark.parametrize("kind", ["missing", "empty", "image", "cut", "foreign"])
def test_the_small_script_refuses_other_files_in_words(
    kind: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = write_stub(tmp_path / "part.onnx")
    model = onnx.load(str(path))
    del model.metadata_props[:]
    contents = {"empty": b"", "image": b"\x89PNG", "cut": path.read_bytes()[:900], "foreign": model.SerializeToString()}
    path.unlink() if kind == "missing" else path.write_bytes(contents[kind])
    with pytest.raises(SystemExit) as ended:
        infer_onnx.main([str(path), str(tmp_path)])
    assert ended.value.code == 2
    assert f"error: {path}: expected a file of export.py" in capsys.readouterr().err


def test_graphs_that_fail_or_give_something_else(tmp_path: Path) -> None:
    rows = np.arange(224) // 14
    for value, said in ((rows + 1, "cannot be computed"), (rows[:100], "found .1, 100, 224")):
        detector = load_onnx(changed(write_stub(tmp_path / "part.onnx"), "rows", value))
        with pytest.raises(UserError, match=rf"part\.onnx: .*{said}.*Export it again"):
            detector.predict(image(204), cloud())


def test_weights_outside_of_the_file_are_not_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Weights of the same values lie where the file says: that they are refused is not for want of them."""
    path = write_stub(tmp_path / "line/part.onnx")
    model = onnx.load(str(path))
    [rows] = [one for one in model.graph.initializer if one.name == "rows"]
    (tmp_path / "secret.bin").write_bytes(rows.raw_data)
    monkeypatch.chdir(path.parent)
    for place in ("../secret.bin", str(tmp_path / "secret.bin"), "secret.bin"):
        (tmp_path / "line/secret.bin").write_bytes(rows.raw_data)
        other = onnx.ModelProto()
        other.CopyFrom(model)
        [apart] = [one for one in other.graph.initializer if one.name == "rows"]
        apart.ClearField("raw_data")
        apart.data_location = onnx.TensorProto.EXTERNAL
        entry = apart.external_data.add()
        entry.key, entry.value = "location", place
        path.write_bytes(other.SerializeToString())
        with pytest.raises(UserError, match=r"part\.onnx: cannot be read"):
            load_onnx(path)
        if place != "secret.bin":  # in its own folder they may lie
            with pytest.raises(SystemExit):
                infer_onnx.main([str(path), str(path.parent)])
            assert "External data path validation failed" in capsys.readouterr().err


def test_parts_that_do_not_fit_the_file(tmp_path: Path) -> None:
    detector = load_onnx(write_stub(tmp_path / "part.onnx"))
    large = np.full((20, 20, 3), 0.5, np.float32)
    with pytest.raises(UserError, match="expected frames of 16×16, found 20×20"):
        detector.predict(np.zeros((20, 20, 3), np.uint8), large)
    with pytest.raises(UserError, match=r"expected \(16, 16, 3\) as the RGB has"):
        detector.predict(image(100), large)
    with pytest.raises(UserError, match=r"expected \(h, w, 3\) uint8"):
        detector.predict(image(100).astype(np.float32), cloud())
    with pytest.raises(UserError, match="expected float32 coordinates in metres, found uint16"):
        detector.predict(image(100), cloud().astype(np.uint16))
    with pytest.raises(UserError, match="seem to be in millimetres"):
        detector.predict(image(100), cloud() * 1000)
    with pytest.raises(UserError, match="NaN or infinite"):
        detector.predict(image(100), np.full_like(cloud(), np.nan))
    with pytest.raises(UserError, match="no valid point"):
        detector.predict(image(100), np.zeros_like(cloud()))


def test_what_cannot_be_done_ends_with_an_exit_status(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path, parts = write_stub(tmp_path / "part.onnx"), tmp_path / "in"
    write_part(parts, "7", 204)
    write_part(parts, "8", 204)
    np.save(parts / "8.npy", 1000 * cloud())
    words = ["--checkpoint", str(path), "--input", str(parts), "--output", str(tmp_path / "out")]
    assert cli.run(lambda: predict.main(words)) == 1
    assert ["error" in line for line in lines(tmp_path / "out")] == [False, True]
    assert "seem to be in millimetres" in json.dumps(lines(tmp_path / "out")[1])
    before = lines(tmp_path / "out")
    path.write_bytes(path.read_bytes()[:500])
    capsys.readouterr()
    assert cli.run(lambda: predict.main(words)) == 2
    said = capsys.readouterr().err
    assert f"{path}: cannot be read" in said
    assert "Traceback" not in said
    assert lines(tmp_path / "out") == before
