"""predict.py: one part, folders, folders that fill up; killed runs; and what it refuses."""

import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
from PIL import Image
from tqdm import tqdm

import cfm_inference
import predict
from datasets.records import scan
from tests.forks import count_changes, run_or_kill
from tests.inspection.onnx_stub import write_stub
from tests.inspection.parts import cloud, image, lines, npy, write_part
from tests.inspection.stub import Stub, install
from tests.trained import Trained
from utils import cli
from utils.errors import UserError
from utils.files import locked

ROOT = Path(__file__).resolve().parents[1]
KILLS = 20
WAIT = 60.0  # seconds until a test gives up
STUB = "some"  # the checkpoint of the stub; others are exported files


@pytest.fixture
def stub(monkeypatch: pytest.MonkeyPatch) -> Stub:
    """The detector that the command line gets."""
    detector = Stub()
    monkeypatch.setattr("inspection.detector.load_detector", lambda checkpoint, **options: detector)
    return detector


def call(out: Path, *options: object, checkpoint: str = STUB) -> int:
    return predict.main(["--checkpoint", checkpoint, "--output", str(out), *map(str, options)])


def test_one_part_is_answered_in_words(stub: Stub, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pair, out = write_part(tmp_path / "in", "7_rgb", 204), tmp_path / "out"
    assert call(out, "--rgb", pair.rgb, "--xyz", pair.xyz) == 0
    said = capsys.readouterr().out.splitlines()
    assert said == [
        "7: ANOMALOUS, score 0.8, threshold 0.6",
        "  raw scan, cleaned of its background first",
        "  region 1: 4×4 pixels at (6, 6), peak 0.8, 16 mm², around x 8.5, y 8.5, z 500.0 mm",
        stub.thresholds.statement() if stub.thresholds else "",
        "the input of parts is not checked: these thresholds are older (see python calibrate.py --help)",
        f"written: {out}/predictions.jsonl, with maps/ and overlays/ beside it",
    ]
    assert [line["sample"] for line in lines(out)] == ["7"]
    assert sorted(path.name for path in out.rglob("*.*")) == ["7.png", "7.tiff", "predictions.jsonl"]


def test_a_single_part_that_cannot_be_used_ends_with_2(
    stub: Stub, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pair, out = write_part(tmp_path / "in", "7", 204), tmp_path / "out"
    pair.xyz.write_bytes(npy(cloud((16, 12))))
    assert cli.run(lambda: call(out, "--rgb", pair.rgb, "--xyz", pair.xyz)) == 2
    assert capsys.readouterr().err == f"error: {pair.xyz} with 7.png: xyz: expected (16, 16, 3), found (16, 12, 3).\n"
    assert lines(out) == []


def test_a_folder_is_answered_once(stub: Stub, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    parts, out = tmp_path / "in", tmp_path / "in/out"
    for name, red in (("a/7", 204), ("a/8", 100), ("b", 255)):
        write_part(parts, name, red)
    assert call(out, "--input", parts) == 0
    assert [(line["sample"], line["anomalous"]) for line in lines(out)] == [("a/7", True), ("a/8", False), ("b", True)]
    assert capsys.readouterr().out.splitlines()[0] == (
        "3 of 3 parts answered: 2 anomalous, 1 good; 0 failed; raw scans, cleaned first: 3"
    )
    write_part(parts, "c", 100)
    assert call(out, "--input", parts) == 0
    said = capsys.readouterr().out.splitlines()
    assert said[0] == "4 of 4 parts answered (3 before): 2 anomalous, 2 good; 0 failed; raw scans, cleaned first: 4"
    assert len(said) == 4
    assert len(lines(out)) == stub.calls == 4


def test_what_fails_in_a_folder_does_not_stop_the_others(
    stub: Stub, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    parts, out = tmp_path / "in", tmp_path / "out"
    for name in ("a", "b", "c"):
        write_part(parts, name, 204)
    (parts / "b.npy").write_bytes(b"broken")
    (parts / "lonely.npy").write_bytes(npy(cloud()))
    for _ in range(2):
        assert call(out, "--input", parts) == 1
        said = capsys.readouterr()
        assert "2 of 3 parts answered" in said.out
        assert ": 2 anomalous; 1 failed; raw scans, cleaned first: 2; unpaired files: 1" in said.out
        failed = [line for line in said.err.splitlines() if line.startswith("failed: ")]
        assert failed[0].startswith(f"failed: {parts}/b.npy: cannot be read")
        assert failed[1].startswith(f"failed: {parts}/lonely.npy: no image")
        assert [(line["sample"], "error" in line) for line in lines(out)] == [("a", False), ("b", True), ("c", False)]
    (parts / "b.npy").write_bytes(npy(cloud()))
    (parts / "lonely.npy").unlink()
    assert call(out, "--input", parts) == 0


def test_without_thresholds_the_way_to_get_them_is_told(
    stub: Stub, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    stub.thresholds = None
    write_part(tmp_path / "in", "7", 204)
    assert call(tmp_path / "out", "--input", tmp_path / "in") == 0
    said = capsys.readouterr().out
    assert "1 of 1 parts answered: 1 no decision; 0 failed" in said
    assert "no decisions: no thresholds: none were made (see python calibrate.py --help)" in said


@pytest.mark.parametrize(
    "options",
    [
        [],
        ["--rgb", "a.png"],
        ["--xyz", "a.npy"],
        ["--input", ".", "--xyz", "a.npy"],
        ["--input", ".", "--watch", "."],
        ["--rgb", "a.png", "--xyz", "a.npy", "--input", "."],
        ["--input", ".", "--false_alarm_rate", "0"],
        ["--input", ".", "--false_alarm_rate", "1"],
        ["--watch", ".", "--interval", "0"],
    ],
)
def test_options_that_say_nothing_clear_are_refused(options: list[str]) -> None:
    with pytest.raises(SystemExit) as stopped:
        predict.parse(["--checkpoint", "some", *options])
    assert stopped.value.code == 2


def test_folders_that_cannot_be_used_are_refused(stub: Stub, tmp_path: Path) -> None:
    parts = tmp_path / "in"
    write_part(parts, "7", 204)
    (tmp_path / "file").touch()
    for name in ("empty", "lonely"):
        (tmp_path / name).mkdir()
    (tmp_path / "lonely/8.png").touch()
    for out, mode, folder, words in (
        ("out", "--input", "nothing", "no such folder"),
        ("file", "--input", "in", "found a file"),
        ("in", "--input", "in", "holds the parts"),
        (".", "--input", "in", "holds the parts"),
        ("out", "--input", "empty", "holds no image and cloud"),
        ("out", "--input", "lonely", "no cloud"),
    ):
        with pytest.raises(UserError, match=words):
            call(tmp_path / out, mode, tmp_path / folder)
    assert stub.calls == 0


def test_two_runs_do_not_write_to_one_folder(stub: Stub, tmp_path: Path) -> None:
    write_part(tmp_path / "in", "7", 204)
    with locked(tmp_path / "out"), pytest.raises(UserError, match="another command is writing"):
        call(tmp_path / "out", "--input", tmp_path / "in")


@contextmanager
def watching(parts: Path, out: Path, checkpoint: str = STUB) -> Iterator[subprocess.Popen[str]]:
    """The command line with the stub or an exported file as a process that watches a folder."""
    command = ["-m", "tests.inspection.stub"] if checkpoint == STUB else ["predict.py"]
    words = [sys.executable, "-u", *command, "--checkpoint", checkpoint]
    words += ["--watch", str(parts), "--output", str(out), "--interval", "0.2"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    with subprocess.Popen(
        words, cwd=ROOT, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        try:
            yield process
        finally:
            process.kill()


def wait_for_lines(out: Path, count: int) -> list[dict[str, Any]]:
    deadline = time.monotonic() + WAIT
    while len(found := lines(out)) < count and time.monotonic() < deadline:
        time.sleep(0.05)
    assert len(found) == count
    return found


# Slow, as those below: processes that watch, are stopped or killed, each with all its imports.
@pytest.mark.slow
def test_a_folder_that_fills_up(tmp_path: Path) -> None:
    """It comes late, its files slowly, one broken and then repaired, one deleted."""
    parts, out = tmp_path / "in", tmp_path / "out"
    with watching(parts, out) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == f"watching {parts}, which is not there yet; Ctrl-C ends\n"
        time.sleep(0.5)
        pair = write_part(parts, "a/7", 204)
        wait_for_lines(out, 1)
        content = npy(cloud())
        Image.fromarray(image(100)).save(parts / "8.png")
        for start in range(0, len(content), 300):  # a slow writer: eleven pieces
            with (parts / "8.npy").open("ab") as stream:
                stream.write(content[start : start + 300])
            time.sleep(0.1)
        found = wait_for_lines(out, 2)
        assert ["error" in line for line in found] == [False, False]
        Image.fromarray(image(204)).save(parts / "9.png")
        (parts / "9.npy").write_bytes(content[: len(content) // 2])
        assert "cannot be read" in wait_for_lines(out, 3)[2]["error"]
        (parts / "9.npy").write_bytes(content)
        assert wait_for_lines(out, 4)[3]["anomalous"] is True
        pair.rgb.unlink()
        (parts / "lonely.png").write_bytes(b"x")
        write_part(parts, "b", 255)
        found = wait_for_lines(out, 5)
        time.sleep(0.6)
        process.send_signal(signal.SIGINT)
        said, errors = process.communicate(timeout=WAIT)
        assert process.returncode == 0
    assert [line["sample"] for line in lines(out)] == ["a/7", "8", "9", "9", "b"]
    first, second, third, fourth, fifth, summary, *_ = said.splitlines()
    assert first == "a/7: ANOMALOUS, score 0.8"
    assert second == "8: good, score 0.3922"
    assert third.startswith(f"9: failed: {parts}/9.npy: cannot be read")
    assert (fourth, fifth) == ("9: ANOMALOUS, score 0.8", "b: ANOMALOUS, score 1")
    told = "4 of 4 parts answered: 3 anomalous, 1 good; 0 failed; raw scans, cleaned first: 4; unpaired files: 2"
    assert summary == told
    assert f"not answered: {parts}/a/7.npy: no image" in errors
    assert f"not answered: {parts}/lonely.png: no cloud" in errors
    assert "Traceback" not in errors


@pytest.mark.slow
@pytest.mark.parametrize(
    ("exported", "numbers"), [(False, (signal.SIGINT, signal.SIGTERM)), (True, (signal.SIGTERM, signal.SIGINT))]
)
def test_watching_goes_on_after_a_stop(exported: bool, numbers: tuple[signal.Signals, ...], tmp_path: Path) -> None:
    """Here the answers lie in the folder that is watched. What is with them is not taken for parts."""
    checkpoint = str(write_stub(tmp_path / "part.onnx")) if exported else STUB
    parts, out = tmp_path / "in", tmp_path / "in/out"
    write_part(out, "1", 204)
    write_part(parts, "7", 204)
    for round_, (name, number) in enumerate(zip(("7", "8"), numbers, strict=True), 1):
        with watching(parts, out, checkpoint) as process:
            wait_for_lines(out, round_)
            process.send_signal(number)
            said, errors = process.communicate(timeout=WAIT)
            assert process.returncode == 0, errors
        assert lines(out)[-1]["sample"] == name
        assert f"written: {out}" in said
        write_part(parts, "8", 100)
    assert "7: ANOMALOUS, score 0.8 (known before)" in said
    assert f"{round_} of 2 parts answered (1 before): 1 anomalous, 1 good; 0 failed" in said


def without_seconds(out: Path) -> dict[str, Any]:
    """Files of an output folder by name, the log without the time that answers took."""
    found: dict[str, Any] = {
        path.relative_to(out).as_posix(): path.read_bytes() for path in out.rglob("*") if path.is_file()
    }
    return found | {"predictions.jsonl": [{**line, "seconds": 0} for line in lines(out)]}


def kill_again_and_again(folder: Path, exported: bool) -> dict[str, int]:
    """Start, kill at some change of a file, start again, until it is through; anew until KILLS are reached.

    Args:
        exported: an exported file, which looks at parts side by side, instead of the stub.

    Returns:
        The number of `kills`, and how many of them came `midway`, when some parts had their answers.
    """
    checkpoint = str(write_stub(folder / "part.onnx")) if exported else STUB
    if not exported:
        install(Stub())
    parts = folder / "in"
    for index in range(8):
        write_part(parts, f"{index % 2}/{index}", 204 if index % 3 else 100)
    (parts / "0/4.npy").write_bytes(b"broken")
    # What is imported late is there for the children.
    assert call(folder / "warm", "--input", parts, checkpoint=checkpoint) == 1
    status, changes = count_changes(lambda: call(folder / "whole", "--input", parts, checkpoint=checkpoint))
    assert status == 1
    whole = without_seconds(folder / "whole")
    out, rng = folder / "out", random.Random(0)
    kills = midway = 0
    while kills < KILLS:
        shutil.rmtree(out, ignore_errors=True)
        while (ended := run_or_kill(lambda: call(out, "--input", parts, checkpoint=checkpoint), changes, rng)) is None:
            kills += 1
            found = without_seconds(out)
            log = found.pop("predictions.jsonl")
            midway += 0 < len(log) < 8
            assert log == whole["predictions.jsonl"][: len(log)]
            assert all(content == whole[name] for name, content in found.items() if Path(name).name[0] != ".")
            assert all(line[part] in found for line in log if "error" not in line for part in ("map", "overlay"))
        assert ended == 1
        assert without_seconds(out) == whole
    return {"kills": kills, "midway": midway}


@pytest.mark.slow
@pytest.mark.parametrize("exported", [False, True])
def test_killed_runs_go_on_to_the_same_answers(exported: bool, tmp_path: Path) -> None:
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1"}
    command = [sys.executable, __file__, str(tmp_path), "exported" if exported else "stub"]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr[-2000:]
    report = json.loads(done.stdout.splitlines()[-1])
    assert report["kills"] >= KILLS
    assert report["midway"] >= KILLS // 3


# Slow, as the next: detectors of both methods are trained, once for all tests that need them.
@pytest.mark.slow
def test_a_trained_detector_says_what_its_evaluation_says(trained: Trained, tmp_path: Path) -> None:
    """Preprocessed scenes, their layout as it is: scores, decisions and native maps up to their normalisation."""
    folder, out = trained.scenes / "cap/test", tmp_path / "out"
    options = ["--checkpoint", str(trained.cfm), "--device", "cpu", "--output", str(out)]
    assert predict.main([*options, "--input", str(folder)]) == 0
    words = ["--dataset_path", str(trained.scenes), "--class_name", "cap", "--epochs_no", "8", "--device", "cpu"]
    words += ["--checkpoint_folder", str(trained.cfm.parent), "--quantitative_folder", str(tmp_path / "q")]
    assert cfm_inference.main([*words, "--save_maps", str(tmp_path / "maps"), "--map_size", "native"]) == 0
    result = json.loads(next((tmp_path / "q").glob("cap_*.json")).read_text())
    found = {line["sample"]: line for line in lines(out)}
    assert len(found) == len(result["samples"]) == 6
    for sample in result["samples"]:
        name = f"{sample['defect']}/{sample['stem']}"
        line = found[name]
        assert line["score"] == pytest.approx(sample["raw_max"], rel=1e-4)
        assert line["anomalous"] == (line["score"] > line["threshold"]) == bool(line["regions"])
        assert line["cleaned"] is False
        values, native = tifffile.imread(out / line["map"]), tifffile.imread(tmp_path / f"maps/cap/test/{name}.tiff")
        assert values.shape == (210, 240)
        factor = values.sum() / native.sum()
        np.testing.assert_allclose(values, native * factor, rtol=1e-3, atol=1e-4 * values.max())
        assert np.asarray(Image.open(out / line["overlay"])).shape[1] == 240


@pytest.mark.slow
def test_raw_scans_give_nearly_the_answers_of_preprocessed_ones(trained: Trained, tmp_path: Path) -> None:
    """They differ by the random draws of the background plane."""
    answers = []
    for root, cleaned in ((trained.raw, True), (trained.scenes, False)):
        options = ["--checkpoint", str(trained.dbmrnet), "--device", "cpu", "--output", str(tmp_path / root.name)]
        assert predict.main([*options, "--input", str(root / "cap/test")]) == 0
        answers.append({line["sample"]: line for line in lines(tmp_path / root.name)})
        assert {line["cleaned"] for line in answers[-1].values()} == {cleaned}
    raw, preprocessed = answers
    assert raw.keys() == preprocessed.keys() == {f"{r.defect}/{r.stem}" for r in scan(trained.raw, "cap", "test")}
    for name, line in raw.items():
        assert line["score"] == pytest.approx(preprocessed[name]["score"], rel=0.25)
        maps = [tifffile.imread(tmp_path / root / line["map"]) for root in ("raw", "raw_preprocessed")]
        assert (np.abs(maps[0] - maps[1]) > 0.1 * line["score"]).mean() < 0.03


if __name__ == "__main__":
    tqdm.monitor_interval = 0  # no thread, so that forking is safe
    print(json.dumps(kill_again_and_again(Path(sys.argv[1]), sys.argv[2] == "exported")))
