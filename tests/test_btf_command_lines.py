"""BTF's command lines end to end on small generated domes."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import tifffile
import torch
from safetensors.torch import load_file

import calibrate
import evaluate
import predict
import train
from datasets.records import scan
from datasets.sample import iter_samples
from inspection import load_detector
from models.btf.detector import fit, load, read_rows
from models.btf.settings import BTFSettings
from models.checkpoints import find_run, load_run
from processing import aggregate_results
from tests.domes import dome, write_domes
from utils.errors import UserError

CPU = torch.device("cpu")
RUN = "dome_1ep_4bs"


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_domes(tmp_path_factory.mktemp("domes"))


def learn(data: Path, folder: Path, *options: str) -> int:
    words = ["--method", "btf", "--dataset_path", str(data), "--class_name", "dome", "--device", "cpu"]
    return train.main([*words, "--checkpoint_savepath", str(folder), *options])


@pytest.fixture(scope="module")
def trained(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A bank of HoG rows."""
    folder = tmp_path_factory.mktemp("checkpoints")
    assert learn(data, folder, "--features", "hog", "--fraction", "0.5", "--seed", "3") == 0
    return folder


def test_training_writes_the_bank_of_the_training_images(data: Path, trained: Path) -> None:
    names = {path.name for path in (trained / "dome").iterdir()}
    assert names == {f"BTF_{RUN}.safetensors", f"BTF_{RUN}.json", f"BTF_{RUN}.jsonl", f"BTF_thresholds_{RUN}.json"}
    chosen = BTFSettings("hog", fraction=0.5)
    samples = [sample for _, sample in iter_samples(scan(data, "dome", "train"))]
    made = fit(read_rows(samples, 4, chosen, None, CPU), chosen, None, seed=3)
    state = load_file(trained / f"dome/BTF_{RUN}.safetensors")
    assert state.keys() == {"rows"}
    assert torch.equal(state["rows"], made.bank.rows)
    entry = json.loads((trained / f"dome/BTF_{RUN}.jsonl").read_text())
    assert entry == {"epoch": 1, "rows": 4 * 784, "kept": len(made.bank.rows)}
    config = json.loads((trained / f"dome/BTF_{RUN}.json").read_text())["config"]
    assert config["model"] == {"features": "hog", "backbone": None, "weights_sha256": None, "fraction": 0.5}
    assert (config["seed"], config["epochs"]) == (3, 1)


def test_images_are_ranked_by_the_reweighted_score_and_decided_by_the_map(
    data: Path, trained: Path, tmp_path: Path
) -> None:
    """As released the image score is re-weighted; decisions compare the maximum of the map with good images'."""
    words = ["--method", "btf", "--dataset_path", str(data), "--class_name", "dome", "--device", "cpu"]
    results = ["--quantitative_folder", str(tmp_path / "q"), "--save_maps", str(tmp_path / "maps")]
    assert evaluate.main([*words, "--checkpoint_folder", str(trained), *results]) == 0
    result = json.loads((tmp_path / f"q/{RUN}.json").read_text())
    made = load(BTFSettings("hog", fraction=0.5), load_file(trained / f"dome/BTF_{RUN}.safetensors"), None)
    records = scan(data, "dome", "test")
    for (record, sample), found in zip(iter_samples(records), result["samples"], strict=True):
        wanted = made.score(sample)
        assert found["image_score"] == pytest.approx(wanted.image_score(), rel=1e-5)
        assert found["raw_max"] == pytest.approx(float(wanted.smoothed.max()), rel=1e-5)
        saved = tifffile.imread(tmp_path / "maps/dome/test" / record.defect / f"{record.stem}.tiff")
        np.testing.assert_allclose(saved, wanted.smoothed.numpy(), rtol=1e-5)
    by_label = [[s["image_score"] for s in result["samples"] if s["label"] == label] for label in (0, 1)]
    pairs = [(good < bad) + (good == bad) / 2 for good in by_label[0] for bad in by_label[1]]
    assert result["i_auroc"] == pytest.approx(sum(pairs) / len(pairs))
    assert (result["config"]["features"], result["config"]["bank"]["rows"]) == ("hog", len(made.bank.rows))
    assert (tmp_path / f"q/{RUN}/report.html").is_file()

    detector = load_detector(trained / "dome", device="cpu")
    answer = detector.predict(*dome(4))  # the first image of validation, which gave thresholds
    assert detector.thresholds is not None
    scores = json.loads((trained / f"dome/BTF_thresholds_{RUN}.json").read_text())
    assert any(answer.score == pytest.approx(value, rel=1e-4) for value in scores["maxima"])
    assert not answer.anomalous


