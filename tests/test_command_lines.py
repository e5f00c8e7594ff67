"""The command lines end to end, on generated scenes and on the golden cases with stand-in weights."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import tifffile
import torch
from PIL import Image
from torch import Tensor

import cfm_inference
import cfm_training
import evaluate_maps
from datasets.readers import read_gt, read_rgb, read_xyz
from datasets.records import scan
from datasets.scenes.writer import Counts, write_mvtec3d
from processing import preprocess_mvtec
from utils import cli
from utils.errors import UserError

GOLDEN = Path(__file__).parent / "golden"
EPOCHS = 12
CPU = ("--device", "cpu")
PLAIN = ("contamination", "paint")  # defects that ten images and twelve epochs suffice for


def arguments(**options: object) -> list[str]:
    """Command-line words; True is a flag."""
    words = []
    for name, value in options.items():
        words += [f"--{name}"] if value is True else [f"--{name}", str(value)]
    return words


@pytest.fixture(scope="module")
def scenes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Preprocessed generated scenes of one class; the raw ones lie beside them."""
    raw = tmp_path_factory.mktemp("scenes") / "raw"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("datasets.scenes.writer.DEFECTS", (*PLAIN, "hole"))
        write_mvtec3d(raw, ["biscuit"], 300, Counts(train=10, validation=1, test=2), seed=5, workers=1)
    assert preprocess_mvtec.main([str(raw), "--workers", "1"]) == 0
    return raw.with_name("raw_preprocessed")


