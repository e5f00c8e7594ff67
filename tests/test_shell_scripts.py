"""The numbered shell scripts: the commands that they run, with stubs in place of setup and Python; and two for real."""

import json
import os
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from datasets.scenes.writer import Counts, write_eyecandies
from processing import preprocess_eyecandies

ROOT = Path(__file__).resolve().parents[1]
MVTEC, EYECANDIES = (
    "--dataset_path ./datasets/mvtec3d_preprocessed",
    "--dataset_path ./datasets/eyecandies_preprocessed",
)
CFM, CFM_BIG = "./checkpoints/checkpoints_CFM_mvtec", "./checkpoints/checkpoints_CFM_eyecandies"
DBMRNET = "./checkpoints/checkpoints_DBMRNet_mvtec"


def results(name: str) -> str:
    """Options of an evaluation whose folders end in `name`."""
    folders = f"--quantitative_folder ./results/quantitatives_{name} --qualitative_folder ./results/qualitatives_{name}"
    return f"{folders} --produce_qualitatives"


def tables(folder: str) -> list[str]:
    """The last commands of an evaluation."""
    command = f"processing/aggregate_results.py --quantitative_folder {folder}"
    return [f"{command} --format html --output {folder}/comparison.html", f"{command} --output {folder}/table.md"]


@pytest.fixture
def run_script(tmp_path: Path) -> Callable[..., tuple[int, list[str]]]:
    """Run a script, where setup and each Python command only write a line; its exit status and these lines."""
    for script in [*ROOT.glob("0[1-9]_*.sh"), ROOT / "settings.sh", ROOT / "reproduce.sh"]:
        shutil.copy(script, tmp_path)
    shutil.copytree(ROOT / "grids", tmp_path / "grids")
    (tmp_path / "setup.sh").write_text("echo setup >> commands\n")
    python = tmp_path / ".venv/bin/python"
    python.parent.mkdir(parents=True)
    python.write_text('#!/usr/bin/env bash\necho "$*" >> commands\n[ "$5" != unusable ]\n')  # "$5": the class
    python.chmod(0o755)
    for folder in ("mvtec3d_preprocessed/bagel", "mvtec3d_preprocessed/cookie", "eyecandies_preprocessed/Lollipop"):
        (tmp_path / "datasets" / folder / "train").mkdir(parents=True)

    def run(script: str, *words: str, **settings: str) -> tuple[int, list[str]]:
        (tmp_path / "commands").unlink(missing_ok=True)
        environment = {"PATH": os.environ["PATH"], **settings}
        done = subprocess.run(["bash", str(tmp_path / script), *words], env=environment, check=False)
        return done.returncode, (tmp_path / "commands").read_text().splitlines()

    return run


@pytest.mark.parametrize(
    ("script", "classes", "command"),
    [
        (
            "01_train_mvtec",
            "bagel cookie",
            f"cfm_training.py {MVTEC} --class_name CLASS --checkpoint_savepath {CFM} --epochs_no 50 --batch_size 4",
        ),
        (
            "02_eval_mvtec",
            "bagel cookie",
            f"cfm_inference.py {MVTEC} --class_name CLASS --checkpoint_folder {CFM} --epochs_no 50 --batch_size 4 "
            f"{results('mvtec')}",
        ),
        (
            "03_train_eyecandies",
            "Lollipop",
            f"cfm_training.py {EYECANDIES} --class_name CLASS --mapper mlp_big --checkpoint_savepath {CFM_BIG} "
            "--epochs_no 50 --batch_size 2",
        ),
        (
            "04_eval_eyecandies",
            "Lollipop",
            f"cfm_inference.py {EYECANDIES} --class_name CLASS --checkpoint_folder {CFM_BIG} --epochs_no 50 "
            f"--batch_size 2 {results('eyecandies')}",
        ),
        (
            "05_train_dbmrnet_mvtec",
            "bagel cookie",
            f"dbmrnet_training.py {MVTEC} --class_name CLASS --checkpoint_savepath {DBMRNET} --epochs_no 300 "
            "--batch_size 16",
        ),
        (
            "06_eval_dbmrnet_mvtec",
            "bagel cookie",
            f"dbmrnet_inference.py {MVTEC} --class_name CLASS --checkpoint_folder {DBMRNET} --epochs_no 300 "
            f"--batch_size 16 {results('dbmrnet_mvtec')}",
        ),
    ],
)
def test_a_command_for_each_class_then_tables(
    script: str, classes: str, command: str, run_script: Callable[..., tuple[int, list[str]]]
) -> None:
    expected = ["setup", *(f"{command} --device cpu".replace("CLASS", name) for name in classes.split())]
    if "eval" in script:
        expected += tables(f"./results/quantitatives_{script.split('eval_')[1]}")
    assert run_script(f"{script}.sh", "--device", "cpu") == (0, expected)


