"""inspection/predictions.py: what is written of a part, and when nothing has to be."""

import json
import os
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import tifffile
from PIL import Image

from inspection.answer import Answer
from inspection.overlay import draw
from inspection.pairs import Pair
from inspection.predictions import Predictions, inspect, read_pair
from processing.manifest import Preprocessing, write_cloud
from processing.own_data.rgbd_jobs import Conversion
from tests.inspection.parts import cloud, image, lines, npy, write_part
from tests.inspection.stub import THRESHOLDS, Stub
from utils.errors import UserError
from utils.files import sha256_files

RATE = 0.05


def take(folder: Path, pair: Pair, stub: Stub, rate: float = RATE) -> bool:
    """Whether a run of its own answers the pair anew."""
    return Predictions(folder, stub, rate).take(pair)[1]


def test_map_picture_and_line_of_a_part(tmp_path: Path) -> None:
    """A patch of 4×4 pixels of 1 mm at (6, 6): red 204 of 255 is 0.8, above the 0.6 of the image threshold."""
    pair, stub = write_part(tmp_path / "in", "a/7", 204), Stub()
    outcome, new = Predictions(tmp_path / "out", stub, RATE).take(pair)
    assert (outcome.score, outcome.anomalous, outcome.error, new) == (pytest.approx(0.8), True, None, True)
    (line,) = lines(tmp_path / "out")
    seconds, regions = line.pop("seconds"), line.pop("regions")
    assert 0 <= seconds < 10
    assert line == {
        "sample": "a/7",
        "rgb": str(pair.rgb),
        "xyz": str(pair.xyz),
        "score": pytest.approx(0.8),
        "threshold": 0.6,
        "anomalous": True,
        "reasons": [],
        "map": "maps/a/7.tiff",
        "overlay": "overlays/a/7.png",
        "cleaned": True,
        "sources": sha256_files([pair.rgb, pair.xyz]),
        "detector": "f" * 64,
        "false_alarm_rate": 0.05,
    }
    (region,) = regions
    assert region == {
        "box": [6, 6, 10, 10],
        "area_px": 16,
        "area_mm2": pytest.approx(16, rel=1e-4),
        "peak_score": pytest.approx(0.8),
        "centroid_m": pytest.approx([0.0085, 0.0085, 0.5]),
    }
    values = tifffile.imread(tmp_path / "out" / line["map"])
    assert values.dtype == np.float32
    np.testing.assert_array_equal(values, image(204)[..., 0] / np.float32(255))
    picture = np.asarray(Image.open(tmp_path / "out" / line["overlay"]))
    np.testing.assert_array_equal(picture, draw(image(204), stub.predict(image(204), cloud()), THRESHOLDS))


def test_without_thresholds_there_is_a_map_and_no_decision(tmp_path: Path) -> None:
    pair, out = write_part(tmp_path / "in", "7", 204), tmp_path / "out"
    assert take(out, pair, Stub())
    assert take(out, pair, Stub(None), 0.5)
    line = lines(out)[-1]
    assert [line[key] for key in ("threshold", "anomalous", "overlay", "regions")] == [None, None, None, []]
    assert line["score"] == pytest.approx(0.8)
    assert (out / "maps/7.tiff").is_file()
    assert not (out / "overlays/7.png").exists()
    assert not take(out, pair, Stub(None), 0.5)


def test_a_part_with_an_answer_is_left_alone(tmp_path: Path) -> None:
    pair, out, stub = write_part(tmp_path / "in", "7", 204), tmp_path / "out", Stub()
    predictions = Predictions(out, stub, RATE)
    assert [predictions.take(pair)[1], predictions.take(pair)[1]] == [True, False]
    outcome, new = Predictions(out, stub, RATE).take(pair)
    assert (outcome.score, outcome.anomalous, new) == (pytest.approx(0.8), True, False)
    assert stub.calls == 1
    assert len(lines(out)) == 1


@pytest.mark.parametrize("change", ["rgb", "xyz", "rate", "detector", "map", "overlay"])
def test_what_decides_the_answer_makes_it_anew(change: str, tmp_path: Path) -> None:
    pair, out, stub, rate = write_part(tmp_path / "in", "7", 204), tmp_path / "out", Stub(), RATE
    assert take(out, pair, stub, rate)
    if change == "rgb":
        Image.fromarray(image(102)).save(pair.rgb)
    elif change == "xyz":
        pair.xyz.write_bytes(npy(cloud() + np.float32(0.1)))
    elif change == "rate":
        rate = 0.1
    elif change == "detector":
        stub.fingerprint = "e" * 64
    else:
        next((out / f"{change}s").iterdir()).unlink()
    assert take(out, pair, stub, rate)
    assert not take(out, pair, stub, rate)
    assert len(lines(out)) == 2
    assert lines(out)[1]["anomalous"] == (change != "rgb")
    assert (lines(out)[0] == lines(out)[1] | {"seconds": lines(out)[0]["seconds"]}) == (change in ("map", "overlay"))