@pytest.fixture(scope="module")
def trained(scenes: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Checkpoints of `handcrafted` on the scenes."""
    folder = tmp_path_factory.mktemp("checkpoints")
    options = arguments(dataset_path=scenes, class_name="biscuit", extractor="handcrafted", epochs_no=EPOCHS)
    options += arguments(pixel_fraction=0.3)
    assert cfm_training.main([*CPU, *options, "--checkpoint_savepath", str(folder)]) == 0
    return folder


@pytest.fixture(scope="module")
def evaluated(scenes: Path, trained: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Results of these checkpoints: q/, pictures/, maps/."""
    folder = tmp_path_factory.mktemp("results")
    options = arguments(dataset_path=scenes, class_name="biscuit", epochs_no=EPOCHS, checkpoint_folder=trained)
    results = arguments(
        quantitative_folder=folder / "q", qualitative_folder=folder / "pictures", save_maps=folder / "maps"
    )
    assert cfm_inference.main([*CPU, *options, *results, "--produce_qualitatives"]) == 0
    return folder


# Slow, as those below: a class is prepared, trained and evaluated as a user does it, once for all of them.
@pytest.mark.slow
def test_result_files(evaluated: Path) -> None:
    result = json.loads((evaluated / "q/biscuit_12ep_4bs.json").read_text())
    lines = (evaluated / "q/biscuit_12ep_4bs.md").read_text().splitlines()
    assert lines[:2] == [
        "Metrics for class biscuit with 12ep_4bs",
        "AUPRO@30% & AUPRO@10% & AUPRO@5% & AUPRO@1% & P-AUROC & I-AUROC",
    ]
    figures = [*result["aupro"].values(), result["p_auroc"], result["i_auroc"]]
    assert lines[2] == " & ".join(f"{figure:.3f}" for figure in figures)
    assert len(result["samples"]) == 2 * 2 + 3 * 2
    assert result["config"]["extractor"] == "handcrafted"
    assert sorted(path.name for path in (evaluated / "pictures").iterdir()) == ["biscuit", "biscuit_contact_sheet.png"]
    assert len(list((evaluated / "pictures/biscuit").glob("*.png"))) == 10


@pytest.mark.slow
def test_planted_defects_are_localised(evaluated: Path, scenes: Path) -> None:
    result = json.loads((evaluated / "q/biscuit_12ep_4bs.json").read_text())
    assert result["i_auroc"] > 0.7
    assert result["p_auroc"] > 0.95
    hits = []
    for path in sorted((evaluated / "maps/biscuit/test").rglob("*.tiff")):
        values = tifffile.imread(path)
        assert values.shape == (224, 224)
        assert values.dtype == np.float32
        if path.parent.name in PLAIN:
            gt = Image.open(scenes / "biscuit/test" / path.parent.name / "gt" / f"{path.stem}.png")
            near = np.asarray(gt.resize((224, 224), Image.Resampling.BOX)) > 0
            peak = np.unravel_index(values.argmax(), values.shape)
            hits.append(bool(np.hypot(*(np.argwhere(near) - peak).T).min() < 6))
    assert len(hits) == 4
    assert np.mean(hits) > 0.8


def score_maps(data: Path, maps: Path, output: Path, *options: str) -> dict[str, float]:
    """What `evaluate_maps.py` says of the class."""
    words = arguments(dataset_base_dir=data, anomaly_maps_dir=maps, output_dir=output)
    assert evaluate_maps.main([*words, *options]) == 0
    figures: dict[str, float] = json.loads((output / "metrics.json").read_text())["biscuit"]
    return figures


@pytest.mark.slow
def test_saved_maps_have_the_aupro_of_the_result_file(evaluated: Path, scenes: Path, tmp_path: Path) -> None:
    result = json.loads((evaluated / "q/biscuit_12ep_4bs.json").read_text())
    exact = score_maps(scenes, evaluated / "maps", tmp_path)
    assert exact["au_pro"] == result["aupro_exact"]["0.3"]
    assert abs(exact["p_auroc"] - result["p_auroc"]) < 0.02  # of another normalisation of the same maps
    papers = score_maps(scenes, evaluated / "maps", tmp_path, "--aupro_thresholds", "99")
    assert papers["au_pro"] == result["aupro"]["0.3"]
    one_percent = score_maps(scenes, evaluated / "maps", tmp_path, "--pro_integration_limit", "0.01")
    assert one_percent["au_pro"] == result["aupro_exact"]["0.01"]
    raw = score_maps(scenes.with_name("raw"), evaluated / "maps", tmp_path)
    assert raw == exact


@pytest.fixture(scope="module")
def wide(scenes: Path, trained: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Test images without 40 rows at the top and 30 at the bottom, and their maps of both sizes: data/, SIZE/."""
    folder, rows = tmp_path_factory.mktemp("wide"), slice(40, -30)
    for record in (record for record in scan(scenes, "biscuit", "test") if record.defect in ("good", *PLAIN)):
        files = {record.rgb: read_rgb(record.rgb)[rows], record.xyz: read_xyz(record.xyz)[rows]}
        if record.gt is not None:
            files[record.gt] = read_gt(record.gt)[rows].astype(np.uint8) * (not record.is_good)
        for path, values in files.items():
            target = folder / "data" / path.relative_to(scenes)
            target.parent.mkdir(parents=True, exist_ok=True)
            if path == record.xyz:
                tifffile.imwrite(target, values, photometric="rgb")
            else:
                Image.fromarray(values).save(target)
    for size in ("grid", "native"):
        options = arguments(dataset_path=folder / "data", class_name="biscuit", epochs_no=EPOCHS)
        options += arguments(checkpoint_folder=trained, quantitative_folder=folder / "q")
        assert cfm_inference.main([*CPU, *options, *arguments(save_maps=folder / size, map_size=size)]) == 0
    return folder


@pytest.mark.slow
def test_native_maps_have_the_size_of_the_image_and_lie_on_it(wide: Path) -> None:
    hits = []
    for record in scan(wide / "data", "biscuit", "test"):
        values = tifffile.imread(wide / "native" / f"{record}.tiff")
        assert (values.shape, values.dtype) == ((230, 300), np.float32)
        assert tifffile.imread(wide / "grid" / f"{record}.tiff").shape == (224, 224)
        if record.gt is not None and record.defect in PLAIN:
            gt = read_gt(record.gt)
            peak = np.unravel_index(values.argmax(), values.shape)
            hits.append(bool(np.hypot(*(np.argwhere(gt) - peak).T).min() < 8))
    assert len(hits) == 4
    assert np.mean(hits) > 0.8


@pytest.mark.slow
def test_native_maps_score_like_those_of_the_grid(wide: Path, tmp_path: Path) -> None:
    figures = {size: score_maps(wide / "data", wide / size, tmp_path) for size in ("grid", "native")}
    assert figures["grid"]["au_pro"] > 0.9
    for metric, value in figures["native"].items():
        assert abs(value - figures["grid"][metric]) < 0.02, metric


def test_token_cache_gives_the_same_checkpoint(scenes: Path, tmp_path: Path) -> None:
    options = arguments(dataset_path=scenes, class_name="biscuit", extractor="handcrafted", epochs_no=2, shots=4)
    states, times = [], []
    for part in ("without", "first", "second"):
        cached = arguments(token_cache=tmp_path / "cache") if part != "without" else []
        assert cfm_training.main([*CPU, *options, *cached, "--checkpoint_savepath", str(tmp_path / part)]) == 0
        path = tmp_path / part / "biscuit/CFM_2Dto3D_biscuit_2ep_4bs.pth"
        states.append(torch.load(path, weights_only=True))
        assert all(torch.equal(states[0][key], states[-1][key]) for key in states[0])
        times.append({path.name: path.stat().st_mtime_ns for path in tmp_path.glob("cache/*")})
    assert [len(found) for found in times] == [0, 4, 4]
    assert times[1] == times[2]


@pytest.mark.slow
def test_options_that_contradict_the_checkpoint_are_refused(scenes: Path, trained: Path) -> None:
    options = arguments(dataset_path=scenes, class_name="biscuit", epochs_no=EPOCHS, checkpoint_folder=trained)
    with pytest.raises(UserError, match="trained with handcrafted"):
        cfm_inference.main([*CPU, *options, "--extractor", "dino_pointmae"])
    with pytest.raises(UserError, match="--keep_blocks 4: the checkpoint was trained with no such setting"):
        cfm_inference.main([*CPU, *options, "--keep_blocks", "4"])


@pytest.mark.slow
def test_finished_run_is_left_and_changed_files_are_seen(scenes: Path, tmp_path: Path) -> None:
    data = tmp_path / "data"
    shutil.copytree(scenes / "biscuit/train", data / "biscuit/train")
    options = arguments(dataset_path=data, class_name="biscuit", extractor="handcrafted", epochs_no=1, shots=3)
    options += arguments(checkpoint_savepath=tmp_path / "checkpoints")
    weights = tmp_path / "checkpoints/biscuit/CFM_2Dto3D_biscuit_1ep_4bs.pth"
    states = []
    for changed in (None, "test only", "train"):
        if changed == "test only":
            shutil.copytree(scenes / "biscuit/test", data / "biscuit/test")
        if changed == "train":
            path = data / "biscuit/train/good/xyz/001.tiff"
            size = path.stat().st_size
            xyz = tifffile.imread(path)
            xyz[140:160, 140:160] *= 0.999
            path.write_bytes(path.read_bytes()[: -xyz.nbytes] + xyz.tobytes())
            assert path.stat().st_size == size
            with pytest.raises(UserError, match=r"made otherwise \(data\.sha256: of other files\)\. .*--overwrite"):
                cfm_training.main([*CPU, *options])
        assert cfm_training.main([*CPU, *options, *["--overwrite"] * (changed == "train")]) == 0
        states.append((weights.stat().st_mtime_ns, torch.load(weights, weights_only=True)["input.weight"]))
    assert states[0][0] == states[1][0]
    assert not torch.equal(states[1][1], states[2][1])


def test_raw_data_is_refused_with_the_command_to_run(scenes: Path, tmp_path: Path) -> None:
    raw = scenes.with_name("raw")
    options = arguments(dataset_path=raw, class_name="biscuit", extractor="handcrafted", checkpoint_savepath=tmp_path)
    with pytest.raises(UserError, match=r"raw data.*python processing/preprocess_mvtec.py"):
        cfm_training.main([*CPU, *options])
    assert not list(tmp_path.iterdir())


def test_bad_sample_stops_or_is_skipped(scenes: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data = tmp_path / "data"
    shutil.copytree(scenes / "biscuit/train", data / "biscuit/train")
    (data / "biscuit/train/good/xyz/003.tiff").write_bytes(b"not a TIFF")
    options = arguments(dataset_path=data, class_name="biscuit", extractor="handcrafted", epochs_no=1, shots=5)
    options += arguments(checkpoint_savepath=tmp_path / "checkpoints")
    with pytest.raises(UserError, match=r"003\.tiff"):
        cfm_training.main([*CPU, *options])
    assert cfm_training.main([*CPU, *options, "--skip_bad"]) == 0
    assert capsys.readouterr().err.count("003.tiff: cannot be read") == 1
    settings = json.loads((tmp_path / "checkpoints/biscuit/CFM_biscuit_1ep_4bs.json").read_text())
    assert settings["images"] == 4
    for _ in range(2):
        words = [*CPU, *options, "--skip_bad", "--overwrite", "--token_cache", str(tmp_path / "cache")]
        assert cfm_training.main(words) == 0
    assert len(list((tmp_path / "cache").iterdir())) == 4


def test_user_errors_have_status_2_and_no_traceback(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    status = cli.run(lambda: cfm_training.main([*CPU, *arguments(dataset_path=tmp_path / "none", class_name="bagel")]))
    assert status == 2
    captured = capsys.readouterr()
    assert captured.err.startswith("error: ")
    assert "Traceback" not in captured.err


@pytest.mark.parametrize("value", ["0", "1.5", "-0.1", "nan"])
def test_pixel_fraction_outside_its_range_is_refused(value: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stopped:
        cfm_training.main([*CPU, "--class_name", "bagel", f"--pixel_fraction={value}"])
    assert stopped.value.code == 2
    assert "--pixel_fraction: expected a number above 0, at most 1" in capsys.readouterr().err


@pytest.fixture(scope="module")
def public_files(
    tmp_path_factory: pytest.TempPathFactory,
    dino_file: Path,
    point_mae_state: dict[str, Tensor],
    mapper_states: Callable[[str], dict[str, dict[str, Tensor]]],
) -> Path:
    """Stand-in weights in the public file formats, checkpoints of the original authors, and a dataset of two cases."""
    folder = tmp_path_factory.mktemp("public")
    (folder / "dino_vitbase8_pretrain.pth").symlink_to(dino_file)
    model = {f"module.MAE_encoder.{name}": value for name, value in point_mae_state.items()}
    model["module.mask_token"] = torch.zeros(1, 1, 384)
    torch.save({"base_model": model, "epoch": 300}, folder / "pretrain.pth")
    (folder / "authors/thing").mkdir(parents=True)
    for name, state in mapper_states("mlp").items():
        torch.save(state, folder / f"authors/thing/{name}_thing_250ep_4bs.pth")
    for part, case in (("train/good", "plank"), ("test/good", "plank"), ("test/bad", "near")):
        for kind, suffix in (("rgb", ".png"), ("xyz", ".tiff")):
            target = folder / "data/thing" / part / kind
            target.mkdir(parents=True)
            shutil.copy(GOLDEN / "cases" / f"{case}{suffix}", target / f"000{suffix}")
    gt = np.zeros(Image.open(GOLDEN / "cases/near.png").size[::-1], np.uint8)
    gt[80:120, 80:120] = 255
    (folder / "data/thing/test/bad/gt").mkdir()
    Image.fromarray(gt).save(folder / "data/thing/test/bad/gt/000.png")
    return folder


# Slow, as the next: the paper's networks have one size, and the expected figures are theirs.
@pytest.mark.slow
def test_original_authors_checkpoint_in_the_papers_setting(
    public_files: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    options = arguments(
        dataset_path=public_files / "data",
        class_name="thing",
        checkpoint_folder=public_files / "authors",
        epochs_no=250,
        rgb_weights=public_files / "dino_vitbase8_pretrain.pth",
        xyz_weights=public_files / "pretrain.pth",
        quantitative_folder=tmp_path / "q",
        save_maps=tmp_path / "maps",
    )
    assert cfm_inference.main([*CPU, *options]) == 0
    assert "'mode': 'batchnorm'" in capsys.readouterr().out
    for part, case in (("good", "plank"), ("bad", "near")):
        smoothed = np.load(GOLDEN / "cases" / f"{case}.npz")["batchnorm/smoothed"]
        expected = smoothed / smoothed[smoothed != 0].mean()
        found = tifffile.imread(tmp_path / "maps/thing/test" / part / "000.tiff")
        assert np.abs(found - expected).max() < 1e-3 * expected.max()


@pytest.mark.slow
def test_training_in_the_papers_setting(public_files: Path, tmp_path: Path) -> None:
    options = arguments(
        dataset_path=public_files / "data",
        class_name="thing",
        checkpoint_savepath=tmp_path,
        epochs_no=1,
        keep_blocks=1,
        pixel_fraction=0.1,
        rgb_weights=public_files / "dino_vitbase8_pretrain.pth",
        xyz_weights=public_files / "pretrain.pth",
    )
    assert cfm_training.main([*CPU, *options]) == 0
    state = torch.load(tmp_path / "thing/CFM_2Dto3D_thing_1ep_4bs.pth", weights_only=True)
    assert state["output.weight"].shape == (384, (768 + 384) // 2)
    settings = json.loads((tmp_path / "thing/CFM_thing_1ep_4bs.json").read_text())
    assert settings["config"]["extractor"]["keep_blocks"] == 1
    assert settings["config"]["pixel_fraction"] == 0.1
    assert len(settings["config"]["extractor"]["rgb_sha256"]) == 64
    assert set(settings) >= {"versions", "git_commit", "machine", "seconds", "files"}
