"""README and its chapters: commands and Python run as they stand there; links and options lead somewhere."""

import contextlib
import io
import re
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from datasets.records import scan
from datasets.scenes.writer import Counts, write_eyecandies
from models.methods import METHODS
from tests.documents import ROOT, blocks, commands, documents, run_here
from tests.trained import Trained

SCRIPTS = {"00_demo.sh", "tests/run.sh", "setup.sh", "reproduce.sh"}  # README's own, which tests and checks call
SCRIPTS |= {path.name for path in ROOT.glob("0[1-7]_*.sh")}  # tests/test_shell_scripts.py
OWN_DATA = ["convert_rgbd", "cfm_training", "cfm_inference"]  # the first three of docs/own_data.md: test_own_data.py
CPU = ["--device", "cpu"]
SHORT = {  # what makes the commands of the papers' setting quick on a CPU
    "processing/preprocess_mvtec.py": ["--workers", "1"],
    "processing/preprocess_eyecandies.py": ["--workers", "1"],
    "processing/check_dataset.py": ["--workers", "1"],
    "cfm_training.py": [*CPU, "--extractor", "handcrafted", "--epochs_no", "1", "--shots", "2"],
    "cfm_inference.py": [*CPU, "--save_maps", "MAPS"],
    "dbmrnet_training.py": [*CPU, "--preset", "small", "--epochs_no", "1", "--shots", "2"],
    "dbmrnet_inference.py": [*CPU, "--epochs_no", "1"],
    "predict.py": CPU,
    "calibrate.py": CPU,
}


def run(words: list[str]) -> None:
    """A command of a document, with the options that make it quick."""
    options = SHORT.get(words[1], [])
    if words[1] == "cfm_inference.py" and "--epochs_no" not in words:
        options = [*options, "--epochs_no", "1"]
    assert run_here([*words[1:], *options]) == 0, words


def copy_run(trained: Trained, folder: Path, class_name: str, epochs: int = 8) -> None:
    """The trained class under another name."""
    folder.mkdir(parents=True)
    for path in trained.cfm.iterdir():
        (folder / path.name.replace("_cap_8ep", f"_{class_name}_{epochs}ep")).write_bytes(path.read_bytes())
    settings = folder / f"CFM_{class_name}_{epochs}ep_4bs.json"
    settings.write_text(settings.read_text().replace("_cap_8ep", f"_{class_name}_{epochs}ep"))


