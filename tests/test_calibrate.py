"""calibrate.py, and the thresholds that training makes."""

import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import calibrate
import cfm_training
import dbmrnet_training
from evaluation.thresholds import load_scores
from inspection import load_detector
from models.checkpoints import find_run
from tests.trained import Trained
from utils.checkpoint import lock_run
from utils.errors import UserError
from utils.files import sha256_file

NAME = "CFM_thresholds_cap_8ep_4bs.json"


@pytest.fixture
def checkpoint(trained: Trained, tmp_path: Path) -> Path:
    """A copy of CFM's checkpoint that may be changed."""
    shutil.copytree(trained.cfm, tmp_path / "cap")
    return tmp_path / "cap"


def calibrated(checkpoint: Path, parts: Path) -> int:
    return calibrate.main(["--checkpoint", str(checkpoint), "--input", str(parts), "--device", "cpu"])


def test_validation_images_give_the_thresholds_of_training(
    checkpoint: Path, trained: Trained, capsys: pytest.CaptureFixture[str]
) -> None:
    made = load_scores(checkpoint / NAME)
    (checkpoint / NAME).unlink()
    assert calibrated(checkpoint, trained.scenes / "cap/validation") == 0
    again = load_scores(checkpoint / NAME)
    assert again.maxima == pytest.approx(made.maxima, rel=1e-4)  # a part at a time, not in batches
    assert again.levels == pytest.approx(made.levels, rel=1e-3)
    assert (again.weights, again.settings) == (made.weights, made.settings)
    out = capsys.readouterr().out
    limits = again.thresholds(0.05)
    promised = "false alarms 5.0% (promised: 14.29%)"
    assert f"{promised}: image threshold {limits.image:.4g}, map threshold {limits.map:.4g}" in out
    assert "6 nominal validation images" in out


def test_raw_parts_are_cleaned(checkpoint: Path, trained: Trained) -> None:
    made = load_scores(checkpoint / NAME)
    assert calibrated(checkpoint, trained.raw / "cap/validation/good") == 0
    assert load_scores(checkpoint / NAME).maxima == pytest.approx(made.maxima, rel=0.25)


@pytest.mark.parametrize("damage", ["other weights", "broken"])
def test_thresholds_that_cannot_be_used_are_replaced(damage: str, checkpoint: Path, trained: Trained) -> None:
    scores = checkpoint / NAME
    content = json.loads(scores.read_text())
    scores.write_text(json.dumps({**content, "weights": "x"}) if damage == "other weights" else "{")
    with pytest.raises(UserError, match=NAME):
        load_detector(checkpoint, device="cpu")
    assert calibrated(checkpoint, trained.scenes / "cap/validation") == 0
    assert load_detector(checkpoint, device="cpu").thresholds is not None


def test_thresholds_that_are_replaced_are_kept(
    checkpoint: Path, trained: Trained, capsys: pytest.CaptureFixture[str]
) -> None:
    contents = [(checkpoint / NAME).read_bytes()]
    for _ in range(2):
        assert calibrated(checkpoint, trained.scenes / "cap/validation") == 0
        contents.append((checkpoint / NAME).read_bytes())
    kept = [checkpoint / NAME.replace(".json", f".{number}.json") for number in (1, 2)]
    assert [path.read_bytes() for path in kept] == contents[:2]
    assert f"the thresholds so far are kept as {kept[1]}" in capsys.readouterr().out
    assert find_run(checkpoint).name.class_name == "cap"


@pytest.mark.parametrize("form", ["the split", "raw", "other names", "other clouds", "other images"])
def test_training_images_are_refused(form: str, checkpoint: Path, trained: Trained, tmp_path: Path) -> None:
    before, parts = (checkpoint / NAME).read_bytes(), tmp_path / "parts"
    good = (trained.raw if form == "raw" else trained.scenes) / "cap/train/good"
    shutil.copytree(good, parts)
    names = sorted(path.stem for path in (parts / "rgb").iterdir())
    if form == "other names":
        for path in [*parts.glob("rgb/*"), *parts.glob("xyz/*")]:
            path.rename(path.with_stem(f"part_{path.stem}"))
        names = [f"part_{name}" for name in names]
    elif form.startswith("other "):
        for path in parts.glob("xyz/*" if form == "other clouds" else "rgb/*"):
            path.write_bytes(path.read_bytes() + b"\0")
    message = rf"of 8 parts, 8 \({', '.join(names[:5])}, …\) were trained on"
    for folder in (checkpoint, trained.dbmrnet):
        with pytest.raises(UserError, match=message):
            calibrated(folder, parts)
    assert (checkpoint / NAME).read_bytes() == before


