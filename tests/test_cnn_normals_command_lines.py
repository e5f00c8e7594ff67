"""The extractor cnn_normals through the command lines: training, cache, resuming, evaluation, thresholds, one part."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
import torch
from PIL import Image

import cfm_inference
import cfm_training
from datasets.scenes.writer import Counts, write_mvtec3d
from inspection.detector import load_detector
from models.cfm import training
from models.token_store import load_tokens
from processing import preprocess_mvtec
from utils.errors import UserError

EPOCHS = 4


@pytest.fixture(scope="module")
def scenes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Caps on frames of 240×210 pixels, preprocessed: the padded square is not the frame."""
    raw = tmp_path_factory.mktemp("scenes") / "raw"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("datasets.scenes.writer.DEFECTS", ("hole", "paint"))
        write_mvtec3d(raw, ["cap"], 240, Counts(train=5, validation=3, test=1), seed=5, workers=1)
    for path in raw.rglob("*.png"):
        Image.fromarray(np.asarray(Image.open(path))[15:-15]).save(path)
    for path in raw.rglob("*.tiff"):
        tifffile.imwrite(path, tifffile.imread(path)[15:-15], photometric="rgb")
    assert preprocess_mvtec.main([str(raw), "--workers", "1"]) == 0
    return raw.with_name("raw_preprocessed")


@pytest.fixture(autouse=True)
def short(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two updates a step, of a tenth of the pixels."""
    shorten(monkeypatch)


def shorten(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(training, "UPDATES", 16)
    patch.setattr(training, "CELLS", 16 * 1024)


def train(scenes: Path, folder: Path, *more: str) -> Path:
    """Train; returns the class's folder of checkpoints."""
    words = ["--dataset_path", str(scenes), "--class_name", "cap", "--extractor", "cnn_normals", "--augment", "mirror"]
    words += ["--epochs_no", str(EPOCHS), "--checkpoint_savepath", str(folder), *more]
    assert cfm_training.main(words) == 0
    return folder / "cap"


@pytest.fixture(scope="module")
def trained(scenes: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkpoint on the scenes."""
    with pytest.MonkeyPatch.context() as patch:
        shorten(patch)
        return train(scenes, tmp_path_factory.mktemp("checkpoints"))


def weights(folder: Path) -> dict[str, torch.Tensor]:
    """Of the mapper from RGB to normals."""
    state: dict[str, torch.Tensor] = torch.load(next(folder.glob("CFM_2Dto3D_*.pth")), weights_only=True)
    return state


def test_what_is_kept_beside_the_weights(trained: Path) -> None:
    settings = json.loads((trained / "CFM_cap_4ep_4bs.json").read_text())
    config = settings["config"]
    assert (settings["images"], config["augment"]) == (5, "mirror")
    assert config["mapper"] == "mlp_wide"
    assert config["pixel_fraction"] is None
    assert config["extractor"]["backbone"] == "efficientnet_lite0"
    assert config["extractor"]["view"] == {"kind": "object", "size": 320, "margin": 0.15}
    assert len(config["extractor"]["weights_sha256"]) == 64
    assert weights(trained)["input.weight"].shape == (528, 176)
    losses = [json.loads(line) for line in (trained / "CFM_cap_4ep_4bs.jsonl").read_text().splitlines()]
    assert losses[-1]["loss_2Dto3D"] < 0.9 * losses[0]["loss_2Dto3D"]


def test_cached_and_resumed_runs_end_like_the_first(scenes: Path, trained: Path, tmp_path: Path) -> None:
    cache = ["--token_cache", str(tmp_path / "cache")]
    expected = weights(trained)

    def stop(self: training.CFMLearner) -> dict[str, float]:
        if self.done == 12:
            raise KeyboardInterrupt
        return {}

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(training.CFMLearner, "after_epoch", stop)
        patch.setattr(training.train, "__defaults__", (0.0,))  # save after each epoch
        with pytest.raises(KeyboardInterrupt):
            train(scenes, tmp_path / "a", *cache)
    assert len(list((tmp_path / "cache").iterdir())) == 2 * 5
    assert load_tokens(next((tmp_path / "cache").iterdir())).in_cells
    found = weights(train(scenes, tmp_path / "a", *cache, "--resume"))
    assert all(torch.equal(found[name], value) for name, value in expected.items())


def test_evaluation_predict_and_thresholds_agree(scenes: Path, trained: Path, tmp_path: Path) -> None:
    words = ["--dataset_path", str(scenes), "--class_name", "cap", "--epochs_no", str(EPOCHS)]
    words += ["--checkpoint_folder", str(trained.parent), "--quantitative_folder", str(tmp_path / "q")]
    assert cfm_inference.main([*words, "--save_maps", str(tmp_path / "maps"), "--map_size", "native"]) == 0
    result: dict[str, Any] = json.loads((tmp_path / "q/cap_4ep_4bs.json").read_text())
    assert result["config"]["view"] == "object"
    assert result["config"]["backbone"] == "efficientnet_lite0"
    assert result["i_auroc"] >= 0.5
    assert result["p_auroc"] > 0.8
    sample = next(item for item in result["samples"] if item["label"])
    assert sample["image_score"] == sample["raw_max"]  # one scale for all images

    detector = load_detector(trained)
    folder = scenes / "cap/test" / sample["defect"]
    image = np.asarray(Image.open(folder / f"rgb/{sample['stem']}.png").convert("RGB"))
    answer = detector.predict(image, tifffile.imread(folder / f"xyz/{sample['stem']}.tiff"))
    assert answer.score == pytest.approx(sample["raw_max"], rel=1e-3)
    assert answer.map.shape == image.shape[:2]
    assert detector.thresholds is not None
    assert detector.thresholds.images == 3
    saved = tifffile.imread(tmp_path / "maps/cap/test" / sample["defect"] / f"{sample['stem']}.tiff")
    assert np.allclose(saved, answer.map, rtol=1e-2, atol=1e-3 * answer.score)


def test_other_views_and_networks_than_the_checkpoints_are_refused(scenes: Path, trained: Path) -> None:
    words = ["--dataset_path", str(scenes), "--class_name", "cap", "--epochs_no", str(EPOCHS)]
    words += ["--checkpoint_folder", str(trained.parent)]
    with pytest.raises(UserError, match="--view frame: the checkpoint was trained with object"):
        cfm_inference.main([*words, "--view", "frame"])
    with pytest.raises(UserError, match="--backbone resnet18: the checkpoint was trained with efficientnet_lite0"):
        cfm_inference.main([*words, "--backbone", "resnet18"])


def test_few_shots_of_the_frame_in_bfloat16(scenes: Path, tmp_path: Path) -> None:
    folder = train(
        scenes, tmp_path, "--shots", "2", "--view", "frame", "--precision", "bf16", "--pixel_fraction", "0.5"
    )
    config = json.loads((folder / "CFM_cap_4ep_4bs.json").read_text())["config"]
    assert config["extractor"]["view"]["kind"] == "frame"
    assert config["pixel_fraction"] == 0.5
    assert load_detector(folder).thresholds is not None
