"""The command lines of DBMRNet end to end on a few generated scenes."""

import json
import shutil
from dataclasses import fields
from pathlib import Path

import numpy as np
import pytest
import tifffile
import torch
from safetensors.torch import load_file

import dbmrnet_inference
import dbmrnet_training
import evaluate_maps
from datasets.scenes.writer import Counts, write_mvtec3d
from models.dbmrnet.settings import ModelSettings
from processing import aggregate_results, preprocess_mvtec
from utils import cli
from utils.errors import UserError
from utils.files import locked, sha256_file

RUN = ["--class_name", "cap", "--epochs_no", "2", "--batch_size", "3", "--device", "cpu"]
WEIGHTS = "cap/DBMRNet_cap_2ep_3bs.safetensors"


@pytest.fixture(scope="module")
def scenes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Preprocessed generated scenes of one class, with two good and two bad parts to test."""
    raw = tmp_path_factory.mktemp("scenes") / "raw"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("datasets.scenes.writer.DEFECTS", ("hole", "paint"))
        write_mvtec3d(raw, ["cap"], 200, Counts(train=5, validation=2, test=1), seed=3, workers=1)
    assert preprocess_mvtec.main([str(raw), "--workers", "1"]) == 0
    return raw.with_name("raw_preprocessed")


def train(scenes: Path, folder: Path, *options: str) -> int:
    """A short training with preset small."""
    words = ["--dataset_path", str(scenes), "--checkpoint_savepath", str(folder), "--preset", "small", *options]
    return dbmrnet_training.main([*RUN, *words])


@pytest.fixture(scope="module")
def trained(scenes: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Checkpoints on the scenes."""
    folder = tmp_path_factory.mktemp("checkpoints")
    assert train(scenes, folder) == 0
    return folder


def infer(scenes: Path, checkpoints: Path, folder: Path, *options: str) -> int:
    """Evaluate; results go to q/ and pictures/."""
    words = ["--dataset_path", str(scenes), "--checkpoint_folder", str(checkpoints)]
    words += ["--quantitative_folder", str(folder / "q"), "--qualitative_folder", str(folder / "pictures")]
    return dbmrnet_inference.main([*RUN, *words, *options])


def test_training_writes_a_checkpoint_with_everything_beside_it(trained: Path) -> None:
    names = {path.name.replace("cap_2ep_3bs", "RUN") for path in (trained / "cap").iterdir()}
    weights = {"DBMRNet_RUN.safetensors", "DBMRNet_best_RUN.safetensors"}
    thresholds = {"DBMRNet_thresholds_RUN.json", "DBMRNet_best_thresholds_RUN.json"}
    assert names == weights | thresholds | {"DBMRNet_RUN.json", "DBMRNet_RUN.jsonl", "DBMRNet_RUN.png"}
    settings = json.loads((trained / "cap/DBMRNet_cap_2ep_3bs.json").read_text())
    assert settings["config"]["model"] == {
        **{field.name: field.default for field in fields(ModelSettings)},
        "preset": "small",
    }
    assert settings["config"]["learning_rate"] == 2e-3
    assert set(settings["config"]["data"]["sha256"]) == {"train", "validation"}
    assert settings["images"] == 5
    entries = [json.loads(line) for line in (trained / "cap/DBMRNet_cap_2ep_3bs.jsonl").read_text().splitlines()]
    assert [entry["epoch"] for entry in entries] == [1, 2]
    assert {"loss_3D", "loss_2D", "loss_cross", "loss_validation"} <= set(entries[0])
    state = load_file(trained / WEIGHTS)
    assert {"network.radii", "residual_means", "feature_means"} <= set(state)
    assert (state["residual_means"] > 0).all()
    assert state["residual_means"].max() < 10