def test_an_image_that_training_samples_share_tells_nothing(checkpoint: Path, trained: Trained) -> None:
    """As the black image of a camera without colour."""
    path = checkpoint / "CFM_cap_8ep_4bs.json"
    settings, image = json.loads(path.read_text()), trained.scenes / "cap/validation/good/rgb/000.png"
    settings["training_images"] = {name: f"{sha256_file(image)} {'f' * 64}" for name in ("000", "001")}
    path.write_text(json.dumps(settings))
    assert calibrated(checkpoint, trained.scenes / "cap/validation") == 0
    settings["training_images"] = {"000": f"{sha256_file(image)} {'f' * 64}"}
    path.write_text(json.dumps(settings))
    with pytest.raises(UserError, match=r"of 6 parts, 1 \(good/000\) were trained on"):
        calibrated(checkpoint, trained.scenes / "cap/validation")


def test_checkpoint_that_knows_no_training_images_is_told_once(
    checkpoint: Path, trained: Trained, capsys: pytest.CaptureFixture[str]
) -> None:
    path = checkpoint / "CFM_cap_8ep_4bs.json"
    settings = json.loads(path.read_text())
    del settings["training_images"]
    path.write_text(json.dumps(settings))
    assert calibrated(checkpoint, trained.scenes / "cap/validation") == 0
    assert capsys.readouterr().err.count("note: the checkpoint does not tell its training images") == 1


def test_parts_with_a_defect_are_refused(checkpoint: Path, trained: Trained, tmp_path: Path) -> None:
    """By masks beside them, of any layout, or as test/DEFECT of a dataset."""
    test = trained.scenes / "cap/test"
    with pytest.raises(UserError, match=r"of 6 parts, 4 \(cut/000, .*\) have a defect.*for example validation/good"):
        calibrated(checkpoint, test)
    parts = tmp_path / "parts"
    shutil.copytree(test / "hole", parts)
    (parts / "gt").rename(parts / "ground_truth")
    with pytest.raises(UserError, match=r"of 1 parts, 1 \(000\) have a defect"):
        calibrated(checkpoint, parts)
    mask = parts / "ground_truth/000.png"
    Image.fromarray(np.zeros_like(np.asarray(Image.open(mask)))).save(mask)
    assert calibrated(checkpoint, parts) == 0
    shutil.copytree(test / "hole", tmp_path / "cap/test/line 2", ignore=shutil.ignore_patterns("gt"))
    assert calibrated(checkpoint, tmp_path / "cap/test/line 2") == 0  # no dataset: a folder that is called test
    (tmp_path / "cap/test/good").mkdir()
    with pytest.raises(UserError, match="have a defect"):
        calibrated(checkpoint, tmp_path / "cap/test/line 2")
    assert calibrated(checkpoint, test / "good") == 0


@pytest.mark.parametrize("method", ["CFM", "DBMRNet"])
def test_no_two_commands_write_one_run(method: str, checkpoint: Path, trained: Trained, tmp_path: Path) -> None:
    place = checkpoint if method == "CFM" else trained.dbmrnet
    name = find_run(place).name
    before = {path: path.read_bytes() for path in place.iterdir()}
    words = ["--dataset_path", str(trained.scenes), "--class_name", "cap", "--batch_size", "4"]
    words += ["--checkpoint_savepath", str(place.parent), "--epochs_no", str(name.epochs)]
    train = cfm_training.main if method == "CFM" else dbmrnet_training.main
    with lock_run(name, method):
        for command in (lambda: calibrated(place, trained.scenes / "cap/validation"), lambda: train(words)):
            with pytest.raises(UserError, match=rf"{method}_cap_\dep_4bs: another command is writing to it"):
                command()
        with lock_run(replace(name, epochs=99), method):
            pass
    assert {path: path.read_bytes() for path in place.iterdir()} == before


def test_without_parts_nothing_is_changed(checkpoint: Path, tmp_path: Path) -> None:
    before = (checkpoint / NAME).read_bytes()
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError, match="holds no image and cloud"):
        calibrated(checkpoint, tmp_path / "empty")
    with pytest.raises(UserError, match="no such folder"):
        calibrated(checkpoint, tmp_path / "nowhere")
    assert (checkpoint / NAME).read_bytes() == before


