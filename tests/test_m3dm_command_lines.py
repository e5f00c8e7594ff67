"""M3DM's command lines end to end on small generated domes."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

import evaluate
import predict
import train
from inspection import load_detector
from models.checkpoints import find_run, load_run
from models.m3dm import plan, uff
from tests.domes import dome, write_domes
from utils.errors import UserError

BANKS = ("rgb", "xyz", "fusion")


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_domes(tmp_path_factory.mktemp("domes"))


def words(data: Path, *more: str) -> list[str]:
    return ["--method", "m3dm", "--dataset_path", str(data), "--class_name", "dome", "--device", "cpu", *more]


def learn(data: Path, folder: Path, *options: str) -> dict[str, torch.Tensor]:
    """Train; the tensors that were written."""
    extractor = ["--extractor", "handcrafted", "--checkpoint_savepath", str(folder)]
    assert train.main(words(data, *extractor, *options)) == 0
    (path,) = (folder / "dome").glob("M3DM_dome_*.safetensors")
    return load_file(path)


@pytest.fixture(scope="module")
def trained(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("checkpoints")
    learn(data, folder)
    return folder


def test_training_writes_three_banks_and_says_how_many_rows_they_keep(trained: Path) -> None:
    names = {path.name for path in (trained / "dome").iterdir()}
    ends = (".safetensors", ".json", ".jsonl")
    assert names == {f"M3DM_dome_1ep_4bs{end}" for end in ends} | {"M3DM_thresholds_dome_1ep_4bs.json"}
    state = load_file(trained / "dome/M3DM_dome_1ep_4bs.safetensors")
    entry = json.loads((trained / "dome/M3DM_dome_1ep_4bs.jsonl").read_text())
    kept = {bank: len(state[f"bank.{bank}.rows"]) for bank in BANKS}
    assert entry == {"epoch": 1, "cells": entry["cells"], "kept": kept}
    assert kept == dict.fromkeys(BANKS, int(0.1 * entry["cells"]))  # RGB's tokens lie on 56×56 cells as well
    assert state["bank.fusion.rows"].shape[1] == 72 + 38
    assert state["decision.image"].shape == state["decision.map"].shape == (3,)
    config = json.loads((trained / "dome/M3DM_dome_1ep_4bs.json").read_text())["config"]
    model = {"modalities": "both", "fraction": 0.1, "uff": False, "decision": "zscore", "as_released": False}
    assert config["model"] == model


def test_as_released_two_banks_are_smaller_and_all_have_one_unit(data: Path, trained: Path, tmp_path: Path) -> None:
    state = learn(data, tmp_path, "--as_released")
    own = load_file(trained / "dome/M3DM_dome_1ep_4bs.safetensors")
    count = len(own["bank.xyz.rows"])
    assert [len(state[f"bank.{bank}.rows"]) for bank in BANKS] == [count // 10, count, count // 10]
    assert len({float(state[f"bank.{bank}.scale"]) for bank in BANKS}) == 1
    assert len({float(own[f"bank.{bank}.scale"]) for bank in BANKS}) == 3
    (settings,) = (tmp_path / "dome").glob("M3DM_dome_*.json")
    assert json.loads(settings.read_text())["config"]["model"]["decision"] == "svm"


def evaluated(data: Path, checkpoints: Path, folder: Path, *more: str) -> dict[str, Any]:
    place = ["--checkpoint_folder", str(checkpoints), "--quantitative_folder", str(folder)]
    assert evaluate.main(words(data, *place, *more)) == 0
    (path,) = folder.glob("dome_*.json")
    result: dict[str, Any] = json.loads(path.read_text())
    return result


def test_evaluation_and_predict_agree_and_a_dent_is_found(data: Path, trained: Path, tmp_path: Path) -> None:
    result = evaluated(data, trained, tmp_path / "q")
    assert result["i_auroc"] == 1.0
    assert list(result["branches"]) == ["2D only", "3D only"]
    assert result["config"]["extractor"] == "handcrafted"
    assert result["config"]["modalities"] == "both"
    assert set(result["config"]["rows"]) == set(BANKS)
    detector = load_detector(trained / "dome", device="cpu")
    answer = detector.predict(*dome(7))  # the first good test image
    (sample,) = (s for s in result["samples"] if (s["defect"], s["stem"]) == ("good", "000"))
    assert answer.score == pytest.approx(sample["raw_max"], rel=1e-3)
    assert sample["image_score"] != pytest.approx(sample["raw_max"], rel=1e-2)  # that is re-weighted, of a cell
    test = data / "dome/test/dent"
    pair = ["--rgb", str(test / "rgb/000.png"), "--xyz", str(test / "xyz/000.tiff")]
    assert predict.main(["--checkpoint", str(trained / "dome"), *pair, "--output", str(tmp_path / "answers")]) == 0


@pytest.mark.parametrize("modality", ["rgb", "xyz"])
def test_one_modality_has_one_bank_and_no_branches(data: Path, modality: str, tmp_path: Path) -> None:
    state = learn(data, tmp_path, "--modalities", modality, "--fraction", "0.05")
    assert [key for key in state if key.startswith("bank.")] == [f"bank.{modality}.rows", f"bank.{modality}.scale"]
    result = evaluated(data, tmp_path, tmp_path / "q")
    assert "branches" not in result
    assert result["p_auroc"] > 0.8


def test_the_network_is_trained_resumed_and_used(data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(uff, "UPDATES", 12)
    monkeypatch.setattr(uff, "PATCHES", 128)
    monkeypatch.setattr(plan, "SAVE_SECONDS", 0.0)
    options = ["--uff", "--epochs_no", "3", "--batch_size", "2"]
    first = learn(data, tmp_path / "a", *options)

    def stop(self: uff.UFFLearner) -> dict[str, float]:
        if self.done == 8:
            raise KeyboardInterrupt
        return {}

    with monkeypatch.context() as patch:
        patch.setattr(uff.UFFLearner, "after_epoch", stop)
        with pytest.raises(KeyboardInterrupt):
            learn(data, tmp_path / "b", *options)
    assert (tmp_path / "b/dome/M3DM_resume_dome_3ep_2bs.pth").is_file()
    second = learn(data, tmp_path / "b", *options, "--resume")
    assert first.keys() == second.keys()
    assert all(torch.equal(value, second[key]) for key, value in first.items())
    log = [json.loads(line) for line in (tmp_path / "b/dome/M3DM_dome_3ep_2bs.jsonl").read_text().splitlines()]
    assert [entry["epoch"] for entry in log] == [1, 2, 3]
    assert log[-1]["loss"] < log[0]["loss"]
    assert {"uff.xyz_mlp.fc1.weight", "uff.rgb_head.bias"} <= first.keys()
    network = uff.UFF(38, 72)
    network.load_state_dict({key[4:]: value for key, value in first.items() if key.startswith("uff.")})
    run = load_run(find_run(tmp_path / "a/dome"), "cpu")
    pipeline: Any = run.pipeline
    rows = torch.randn(4, 38), torch.randn(4, 72)
    assert torch.equal(pipeline.uff(*rows), network(*rows))


def test_options_that_would_be_ignored_are_refused(data: Path, tmp_path: Path) -> None:
    for options, said in (
        (["--epochs_no", "3"], "--epochs_no 3: without --uff M3DM reads each image once"),
        (["--modalities", "rgb", "--uff"], "--uff: say how several banks work together, and with --modalities rgb"),
        (["--modalities", "xyz", "--as_released", "--decision", "svm"], "--decision, --as_released: say how several"),
    ):
        with pytest.raises(UserError, match=said):
            learn(data, tmp_path, *options)
    assert not list(tmp_path.rglob("*.safetensors"))


def test_a_finished_run_of_other_settings_is_named(data: Path, trained: Path) -> None:
    with pytest.raises(UserError, match=r"made otherwise \(model.decision: 'zscore', now 'svm'\)"):
        learn(data, trained, "--decision", "svm")


def damaged(trained: Path, folder: Path, change: dict[str, torch.Tensor | None], settings: dict[str, Any]) -> Path:
    """A copy of a run with other tensors, None: without that, and other settings of the model."""
    place = Path(shutil.copytree(trained / "dome", folder / "dome"))
    weights, beside = place / "M3DM_dome_1ep_4bs.safetensors", place / "M3DM_dome_1ep_4bs.json"
    state = {**load_file(weights), **change}
    save_file({key: value for key, value in state.items() if value is not None}, weights)
    content = json.loads(beside.read_text())
    content["config"]["model"] |= settings
    beside.write_text(json.dumps({**content, "files": {}}))
    return place


def test_a_foreign_checkpoint_is_refused(trained: Path, tmp_path: Path) -> None:
    cases: tuple[tuple[dict[str, torch.Tensor | None], dict[str, Any], str], ...] = (
        ({"bank.xyz.rows": torch.rand(9, 5)}, {}, "a bank of xyz: expected rows 38 wide .* found 5"),
        ({"bank.xyz.rows": None, "bank.xyz.scale": None}, {}, "expected banks of rgb, xyz, fusion, found rgb, fusion"),
        ({"decision.map": torch.ones(2)}, {}, "does not fit .*expected 3 weights"),
        ({"decision.image": -torch.ones(3)}, {}, "does not fit .*expected 3 weights"),
        ({"decision.image": None}, {}, "does not fit the settings beside it"),
        ({"bank.other.rows": torch.rand(9, 5)}, {}, "does not fit the settings beside it"),
        ({"extractor.rgb_mean": torch.zeros(5)}, {}, "statistics of `handcrafted`: expected"),
        ({}, {"uff": True}, "does not fit the settings beside it"),
        ({}, {"modalities": "rgb"}, "expected banks of rgb, found rgb, xyz, fusion"),
        ({}, {"modalities": "sound"}, "does not fit the settings beside it"),
        ({}, {"banks": 3}, "does not fit the settings beside it"),
    )
    for number, (change, settings, said) in enumerate(cases):
        place = damaged(trained, tmp_path / str(number), change, settings)
        with pytest.raises(UserError, match=said):
            load_run(find_run(place), "cpu")
    whole = damaged(trained, tmp_path / "whole", {}, {})
    load_run(find_run(whole), "cpu")
    with pytest.raises(UserError, match="--extractor cnn_normals: the checkpoint was trained with handcrafted"):
        load_run(find_run(whole), "cpu", options={"extractor": "cnn_normals"})
    run = find_run(whole)
    (whole / "M3DM_dome_1ep_4bs.json").unlink()
    with pytest.raises(UserError, match="it says what the banks hold"):
        load_run(run, "cpu")