def test_replaced_files_may_get_an_answer_of_their_own(tmp_path: Path) -> None:
    """Of a camera that writes every part under one name. Known files keep their answer's name; failures keep none."""
    out, stub = tmp_path / "out", Stub()
    for red, name, new in ((204, "a/7", True), (102, "a/7~2", True), (255, "a/7~3", True), (102, "a/7~2", False)):
        pair = write_part(tmp_path / "in", "a/7", red)
        outcome, is_new = Predictions(out, stub, RATE).take(pair, keep=True)
        assert (outcome.sample, outcome.score, is_new) == (name, pytest.approx(red / 255), new)
    pair.xyz.write_bytes(b"broken")
    failed, _ = Predictions(out, stub, RATE).take(pair, keep=True)
    assert (failed.sample, failed.score) == ("a/7~4", None)
    pair = write_part(tmp_path / "in", "a/7", 153)
    assert Predictions(out, stub, RATE).take(pair, keep=True)[0].sample == "a/7~4"
    assert [line["sample"] for line in lines(out)] == ["a/7", "a/7~2", "a/7~3", "a/7~4", "a/7~4"]
    assert {line["rgb"] for line in lines(out)} == {str(pair.rgb)}
    for name, red in (("7", 204), ("7~2", 102), ("7~3", 255), ("7~4", 153)):
        assert float(tifffile.imread(out / f"maps/a/{name}.tiff").max()) == pytest.approx(red / 255)
        assert (out / f"overlays/a/{name}.png").is_file()
    stub.fingerprint = "e" * 64  # another detector answers the same files under the same name
    write_part(tmp_path / "in", "a/7", 102)
    assert Predictions(out, stub, RATE).take(pair, keep=True)[0].sample == "a/7~2"


def test_files_that_change_while_they_are_read_get_no_answer(tmp_path: Path) -> None:
    class Slow(Stub):
        def predict(self, rgb: np.ndarray, xyz: np.ndarray, raw: bool | None = None) -> Answer:
            write_part(tmp_path / "in", "7", 102)  # the camera's next part
            return super().predict(rgb, xyz, raw)

    pair, out = write_part(tmp_path / "in", "7", 204), tmp_path / "out"
    outcome, _ = Predictions(out, Slow(), RATE).take(pair, keep=True)
    assert "in/7.png or 7.npy: changed while it was read" in str(outcome.error)
    assert not (out / "maps/7.tiff").exists()
    outcome, _ = Predictions(out, Slow(), RATE).take(pair, keep=True)
    assert (outcome.sample, outcome.score) == ("7", pytest.approx(0.4))


def test_a_name_belongs_to_one_part(tmp_path: Path) -> None:
    """Another part of that name would overwrite map and picture; the same files elsewhere are the same part."""
    out, stub = tmp_path / "out", Stub()
    first, other = (write_part(tmp_path / folder, "7", grey) for folder, grey in (("a", 204), ("b", 100)))
    assert take(out, first, stub)
    before = {path: path.read_bytes() for path in out.rglob("*.*")}
    with pytest.raises(UserError, match=r"holds the answer to .*a/7\.png under the name 7.*another --output"):
        take(out, other, stub)
    assert {path: path.read_bytes() for path in out.rglob("*.*")} == before
    shutil.copytree(tmp_path / "a", tmp_path / "moved")
    assert not take(out, Pair("7", tmp_path / "moved" / first.rgb.name, tmp_path / "moved" / first.xyz.name), stub)
    write_part(tmp_path / "a", "7", 100)  # at the same place: the part has changed
    assert take(out, first, stub)