def test_a_bad_part_is_named_and_the_old_thresholds_stay(checkpoint: Path, trained: Trained, tmp_path: Path) -> None:
    before = (checkpoint / NAME).read_bytes()
    shutil.copytree(trained.scenes / "cap/validation", tmp_path / "parts")
    broken = sorted((tmp_path / "parts").rglob("*.tiff"))[2]
    broken.write_bytes(b"II*\0")
    with pytest.raises(UserError, match=broken.name):
        calibrated(checkpoint, tmp_path / "parts")
    assert (checkpoint / NAME).read_bytes() == before


@pytest.mark.parametrize("method", ["CFM", "DBMRNet"])
def test_resume_adds_thresholds_to_a_finished_run(method: str, trained: Trained, tmp_path: Path) -> None:
    """As for a run that was stopped before them, or made before there were any."""
    shutil.copytree(trained.cfm if method == "CFM" else trained.dbmrnet, tmp_path / "cap")
    words = ["--dataset_path", str(trained.scenes), "--class_name", "cap", "--checkpoint_savepath", str(tmp_path)]
    train, options = {
        "CFM": (cfm_training.main, ["--extractor", "handcrafted", "--epochs_no", "8"]),
        "DBMRNet": (dbmrnet_training.main, ["--preset", "small", "--epochs_no", "2", "--batch_size", "4"]),
    }[method]
    before = {path.name: path.read_bytes() for path in (tmp_path / "cap").iterdir()}
    removed = list((tmp_path / "cap").glob("*_thresholds_*.json"))
    made = {path: load_scores(path).maxima for path in removed}
    assert len(removed) == (1 if method == "CFM" else 2)
    for path in removed:
        path.unlink()
    assert train([*words, *options]) == 0
    assert {path: load_scores(path).maxima for path in removed} == made
    after = {path.name: path.read_bytes() for path in (tmp_path / "cap").iterdir()}
    assert after == before
    assert train([*words, *options, "--resume"]) == 0  # all is there: nothing is loaded, nothing written
    assert {path.name: path.read_bytes() for path in (tmp_path / "cap").iterdir()} == before


@pytest.mark.parametrize("method", ["CFM", "DBMRNet"])
def test_without_a_validation_split_training_images_are_kept_back_and_it_is_said(
    method: str, trained: Trained, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    later = shutil.ignore_patterns("00[4-7].*")  # four are enough
    shutil.copytree(trained.scenes / "cap/train", tmp_path / "data/cap/train", ignore=later)
    words = ["--dataset_path", str(tmp_path / "data"), "--class_name", "cap", "--epochs_no", "1", "--batch_size", "4"]
    words += ["--checkpoint_savepath", str(tmp_path), "--device", "cpu"]
    train, options = {
        "CFM": (cfm_training.main, ["--extractor", "handcrafted"]),
        "DBMRNet": (dbmrnet_training.main, ["--preset", "small"]),
    }[method]
    assert train([*words, *options, "--hold_out", "0.5"]) == 0
    assert "There is no validation split: training images were kept back" in capsys.readouterr().out
    settings = json.loads((tmp_path / f"cap/{method}_cap_1ep_4bs.json").read_text())
    scores = load_scores(tmp_path / f"cap/{method}_thresholds_cap_1ep_4bs.json")
    assert (settings["images"], len(scores.maxima), scores.source) == (2, 2, "hold-out")
    assert load_detector(tmp_path / "cap", device="cpu").thresholds == scores.thresholds()

    made = {path: path.read_bytes() for path in (tmp_path / "cap").iterdir()}
    with pytest.raises(
        UserError, match=rf"{method}_cap_1ep_4bs\.json: this finished run was made otherwise \(data\.sha"
    ):
        train([*words, *options, "--resume", "--hold_out", "0"])
    assert {path: path.read_bytes() for path in (tmp_path / "cap").iterdir()} == made
    assert train([*words, *options, "--overwrite", "--hold_out", "0"]) == 0
    said = capsys.readouterr().out
    assert "no thresholds: there are no good images besides" in said
    assert not (tmp_path / f"cap/{method}_thresholds_cap_1ep_4bs.json").exists()
    assert load_detector(tmp_path / "cap", device="cpu").thresholds is None