@pytest.fixture
def place(trained: Trained, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder where the raw datasets, a checkpoint and the parts lie that documents name."""
    for folder in ("train/good", "validation/good", "test/good", "test/hole", "test/paint"):
        for path in sorted((trained.raw / "cap" / folder).glob("*/00[01].*")):
            target = tmp_path / "datasets/mvtec3d/bagel" / path.relative_to(trained.raw / "cap")
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(path, target)
    shutil.copytree(trained.scenes / "cap", tmp_path / "datasets/bolts/bolt")
    copy_run(trained, tmp_path / "checkpoints/checkpoints_CFM_mvtec/bolt", "bolt")
    copy_run(trained, tmp_path / "FOLDER/bagel", "bagel", epochs=250)
    shutil.copytree(trained.raw / "cap/validation/good", tmp_path / "good_parts")
    (tmp_path / "parts").mkdir()
    for name, record in zip(("part", "parts/other"), scan(trained.raw, "cap", "validation"), strict=False):
        shutil.copy(record.rgb, tmp_path / f"{name}.png")
        shutil.copy(record.xyz, tmp_path / f"{name}.tiff")
    monkeypatch.chdir(tmp_path)
    handlers = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    yield tmp_path
    for number, handler in handlers.items():
        signal.signal(number, handler)


# Slow: both papers' settings from the raw data to tables, a class each, as short as they can be.
@pytest.mark.slow
def test_commands_of_the_papers_setting(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("datasets.scenes.writer.DEFECTS", {"hole": None})
    write_eyecandies(place / "datasets/eyecandies", ["gear"], Counts(1, 0, 1), seed=2, workers=1)
    for name in ("paper_setting.md", "results.md"):
        for words in commands(ROOT / "docs" / name):
            if words[0] == "python":
                run(words)
    assert (place / "datasets/eyecandies_preprocessed/Confetto/test/bad/xyz").is_dir()
    for result in ("mvtec/bagel_1ep_4bs", "mvtec/bagel_250ep_4bs", "dbmrnet_mvtec/bagel_1ep_16bs"):
        assert (place / f"results/quantitatives_{result}.md").is_file()
    assert "DBMRNet" in (place / "results/comparison.html").read_text(encoding="utf-8")
    assert (place / "OUT/metrics.json").is_file()


def test_commands_of_single_parts_and_of_checks(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def stopped(_: float) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(time, "sleep", stopped)
    # Those of an exported file: tests/exporting/test_export.py.
    chosen = [words for words in commands(ROOT / "docs/on_the_line.md") if "part.onnx" not in words]
    chosen += commands(ROOT / "docs/own_data.md")[len(OWN_DATA) :]
    assert [Path(words[1]).stem for words in chosen] == ["predict"] * 3 + ["calibrate", "check_dataset"]
    for words in chosen:
        run(words)
    assert len((place / "results/predictions/predictions.jsonl").read_text().splitlines()) == 2
    assert (place / "checkpoints/checkpoints_CFM_mvtec/bolt/CFM_thresholds_bolt_8ep_4bs.1.json").is_file()
    assert (place / "results/check_bolts.png").is_file()


def test_commands_of_sweeps(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Those that would train are checked only; and the example of a grid is one."""
    shutil.copytree(ROOT / "grids", place / "grids")
    [example] = blocks(ROOT / "docs/sweeps.md", "yaml")
    (place / "example.yaml").write_text(example)
    chosen = [words for words in commands(ROOT / "docs/sweeps.md") if words[0] == "python"]
    for words in [*chosen, ["python", "sweep.py", "example.yaml", "--dry_run"]]:
        trains = "--dry_run" not in words and "--engine" not in words and words[2] != "status"
        assert run_here([*words[1:], *(["--dry_run"] if trains else [])]) == 0, words
    printed = capsys.readouterr().out
    assert "#SBATCH --array" in printed
    assert "# 18 points, 18 jobs: 0 finished, 0 failed, 0 locked, 18 waiting" in printed
    assert not (place / "results").exists()


def test_no_command_is_left_out() -> None:
    """Every command is one that a test above runs, one of own data's, or a shell script that is tested by itself."""
    walked = {"paper_setting.md", "results.md", "on_the_line.md", "own_data.md", "sweeps.md"}
    for document in documents():
        for words in commands(document):
            if words[0] == "bash":
                assert words[1] in SCRIPTS, (document.name, words)
                assert subprocess.run(["bash", "-n", str(ROOT / words[1])]).returncode == 0
            else:
                assert document.name in walked, (document.name, words)
    assert [Path(words[1]).stem for words in commands(ROOT / "docs/own_data.md")[: len(OWN_DATA)]] == OWN_DATA


@pytest.mark.parametrize("defect", ["good", "hole"])
@pytest.mark.parametrize("document", ["README.md", "docs/on_the_line.md"])
def test_python_example(document: str, defect: str, place: Path, trained: Trained) -> None:
    split = "validation" if defect == "good" else "test"
    record = next(r for r in scan(trained.raw, "cap", split) if r.defect == defect)
    shutil.copy(record.rgb, place / "part.png")
    shutil.copy(record.xyz, place / "part.tiff")
    [example] = blocks(ROOT / document, "python")
    values: dict[str, Any] = {}
    with contextlib.redirect_stdout(io.StringIO()) as printed:
        exec(compile(example, document, "exec"), values)
    answer = values["answer"]
    assert answer.map.shape == (210, 240)
    assert answer.anomalous == (defect == "hole")
    assert f"{answer.score}" in printed.getvalue()
    lines = 1 + (len(answer.regions) if "for region in answer.regions:" in example.splitlines() else 0)
    assert len(printed.getvalue().splitlines()) == lines


def test_python_stands_in_two_documents_only() -> None:
    found = [document.name for document in documents() for _ in blocks(document, "python")]
    assert found == ["README.md", "on_the_line.md"]


def anchors(text: str) -> set[str]:
    """Anchors of the headings of a document, as GitHub makes them."""
    headings = re.findall(r"^#+ (.+)$", text, flags=re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize(
    "document",
    [*documents(), *(ROOT / name for name in ("CHANGELOG.md", "CONTRIBUTING.md", "checkpoints/README.md"))]
    + [ROOT / name for name in ("benchmarks/README.md", "benchmarks/FIGURES.md", "models/dbmrnet/README.md")],
    ids=lambda path: str(path.relative_to(ROOT)),
)
def test_links_lead_somewhere(document: Path) -> None:
    for link in re.findall(r"\]\(([^)\s]+)\)", document.read_text(encoding="utf-8")):
        if not link.startswith("https://"):
            name, _, anchor = link.partition("#")
            target = document.parent / name if name else document
            assert target.exists(), link
            assert not anchor or anchor in anchors(target.read_text(encoding="utf-8")), link


def test_options_are_those_of_the_commands(capsys: pytest.CaptureFixture[str]) -> None:
    """Each option that documents name stands in the help of a command."""
    for script in [*ROOT.glob("*.py"), *(ROOT / "processing").glob("*.py")]:
        if "__main__" in script.read_text(encoding="utf-8"):
            with pytest.raises(SystemExit):
                run_here([str(script.relative_to(ROOT)), "--help"])
    for method in METHODS:
        with pytest.raises(SystemExit):
            run_here(["train.py", "--method", method, "--help"])
    known = set(re.findall(r"--\w+", capsys.readouterr().out))
    for document in documents():
        named = set(re.findall(r"(?<![\w-])--[a-z]\w*", document.read_text(encoding="utf-8")))
        assert named <= known, (document.name, named - known)


def test_readme_is_short() -> None:
    assert len((ROOT / "README.md").read_text(encoding="utf-8").splitlines()) <= 150
