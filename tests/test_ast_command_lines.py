"""AST's command lines end to end on small generated domes."""

import json
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

import evaluate
import predict
import train
from datasets.records import scan
from datasets.sample import iter_samples
from inspection import load_detector
from models.ast.inputs import prepare, view_of
from models.ast.settings import ASTSettings
from models.ast.training import ASTConfig
from models.ast.training import train as train_networks
from models.checkpoints import find_run, load_run
from tests.domes import dome, write_domes
from utils.checkpoint import CheckpointName
from utils.errors import UserError

RUN = "dome_2ep_4bs"


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_domes(tmp_path_factory.mktemp("domes"))


def words(data: Path) -> list[str]:
    chosen = ["--method", "ast", "--dataset_path", str(data), "--class_name", "dome", "--device", "cpu"]
    return [*chosen, "--epochs_no", "2", "--batch_size", "4"]


def learn(data: Path, folder: Path, *options: str) -> int:
    return train.main([*words(data), "--width", "8", "--checkpoint_savepath", str(folder), *options])


@pytest.fixture(scope="module")
def trained(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """On depths."""
    folder = tmp_path_factory.mktemp("checkpoints")
    assert learn(data, folder, "--mode", "depth", "--seed", "3") == 0
    return folder


def test_training_writes_the_networks_of_the_training_images(data: Path, trained: Path, tmp_path: Path) -> None:
    names = {path.name for path in (trained / "dome").iterdir()}
    files = ("AST_teacher_{}.safetensors", "AST_student_{}.safetensors", "AST_{}.json", "AST_{}.jsonl", "AST_{}.png")
    assert names == {*(file.format(RUN) for file in files), f"AST_thresholds_{RUN}.json"}
    model = ASTSettings("depth", 8)
    samples = [sample for _, sample in iter_samples(scan(data, "dome", "train"), view=view_of(model))]
    inputs = prepare(samples, model, None, torch.device("cpu"))
    config = ASTConfig(model, {}, "fp32", 2, 4, 3)
    networks = train_networks(inputs, config, CheckpointName(tmp_path, "dome", 2, 4), False, lambda _: None)
    for part in ("teacher", "student"):
        state = load_file(trained / f"dome/AST_{part}_{RUN}.safetensors")
        wanted = networks.get_submodule(part).state_dict()
        assert state.keys() == wanted.keys()
        assert all(torch.equal(state[name], wanted[name]) for name in state)
    settings = json.loads((trained / f"dome/AST_{RUN}.json").read_text())
    assert settings["config"]["model"] == {"mode": "depth", "width": 8, "backbone": None, "weights_sha256": None}
    assert [(name, settings["config"][name]) for name in ("epochs", "batch_size", "seed", "precision")] == [
        ("epochs", 2),
        ("batch_size", 4),
        ("seed", 3),
        ("precision", "fp32"),
    ]
    assert settings["images"] == 4


@pytest.fixture(scope="module")
def few(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same with one image to validate, and one good and one dented to test: each costs a pass at 768 pixels."""
    place = tmp_path_factory.mktemp("few")
    shutil.copytree(data, place, dirs_exist_ok=True)
    for path in [*place.glob("dome/validation/*/*/*"), *place.glob("dome/test/*/*/*")]:
        if path.stem != "000":
            path.unlink()
    return place


@pytest.mark.parametrize("mode", ["rgb", "both"])
def test_colours_are_looked_at_by_the_packaged_network(few: Path, tmp_path: Path, mode: str) -> None:
    assert learn(few, tmp_path / "checkpoints", "--mode", mode, "--shots", "2") == 0
    options = ["--checkpoint_folder", str(tmp_path / "checkpoints"), "--quantitative_folder", str(tmp_path / "q")]
    assert evaluate.main([*words(few), *options]) == 0
    made = json.loads((tmp_path / f"q/{RUN}.json").read_text())["config"]
    assert {name: made[name] for name in ("mode", "width", "backbone", "precision", "shots", "seed")} == {
        **{"mode": mode, "width": 8, "backbone": "efficientnet_lite0"},
        **{"precision": "fp32", "shots": 2, "seed": 0},
    }
    path = tmp_path / f"checkpoints/dome/AST_{RUN}.json"
    settings = json.loads(path.read_text())
    settings["config"]["model"]["weights_sha256"] = "0" * 64
    path.write_text(json.dumps(settings))
    with pytest.raises(UserError, match="made with other weights of efficientnet_lite0, sha256 0000"):
        load_run(find_run(tmp_path / "checkpoints/dome"), "cpu")


def test_other_commands_take_it(data: Path, trained: Path, tmp_path: Path) -> None:
    test = data / "dome/test/dent"
    pair = ["--rgb", str(test / "rgb/000.png"), "--xyz", str(test / "xyz/000.tiff")]
    assert predict.main(["--checkpoint", str(trained / "dome"), *pair, "--output", str(tmp_path / "answers")]) == 0
    assert len(list((tmp_path / "answers/maps").iterdir())) == 1
    detector = load_detector(trained / "dome", device="cpu")
    answer = detector.predict(*dome(4))  # the first image of validation, which gave thresholds
    scores = json.loads((trained / f"dome/AST_thresholds_{RUN}.json").read_text())
    assert any(answer.score == pytest.approx(value, rel=1e-4) for value in scores["maxima"])


def test_precision_is_the_runs_unless_another_is_asked_for(
    data: Path, trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.backends.cpu, "get_cpu_capability", lambda: "AVX512")  # or it may be the same
    assert learn(data, tmp_path, "--mode", "depth", "--precision", "bf16") == 0
    runs = find_run(tmp_path / "dome"), find_run(trained / "dome")
    found = [load_run(run, "cpu", precision).pipeline for run in runs for precision in (None, "fp32")]
    assert [pipeline.networks.precision for pipeline in found] == ["bf16", "fp32", "fp32", "fp32"]  # type: ignore[attr-defined]
    (sample,) = [sample for _, sample in iter_samples(scan(data, "dome", "train")[:1], view=found[0].view)]
    exact, rounded = (pipeline.maps([sample])[0].smoothed for pipeline in (found[1], found[0]))
    assert not torch.equal(exact, rounded)
    torch.testing.assert_close(exact, rounded, rtol=0.1, atol=0.02 * float(exact.max()))


def test_checkpoints_of_others_are_refused(trained: Path, tmp_path: Path) -> None:
    place = shutil.copytree(trained / "dome", tmp_path / "dome")
    run, path = find_run(place), place / f"AST_{RUN}.json"
    settings = json.loads(path.read_text())

    def written(files: dict[str, str], **changed: object) -> None:
        model = {**settings["config"]["model"], **changed}
        path.write_text(json.dumps({**settings, "files": files, "config": {**settings["config"], "model": model}}))

    written(settings["files"], width=16)
    with pytest.raises(UserError, match=r"(?s)do not fit the settings beside them .*size mismatch"):
        load_run(run, "cpu")
    written(settings["files"], mode="rgb", backbone="efficientnet_lite0")
    with pytest.raises(UserError, match=r"(?s)do not fit the settings beside them .*size mismatch"):
        load_run(run, "cpu")
    written(settings["files"], breadth=8)
    with pytest.raises(UserError, match=r"do not fit the settings beside them .*breadth"):
        load_run(run, "cpu")
    save_file({"weights": torch.zeros(3)}, place / f"AST_student_{RUN}.safetensors")
    written(settings["files"])
    with pytest.raises(UserError, match=r"is not the file that .* was written with"):
        load_run(run, "cpu")
    written({})
    with pytest.raises(UserError, match=r"(?s)do not fit the settings beside them .*Missing key"):
        load_run(run, "cpu")
    path.unlink()
    with pytest.raises(UserError, match="it says what the networks look at"):
        load_run(run, "cpu")


def test_another_run_in_its_place_is_refused(data: Path, trained: Path) -> None:
    with pytest.raises(UserError, match=r"made otherwise \(model.width: 8, now 16\)"):
        train.main(
            [*words(data), "--checkpoint_savepath", str(trained), "--mode", "depth", "--width", "16", "--seed", "3"]
        )