@pytest.fixture(scope="module")
def evaluated(scenes: Path, trained: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Results of the checkpoint: q/, pictures/, maps/."""
    folder = tmp_path_factory.mktemp("evaluated")
    assert infer(scenes, trained, folder, "--produce_qualitatives", "--save_maps", str(folder / "maps")) == 0
    return folder


def test_inference_reports_the_fused_map_and_each_branch(evaluated: Path, tmp_path: Path) -> None:
    result = json.loads((evaluated / "q/cap_2ep_3bs.json").read_text())
    lines = (evaluated / "q/cap_2ep_3bs.md").read_text().splitlines()
    assert lines[0] == "Metrics for class cap with 2ep_3bs"
    assert [lines[3], lines[5]] == ["2D only", "3D only"]
    for line, figures in ((2, result), (4, result["branches"]["2D only"]), (6, result["branches"]["3D only"])):
        expected = [*figures["aupro"].values(), figures["p_auroc"], figures["i_auroc"]]
        assert lines[line] == " & ".join(f"{figure:.3f}" for figure in expected)
    assert result["branches"]["2D only"]["p_auroc"] != result["branches"]["3D only"]["p_auroc"]
    assert {key: result["config"][key] for key in ("method", "preset", "score", "fusion", "checkpoint")} == {
        "method": "DBMRNet",
        "preset": "small",
        "score": "local",
        "fusion": "max",
        "checkpoint": "last",
    }
    assert len(list((evaluated / "pictures/cap").glob("*.png"))) == 2 + 2
    maps = {path.parent.name: tifffile.imread(path) for path in (evaluated / "maps").rglob("*.tiff")}
    assert len(maps) == 3  # of two good ones the last
    for sample in result["samples"]:  # the score is the maximum of the map, whatever the image
        if sample["defect"] != "good":
            assert np.isclose(sample["image_score"], maps[sample["defect"]].max(), rtol=1e-6)
    words = ["--quantitative_folder", str(evaluated / "q"), "--output", str(tmp_path / "t.md")]
    assert aggregate_results.main(words) == 0
    table = (tmp_path / "t.md").read_text()
    assert "DBMRNet (3D only)" in table


def test_saved_maps_have_the_figures_of_the_result_file(
    scenes: Path, trained: Path, evaluated: Path, tmp_path: Path
) -> None:
    assert infer(scenes, trained, tmp_path, "--save_maps", str(tmp_path / "maps"), "--map_size", "native") == 0
    figures = {}
    for size, shape, maps in (("grid", (224, 224), evaluated / "maps"), ("native", (200, 200), tmp_path / "maps")):
        assert {tifffile.imread(path).shape for path in maps.rglob("*.tiff")} == {shape}
        words = ["--dataset_base_dir", str(scenes), "--anomaly_maps_dir", str(maps)]
        assert evaluate_maps.main([*words, "--output_dir", str(tmp_path)]) == 0
        figures[size] = json.loads((tmp_path / "metrics.json").read_text())["cap"]
    result = json.loads((tmp_path / "q/cap_2ep_3bs.json").read_text())
    assert figures["grid"] == {
        "au_pro": result["aupro_exact"]["0.3"],
        "au_roc": result["i_auroc"],
        "p_auroc": result["p_auroc"],
    }
    assert figures["native"] != figures["grid"]
    assert abs(figures["native"]["au_pro"] - figures["grid"]["au_pro"]) < 0.02


def test_score_fusion_and_checkpoint_change_the_result(
    scenes: Path, trained: Path, evaluated: Path, tmp_path: Path
) -> None:
    places: dict[tuple[str, ...], Path] = {(): evaluated}
    for other in (("--score", "both"), ("--fusion", "product"), ("--checkpoint", "best")):
        places[other] = tmp_path / "_".join(other)
        assert infer(scenes, trained, places[other], *other) == 0
    found = {}
    for options, place in places.items():
        result = json.loads((place / "q/cap_2ep_3bs.json").read_text())
        found[options] = [sample["raw_max"] for sample in result["samples"]]
    assert found[()] != found["--score", "both"]
    assert found[()] != found["--fusion", "product"]


def test_finished_run_is_left_and_changed_validation_files_are_seen(scenes: Path, tmp_path: Path) -> None:
    data = tmp_path / "data"
    for split in ("train", "validation"):
        shutil.copytree(scenes / "cap" / split, data / "cap" / split)
    assert train(data, tmp_path / "c", "--shots", "2") == 0
    first = (tmp_path / "c" / WEIGHTS).stat().st_mtime_ns
    assert train(data, tmp_path / "c", "--shots", "2") == 0
    assert (tmp_path / "c" / WEIGHTS).stat().st_mtime_ns == first
    shutil.rmtree(data / "cap/validation")
    with pytest.raises(UserError, match=r"made otherwise \(data\.sha256\.validation: of other files\)"):
        train(data, tmp_path / "c", "--shots", "2")
    assert train(data, tmp_path / "c", "--shots", "2", "--overwrite") == 0
    assert (tmp_path / "c" / WEIGHTS).stat().st_mtime_ns != first
    settings = json.loads((tmp_path / "c/cap/DBMRNet_cap_2ep_3bs.json").read_text())
    assert list(settings["files"]) == ["DBMRNet_cap_2ep_3bs.safetensors"]
    with pytest.raises(UserError, match="trained without validation images"):
        infer(scenes, tmp_path / "c", tmp_path, "--checkpoint", "best")


def test_evaluation_reserves_its_files_before_it_begins(
    scenes: Path, trained: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with locked(tmp_path / "q", "cap_2ep_3bs"), pytest.raises(UserError, match="q/cap_2ep_3bs: another command is"):
        infer(scenes, trained, tmp_path, "--produce_qualitatives")
    assert "inference" not in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


def test_training_images_are_kept_with_the_checkpoint_and_not_in_results(
    scenes: Path, trained: Path, evaluated: Path
) -> None:
    settings = json.loads((trained / "cap/DBMRNet_cap_2ep_3bs.json").read_text())
    good = scenes / "cap/train/good"
    assert settings["training_images"] == {
        f"{i:03d}": f"{sha256_file(good / f'rgb/{i:03d}.png')} {sha256_file(good / f'xyz/{i:03d}.tiff')}"
        for i in range(5)
    }
    made = json.loads((evaluated / "q/cap_2ep_3bs.json").read_text())["config"]["training"]
    assert made == {key: value for key, value in settings.items() if key != "training_images"}


def test_same_seed_gives_the_same_weights(scenes: Path, trained: Path, tmp_path: Path) -> None:
    assert train(scenes, tmp_path / "same") == 0
    assert train(scenes, tmp_path / "other", "--seed", "1") == 0
    expected, same, other = (load_file(folder / WEIGHTS) for folder in (trained, tmp_path / "same", tmp_path / "other"))
    assert all(torch.equal(expected[name], same[name]) for name in expected)
    assert not torch.equal(expected["network.point_head.weight"], other["network.point_head.weight"])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--mask_ratio", "0.6"], "--mask_ratio 0.6, --passes 4"),
        (["--passes", "5", "--mask_ratio", "0.8"], "--passes 5: the 64 image tokens"),
    ],
)
def test_masks_that_cannot_be_cut_are_refused(scenes: Path, options: list[str], message: str, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=message):
        train(scenes, tmp_path, *options)
    assert list(tmp_path.iterdir()) == []


def test_wrong_checkpoints_are_refused(scenes: Path, trained: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="--preset mid: the checkpoint was trained with small"):
        infer(scenes, trained, tmp_path, "--preset", "mid")
    with pytest.raises(UserError, match="no such file"):
        infer(scenes, tmp_path, tmp_path)
    shutil.copytree(trained, tmp_path / "c")
    weights = tmp_path / "c" / WEIGHTS
    weights.write_bytes(weights.read_bytes()[:-1] + b"\x00")
    with pytest.raises(UserError, match="sha256 differs"):
        infer(scenes, tmp_path / "c", tmp_path)
    assert not (tmp_path / "q").exists()


def test_error_exits_with_status_2(scenes: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.run(lambda: train(scenes, tmp_path, "--mask_ratio", "0.6")) == 2
    assert capsys.readouterr().err.startswith("error: --mask_ratio 0.6")