def test_other_commands_take_it(data: Path, trained: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    place = shutil.copytree(trained / "dome", tmp_path / "dome")
    assert str(find_run(place)) == "BTF dome 1ep_4bs"
    test = data / "dome/test/dent"
    pair = ["--rgb", str(test / "rgb/000.png"), "--xyz", str(test / "xyz/000.tiff")]
    assert predict.main(["--checkpoint", str(place), *pair, "--output", str(tmp_path / "answers")]) == 0
    assert len(list((tmp_path / "answers/maps").iterdir())) == 1
    assert calibrate.main(["--checkpoint", str(place), "--input", str(data / "dome/validation")]) == 0
    assert "image threshold" in capsys.readouterr().out


def test_a_finished_run_stays_and_another_is_refused(
    data: Path, trained: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "checkpoints"
    shutil.copytree(trained, folder)
    weights = folder / f"dome/BTF_{RUN}.safetensors"
    before, options = weights.read_bytes(), ["--fraction", "0.5", "--seed", "3"]
    assert learn(data, folder, "--features", "hog", *options, "--resume") == 0
    assert "this run is finished" in capsys.readouterr().out
    with pytest.raises(UserError, match=r"made otherwise \(model.features: 'hog', now 'raw'\)"):
        learn(data, folder, "--features", "raw", *options)
    weights.with_suffix(".json").unlink()  # killed before this was written
    assert learn(data, folder, "--features", "hog", *options, "--resume") == 0
    assert weights.read_bytes() == before
    assert weights.with_suffix(".json").is_file()
    assert learn(data, folder, "--features", "raw", *options, "--overwrite") == 0
    assert load_file(weights)["rows"].shape[1] == 64


def test_options_that_would_be_ignored_are_refused(data: Path, trained: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="--epochs_no 2: BTF reads each image once"):
        learn(data, tmp_path, "--features", "hog", "--epochs_no", "2")
    with pytest.raises(UserError, match="--precision bf16: BTF compares exact distances"):
        learn(data, tmp_path, "--features", "hog", "--precision", "bf16")
    with pytest.raises(UserError, match="--precision bf16: BTF compares exact distances"):
        load_run(find_run(trained / "dome"), "cpu", "bf16")
    assert not list(tmp_path.rglob("*.safetensors"))


def test_without_the_paper_s_network_it_says_what_works(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def offline(*_: object) -> None:
        raise OSError("no network")

    monkeypatch.setattr("huggingface_hub.hf_hub_download", offline)
    with pytest.raises(UserError, match=r"wide_resnet50_2 are not here .*no network.* --backbone efficientnet_lite0"):
        learn(data, tmp_path)


def test_a_bank_belongs_to_its_settings_and_its_network(data: Path, trained: Path, tmp_path: Path) -> None:
    network = ["--features", "rgb", "--backbone", "efficientnet_lite0", "--fraction", "0.02"]
    assert learn(data, tmp_path, *network) == 0
    run = find_run(tmp_path / "dome")
    sample = next(sample for _, sample in iter_samples(scan(data, "dome", "train")))
    (found,) = load_run(run, "cpu").pipeline.maps([sample])
    assert found.smoothed.shape == (224, 224)
    assert load_file(tmp_path / f"dome/BTF_{RUN}.safetensors")["rows"].shape == (62, 40 + 112)
    path = tmp_path / f"dome/BTF_{RUN}.json"
    settings = json.loads(path.read_text())
    other = {**settings["config"]["model"], "weights_sha256": "0" * 64}
    path.write_text(json.dumps({**settings, "config": {**settings["config"], "model": other}}))
    with pytest.raises(UserError, match="made with other weights of efficientnet_lite0, sha256 0000"):
        load_run(run, "cpu")
    path.write_text(json.dumps({**settings, "config": {**settings["config"], "model": {"feature": "rgb"}}}))
    with pytest.raises(UserError, match="does not fit the settings beside it"):
        load_run(run, "cpu")
    path.unlink()
    with pytest.raises(UserError, match="it says what features the bank holds"):
        load_run(run, "cpu")


def test_runs_with_other_features_are_rows_of_their_own(data: Path, tmp_path: Path) -> None:
    words = ["--method", "btf", "--dataset_path", str(data), "--class_name", "dome", "--device", "cpu"]
    for features in ("hog", "raw"):
        assert learn(data, tmp_path / features, "--features", features, "--fraction", "0.1") == 0
        options = ["--checkpoint_folder", str(tmp_path / features), "--quantitative_folder", str(tmp_path / "q")]
        assert evaluate.main([*words, *options]) == 0
        result = json.loads((tmp_path / f"q/{RUN}.json").read_text())
        (tmp_path / f"q/{features}_1ep_4bs.json").write_text(json.dumps({**result, "class_name": features}))
    (tmp_path / f"q/{RUN}.json").unlink()
    table = tmp_path / "table.md"
    assert aggregate_results.main(["--quantitative_folder", str(tmp_path / "q"), "--output", str(table)]) == 0
    assert "BTF 1ep_4bs, features hog" in table.read_text()
    assert "BTF 1ep_4bs, features raw" in table.read_text()