def test_an_unfinished_line_is_cut_off_however_long_the_log(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("inspection.predictions._BLOCK", 7)
    whole = json.dumps({"sample": "7", "score": 0.5}) + "\n"
    for text in (whole * 3, whole * 2 + whole[:-1], whole + "{", "{" * 50, "", whole + "x" * 7, "\n"):
        (tmp_path / "predictions.jsonl").write_text(text)
        try:
            Predictions(tmp_path, Stub(), RATE)
        except UserError:
            assert text == "\n"
        assert (tmp_path / "predictions.jsonl").read_text() == text[: text.rfind("\n") + 1]


def test_clouds_that_were_stamped_with_their_background_may_be_raw(tmp_path: Path) -> None:
    pair = write_part(tmp_path, "7", 204)
    assert read_pair(pair)[2] is None
    for done, raw in ((Preprocessing(), False), (Conversion(background="none"), None), (Conversion(), False)):
        write_cloud(tmp_path / "7.tiff", cloud(), done, 1.0, "0")
        assert read_pair(Pair("7", pair.rgb, tmp_path / "7.tiff"))[2] is raw


def test_a_part_that_fails_is_told_once_and_tried_again(tmp_path: Path) -> None:
    pair, out, stub = write_part(tmp_path / "in", "7", 204), tmp_path / "out", Stub()
    sound = pair.xyz.read_bytes()
    assert take(out, pair, stub)
    pair.xyz.write_bytes(sound[:-100])
    outcome, new = Predictions(out, stub, RATE).take(pair)
    assert new
    assert outcome.error is not None
    line = lines(out)[1]
    assert line == {
        "sample": "7",
        "rgb": str(pair.rgb),
        "xyz": str(pair.xyz),
        "error": outcome.error,
        "sources": sha256_files([pair.rgb, pair.xyz]),
        "detector": "f" * 64,
        "false_alarm_rate": 0.05,
    }
    assert outcome.error.startswith(f"{pair.xyz}: cannot be read")
    assert not (out / "maps/7.tiff").exists()  # of the file as it was
    assert not (out / "overlays/7.png").exists()
    assert not take(out, pair, stub)
    pair.xyz.write_bytes(sound[:-200])
    assert take(out, pair, stub)
    pair.xyz.write_bytes(sound)
    assert take(out, pair, stub)
    assert ["error" in line for line in lines(out)] == [False, True, True, False]


def test_files_that_cannot_be_hashed_fail_too(tmp_path: Path) -> None:
    pair, out = write_part(tmp_path / "in", "7", 204), tmp_path / "out"
    pair.rgb.unlink()
    assert take(out, pair, Stub())
    os.mkfifo(pair.rgb)
    assert take(out, pair, Stub())
    assert [line["sources"] for line in lines(out)] == [None, None]
    assert "expected a file, found no such file" in lines(out)[0]["error"]
    assert "expected a file, found something else" in lines(out)[1]["error"]


def test_messages_of_the_detector_name_the_files(tmp_path: Path) -> None:
    pair = write_part(tmp_path, "7", 204)
    pair.xyz.write_bytes(npy(cloud((16, 12))))
    with pytest.raises(UserError, match=r"7\.npy with 7\.png: xyz: expected \(16, 16, 3\), found \(16, 12, 3\)"):
        inspect(pair, Stub())


def test_a_map_that_is_not_finite_is_refused(tmp_path: Path) -> None:
    class Lost(Stub):
        def predict(self, rgb: np.ndarray, xyz: np.ndarray, raw: bool | None = None) -> Answer:
            return replace(super().predict(rgb, xyz, raw), score=float("nan"))

    pair = write_part(tmp_path / "in", "7", 204)
    assert "the map is not finite" in str(Predictions(tmp_path / "out", Lost(), RATE).take(pair)[0].error)


def test_stamped_clouds_are_not_taken_for_raw_ones(tmp_path: Path) -> None:
    pair = write_part(tmp_path, "7", 204)
    stamped = replace(pair, xyz=tmp_path / "7.tiff")
    write_cloud(stamped.xyz, cloud(), Preprocessing(), 1.0, "")
    assert inspect(pair, Stub())[1].cleaned  # what the stub makes of raw=None
    assert not inspect(stamped, Stub())[1].cleaned


@pytest.mark.parametrize("cut", [1, 40, 10_000])
def test_a_line_that_was_cut_off_is_removed(cut: int, tmp_path: Path) -> None:
    pairs = [write_part(tmp_path / "in", name, 204) for name in "ab"]
    out = tmp_path / "out"
    for pair in pairs:
        assert take(out, pair, Stub())
    log = out / "predictions.jsonl"
    whole = log.read_bytes()
    ends = whole.index(b"\n") + 1
    os.truncate(log, max(len(whole) - cut, ends // 2 if cut == 10_000 else 0))
    (out / "maps/.b.0123abcd.tmp.tiff").touch()
    Predictions(out, Stub(), RATE)
    assert log.read_bytes() == (b"" if cut == 10_000 else whole[:ends])
    assert sorted(path.name for path in (out / "maps").iterdir()) == ["a.tiff", "b.tiff"]
    assert [take(out, pair, Stub()) for pair in pairs] == [cut == 10_000, True]
    assert [line["sample"] for line in lines(out)] == ["a", "b"]


def test_a_damaged_log_is_refused_and_kept(tmp_path: Path) -> None:
    log = tmp_path / "predictions.jsonl"
    log.write_text('{"sample": "7"}\nnonsense\n{"sample": "8"}\n')
    with pytest.raises(UserError, match=r"predictions\.jsonl, line 2: expected one JSON object"):
        Predictions(tmp_path, Stub(), RATE)
    assert log.read_text().count("\n") == 3
    log.unlink()
    os.mkfifo(log)
    with pytest.raises(UserError, match="expected a file of predictions, found something else"):
        Predictions(tmp_path, Stub(), RATE)


def test_lines_of_others_are_no_obstacle(tmp_path: Path) -> None:
    pair, out = write_part(tmp_path / "in", "7", 204), tmp_path / "out"
    out.mkdir()
    (out / "predictions.jsonl").write_text('{}\n{"sample": ["7"], "sources": [1]}\n{"sample": "7", "score": "x"}\n')
    assert take(out, pair, Stub())
    assert json.loads((out / "predictions.jsonl").read_text().splitlines()[-1])["anomalous"] is True