def test_baselines_are_trained_and_evaluated_in_all_their_variants(
    run_script: Callable[..., tuple[int, list[str]]],
) -> None:
    m3dm, weights = f"{MVTEC} --class_name CLASS --method m3dm", "./checkpoints/checkpoints_M3DM_mvtec"
    train = f"train.py {m3dm} --extractor cnn_normals --checkpoint_savepath {weights}"
    place, expected = "./results/quantitatives_baselines_mvtec", []
    for command in (train, f"evaluate.py {m3dm} --checkpoint_folder {weights} {results('m3dm_mvtec')}"):
        expected += ["setup", *(f"{command} --device cpu".replace("CLASS", name) for name in ("bagel", "cookie"))]
    for features in ("hog", "btf"):
        begin, weights = f"{MVTEC} --class_name CLASS --method btf", f"./checkpoints/checkpoints_BTF_mvtec/{features}"
        train = f"train.py {begin} --features {features} --backbone efficientnet_lite0 --checkpoint_savepath {weights}"
        evaluate = f"evaluate.py {begin} --checkpoint_folder {weights} {results(f'btf_mvtec/{features}')}"
        for command in (train, evaluate):
            expected += ["setup", *(f"{command} --device cpu".replace("CLASS", name) for name in ("bagel", "cookie"))]
    begin, weights = f"{MVTEC} --class_name CLASS --method ast", "./checkpoints/checkpoints_AST_mvtec/depth"
    options = "--mode depth --width 256 --backbone efficientnet_lite0"
    train = f"train.py {begin} {options} --checkpoint_savepath {weights}"
    for command in (train, f"evaluate.py {begin} --checkpoint_folder {weights} {results('ast_mvtec/depth')}"):
        expected += ["setup", *(f"{command} --device cpu".replace("CLASS", name) for name in ("bagel", "cookie"))]
    made = ("m3dm_mvtec", "btf_mvtec/hog", "btf_mvtec/btf", "ast_mvtec/depth")
    folders = " ".join(f"./results/quantitatives_{name}" for name in made)
    command = f"processing/aggregate_results.py --quantitative_folder {folders}"
    expected += [f"{command} --format html --output {place}/comparison.html", f"{command} --output {place}/table.md"]
    assert run_script("07_baselines_mvtec.sh", "--device", "cpu", BTF_FEATURES="hog btf", AST_MODES="depth") == (
        0,
        expected,
    )


def test_settings_come_from_the_environment(run_script: Callable[..., tuple[int, list[str]]]) -> None:
    shared = {"CLASSES": "rope", "MVTEC_PATH": "data", "RESULTS": "out", "EPOCHS": "7"}
    dbmrnet = {"DBMRNET_CHECKPOINTS": "weights", "DBMRNET_EPOCHS": "9", "DBMRNET_BATCH_SIZE": "3"}
    _, commands = run_script("06_eval_dbmrnet_mvtec.sh", **shared, **dbmrnet)
    assert commands[1:] == [
        "dbmrnet_inference.py --dataset_path data --class_name rope --checkpoint_folder weights --epochs_no 9 "
        "--batch_size 3 --quantitative_folder out/quantitatives_dbmrnet_mvtec "
        "--qualitative_folder out/qualitatives_dbmrnet_mvtec --produce_qualitatives",
        *tables("out/quantitatives_dbmrnet_mvtec"),
    ]
    _, commands = run_script("01_train_mvtec.sh", **shared, **dbmrnet)
    run = f"--checkpoint_savepath {CFM} --epochs_no 7 --batch_size 4"
    assert commands[1:] == [f"cfm_training.py --dataset_path data --class_name rope {run}"]


