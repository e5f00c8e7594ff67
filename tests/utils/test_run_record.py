"""utils/run_record.py: what is stored beside results, and the training log."""

import hashlib
import json
import os
import platform
import subprocess
import sys
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from utils import run_record
from utils.errors import UserError
from utils.run_record import (
    append_json_line,
    data_manifest,
    git_commit,
    machine,
    provenance,
    read_json_lines,
    truncate_json_lines,
    versions,
    wandb_logger,
)


def test_versions_are_those_of_the_installed_packages(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(run_record, "PACKAGES", ("torch", "numpy", "no-such-package"))
    assert versions() == {
        "python": platform.python_version(),
        "torch": metadata.version("torch"),
        "numpy": metadata.version("numpy"),
    }


def test_versions_imports_no_heavy_package() -> None:
    code = "import sys; from utils.run_record import versions; versions(); print(*sys.modules)"
    modules = subprocess.check_output([sys.executable, "-c", code], text=True, cwd=run_record.PROJECT_ROOT).split()
    assert "utils.run_record" in modules
    assert not {"torch", "timm", "open3d", "wandb", "scipy", "sklearn"} & set(modules)


@pytest.fixture
def checkout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A git checkout with one committed file."""
    for variable in [name for name in os.environ if name.startswith("GIT_")]:
        monkeypatch.delenv(variable)
    root = tmp_path / "checkout"
    root.mkdir()
    (root / "code.py").write_text("x = 1\n")
    identity = ["-c", "user.name=tester", "-c", "user.email=tester@example.com", "-c", "commit.gpgsign=false"]
    for command in (["init", "-q"], ["add", "."], [*identity, "commit", "-q", "--no-verify", "-m", "first"]):
        subprocess.run(["git", "-C", str(root), *command], check=True)
    return root


def test_git_commit_marks_changed_files(checkout: Path) -> None:
    commit = git_commit(checkout)
    assert commit is not None
    assert len(commit) == 40
    assert commit == subprocess.check_output(["git", "-C", str(checkout), "rev-parse", "HEAD"], text=True).strip()
    (checkout / "untracked.txt").write_text("results")
    assert git_commit(checkout) == commit
    (checkout / "code.py").write_text("x = 2\n")
    assert git_commit(checkout) == f"{commit}-dirty"


def test_git_commit_is_none_outside_a_checkout_of_the_project(
    checkout: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (checkout / "vendored").mkdir()
    (tmp_path / "plain").mkdir()
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path))
    assert git_commit(checkout / "vendored") is None
    assert git_commit(tmp_path / "plain") is None
    monkeypatch.setenv("PATH", "")
    assert git_commit(checkout) is None


def test_machine(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    found = machine()
    assert found["gpu"] is None
    monkeypatch.setattr(torch.backends.cpu, "get_cpu_capability", lambda: "AVX9")
    assert machine()["cpu_capability"] == "AVX9"
    assert 1 <= found["cores"] <= (os.cpu_count() or 1)
    assert 0.1 < found["memory_gib"] < 1e5
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda: "A GPU")
    assert machine()["gpu"] == "A GPU"
    cpuinfo = tmp_path / "cpuinfo"
    cpuinfo.write_text("processor\t: 0\nmodel name\t: Some CPU @ 2.0 GHz: fast\nprocessor\t: 1\n")
    assert run_record._cpu_model(cpuinfo) == "Some CPU @ 2.0 GHz: fast"
    assert run_record._cpu_model(tmp_path / "none") != ""


def test_provenance_is_json() -> None:
    record = provenance()
    assert sorted(record) == ["git_commit", "machine", "versions"]
    assert json.loads(json.dumps(record)) == record


def dataset(root: Path, sizes: dict[str, int]) -> Path:
    for name, size in sizes.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"\0" * size)
    return root


SIZES = {
    "bagel/train/good/rgb/000.png": 5,
    "bagel/train/good/xyz/000.tiff": 7,
    "bagel/test/hole/rgb/000.png": 3,
    "rope/train/good/rgb/000.png": 1,
    "bagel/calibration/camera_parameters.json": 9,
}


def test_data_manifest_counts_and_hashes_names_and_sizes(tmp_path: Path) -> None:
    root = dataset(tmp_path, SIZES)
    text = "test/hole/rgb/000.png\t3\ntrain/good/rgb/000.png\t5\ntrain/good/xyz/000.tiff\t7\n"
    assert data_manifest(root, "bagel") == {
        "files": {"train": 2, "test": 1},
        "sha256": hashlib.sha256(text.encode()).hexdigest(),
        "preprocessing": None,
    }


@pytest.mark.parametrize(
    ("name", "size", "differs"),
    [
        ("bagel/train/good/rgb/000.png", 6, True),
        ("bagel/validation/good/rgb/000.png", 1, True),
        ("bagel/train/good/rgb/.000.tmp.png", 6, False),
        ("rope/train/good/rgb/001.png", 6, False),
    ],
)
def test_data_manifest_changes_with_the_files_of_the_class(tmp_path: Path, name: str, size: int, differs: bool) -> None:
    before = data_manifest(dataset(tmp_path, SIZES), "bagel")
    after = data_manifest(dataset(tmp_path, {name: size}), "bagel")
    assert (after != before) == differs
    assert (after["sha256"] != before["sha256"]) == differs


def test_data_manifest_holds_the_preprocessing_without_single_files(tmp_path: Path) -> None:
    root = dataset(tmp_path, SIZES)
    stamp = {"family": "b", "version": 1, "seed": 0, "settings": {"eps": 0.006}}
    (root / "preprocessing.json").write_text(json.dumps(stamp | {"files": {"bagel/train/good/xyz/000.tiff": 0.4}}))
    assert data_manifest(root, "bagel")["preprocessing"] == stamp
    for broken in ("{", "[1]"):
        (root / "preprocessing.json").write_text(broken)
        with pytest.raises(UserError, match=r"preprocessing\.json: cannot be read .* Preprocess the data again"):
            data_manifest(root, "bagel")


def test_data_manifest_names_a_missing_class_folder(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no_such_class"):
        data_manifest(tmp_path, "no_such_class")


def test_json_lines_are_appended_and_read_back(tmp_path: Path) -> None:
    path = tmp_path / "new" / "log.jsonl"
    assert read_json_lines(path) == []
    entries = [{"epoch": 1, "loss": 0.5, "note": "é\n"}, {"epoch": 2, "loss": 0.25, "note": ""}]
    for entry in entries:
        append_json_line(path, entry)
        assert path.read_text(encoding="utf-8").endswith("}\n")
    assert read_json_lines(path) == entries
    with pytest.raises(ValueError, match="JSON"):
        append_json_line(path, {"loss": float("nan")})
    assert read_json_lines(path) == entries


def test_cut_off_last_line_is_left_out_and_a_damaged_one_refused(tmp_path: Path) -> None:
    path = tmp_path / "log.jsonl"
    path.write_text('{"epoch": 1}\n{"epoch": 2}\n{"epo')
    assert read_json_lines(path) == [{"epoch": 1}, {"epoch": 2}]
    path.write_text('{"epoch": 1}\n{"epoch": 2}')
    assert read_json_lines(path) == [{"epoch": 1}, {"epoch": 2}]
    path.write_text('{"epoch": 1}\n{"epo\n{"epoch": 3}\n')
    with pytest.raises(UserError, match=r"log\.jsonl, line 2: expected one JSON object, found '{\"epo'"):
        read_json_lines(path)
    for line in (b"[1]", b"7", b"\xff\xfe", b"[" * 9999):
        path.write_bytes(line + b"\n")
        with pytest.raises(UserError, match=r"log\.jsonl, line 1: expected one JSON object"):
            read_json_lines(path)


def test_truncating_keeps_the_finished_epochs(tmp_path: Path) -> None:
    path = tmp_path / "log.jsonl"
    truncate_json_lines(path, 3)
    assert not path.exists()
    path.write_text('{"epoch": 1, "loss": 0.5}\n{"epoch": 2, "loss": 0.4}\n{"epoch": 3, "loss": 0.3}\n{"epoch": 4, ')
    truncate_json_lines(path, 2)
    append_json_line(path, {"epoch": 3, "loss": 0.31})
    assert path.read_text() == '{"epoch": 1, "loss": 0.5}\n{"epoch": 2, "loss": 0.4}\n{"epoch": 3, "loss": 0.31}\n'
    truncate_json_lines(path, 0)
    assert path.read_text() == ""
    for text in ('{"loss": 1}\n', '{"epoch": "x"}\n'):
        path.write_text(text)
        with pytest.raises(UserError, match=r"log\.jsonl: expected the number of an epoch in each line"):
            truncate_json_lines(path, 3)
        assert path.read_text() == text


@dataclass
class Config:
    epochs: int = 3


def test_wandb_logger_logs_each_entry(monkeypatch: pytest.MonkeyPatch) -> None:
    logged: list[Any] = []

    def init(**options: Any) -> SimpleNamespace:
        logged.append(options)
        return SimpleNamespace(log=logged.append)

    monkeypatch.setitem(sys.modules, "wandb", SimpleNamespace(init=init, Error=RuntimeError))
    wandb_logger("disabled", "CFM bagel", Config())({"epoch": 1})
    assert logged == []
    wandb_logger("offline", "CFM bagel", Config())({"epoch": 1})
    options, entry = logged
    assert (options["name"], options["config"], options["mode"]) == ("CFM bagel", {"epochs": 3}, "offline")
    assert entry == {"epoch": 1}


def test_wandb_that_cannot_start_is_a_user_error(monkeypatch: pytest.MonkeyPatch) -> None:
    def init(**options: Any) -> None:
        raise RuntimeError("no API key")

    monkeypatch.setitem(sys.modules, "wandb", SimpleNamespace(init=init, Error=RuntimeError))
    with pytest.raises(UserError, match=r"no API key.*--wandb_mode offline"):
        wandb_logger("online", "CFM bagel", Config())
    monkeypatch.setitem(sys.modules, "wandb", None)
    with pytest.raises(UserError, match="pip install wandb"):
        wandb_logger("online", "CFM bagel", Config())