def test_a_table_is_one_sweep_and_the_demo_makes_its_scenes_before(
    run_script: Callable[..., tuple[int, list[str]]], tmp_path: Path
) -> None:
    words = ["--set", "class_name=[bagel,rope]", "--jobs", "4"]
    sweep = "sweep.py grids/few_shot.yaml --output out/sweeps --resume --set class_name=[bagel,rope] --jobs 4"
    assert run_script("reproduce.sh", "few_shot", *words, RESULTS="out") == (0, ["setup", sweep])
    (tmp_path / "out/sweeps/scenes_begun").mkdir(parents=True)  # as preprocessing would make it
    status, commands = run_script("reproduce.sh", "demo", RESULTS="out")
    assert status == 1  # nothing was made by the stub: it does not take that for scenes
    assert [command.split()[0] for command in commands[1:]] == [
        "processing/make_scenes.py",
        "processing/preprocess_mvtec.py",
    ]
    (tmp_path / "out/sweeps/scenes_preprocessed").mkdir()
    begin = "sweep.py grids/demo.yaml --output out/sweeps --resume"
    expected = f"{begin} --set dataset_path=out/sweeps/scenes_preprocessed --jobs 1"
    assert run_script("reproduce.sh", "demo", "--jobs", "1", RESULTS="out") == (0, ["setup", expected])


def test_a_table_that_is_not_known_is_refused_with_those_that_are(tmp_path: Path) -> None:
    for words in ([], ["../settings"], ["nothing"]):
        done = subprocess.run(["bash", str(ROOT / "reproduce.sh"), *words], capture_output=True, text=True, check=False)
        assert done.returncode == 2
        assert {"few_shot", "layer_pruning", "demo"} <= set(done.stderr.split())


def test_they_stop_at_the_first_failure(run_script: Callable[..., tuple[int, list[str]]]) -> None:
    status, commands = run_script("06_eval_dbmrnet_mvtec.sh", CLASSES="bagel unusable rope")
    assert (status, len(commands)) == (1, 3)
    assert run_script("06_eval_dbmrnet_mvtec.sh", MVTEC_PATH="absent") == (1, ["setup"])


# Slow: the scripts as they are, several processes with all their imports, on images of the release's one size.
@pytest.mark.slow
@pytest.mark.skipif(not (ROOT / ".venv/bin/python").exists(), reason="the scripts run in .venv")
def test_eyecandies_scripts_lead_from_the_release_to_tables(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The layout of the release, converted, trained with the big mapper and evaluated by 03 and 04 as they are."""
    monkeypatch.setattr("datasets.scenes.writer.DEFECTS", {"hole": None})
    write_eyecandies(tmp_path / "raw", ["gear"], Counts(4, 0, 1), seed=2)
    converted = tmp_path / "converted"
    words = ["--dataset_path", str(tmp_path / "raw"), "--target_dir", str(converted), "--workers", "1"]
    assert preprocess_eyecandies.main(words) == 0
    settings = {
        "EYECANDIES_PATH": converted,
        "EYECANDIES_CHECKPOINTS": tmp_path / "weights",
        "RESULTS": tmp_path / "out",
    }
    environment = {**os.environ, **{name: str(path) for name, path in settings.items()}, "EPOCHS": "2"}
    options = ["--extractor", "handcrafted", "--pixel_fraction", "0.1"]
    for script in (["03_train_eyecandies.sh", *options], ["04_eval_eyecandies.sh"]):
        done = subprocess.run(["bash", *script], cwd=ROOT, env=environment, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr[-2000:]
    result = json.loads((tmp_path / "out/quantitatives_eyecandies/Confetto_2ep_2bs.json").read_text())
    assert result["config"]["mapper"] == "mlp_big"
    assert {sample["defect"] for sample in result["samples"]} == {"good", "bad"}
    table = (tmp_path / "out/quantitatives_eyecandies/table.md").read_text()
    assert "### I-AUROC on Eyecandies" in table
    assert all(name in table for name in ("CandyCane", "HazelnutTruffle", "PeppermintCandy", "| Confetto / bad"))
    assert {path.name for path in (tmp_path / "out/quantitatives_eyecandies").rglob("*.html")} == {
        "comparison.html",
        "report.html",
    }
    assert len(list((tmp_path / "out/qualitatives_eyecandies/Confetto").glob("*.png"))) == 3
