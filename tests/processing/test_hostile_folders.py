"""Preparing data where the disk is full, folders cannot be written, or links lead out of them."""

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from processing import preprocess_mvtec
from tests.processing.tools import tree
from utils.errors import UserError

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def raw(tmp_path: Path, write_dataset: Callable[..., Path]) -> Path:
    return write_dataset(tmp_path / "raw")


def preprocess(raw: Path, *options: str, limit: int | None = None) -> subprocess.CompletedProcess[str]:
    """Run the command; no file may grow beyond `limit` bytes, to which writers react as to a full disk."""
    code = f"""
import resource, runpy, signal, sys
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, ({limit or -1}, -1))
sys.argv = ["processing/preprocess_mvtec.py", {str(raw)!r}, *{list(options)!r}]
runpy.run_path("processing/preprocess_mvtec.py", run_name="__main__")
"""
    return subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)


# Slow, as those below: a process that may write little or nowhere, with all its imports.
@pytest.mark.slow
@pytest.mark.parametrize("options", [("--workers", "1"), ("--workers", "2"), ("--workers", "1", "--in_place")])
def test_full_disk_keeps_what_is_there(raw: Path, options: tuple[str, ...]) -> None:
    before = tree(raw)
    target = raw if "--in_place" in options else raw.with_name("raw_preprocessed")
    done = preprocess(raw, *options, limit=100_000)  # a cloud takes 173 kB
    assert done.returncode == 2
    assert f"error: {target}: cannot write (" in done.stderr
    assert "Free space or fix the permissions; what is finished is kept: run the same command again" in done.stderr
    assert "Traceback" not in done.stderr
    found = tree(target)
    assert not [name for name in found if ".tmp" in name]
    assert all(found[name] == content for name, content in before.items() if name in found)
    assert tree(raw) | before == tree(raw)
    assert preprocess(raw, *options).returncode == 0
    assert not [name for name in tree(target) if ".tmp" in name]
    assert len(list(target.rglob("*.tiff"))) == 8


@pytest.mark.slow
def test_folder_that_cannot_be_written_is_named(raw: Path, tmp_path: Path) -> None:
    before = tree(raw)
    (tmp_path / "file").write_text("mine")
    for target in (tmp_path / "file" / "inside", Path("/proc/absent")):
        done = preprocess(raw, "--target_dir", str(target))
        assert done.returncode == 2
        assert f"error: {target}" in done.stderr
        assert "Traceback" not in done.stderr
    assert (tmp_path / "file").read_text() == "mine"
    assert tree(raw) == before


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
@pytest.mark.slow
def test_read_only_target_is_named(raw: Path, tmp_path: Path) -> None:
    (tmp_path / "out").mkdir(mode=0o500)
    done = preprocess(raw, "--target_dir", str(tmp_path / "out"))
    assert done.returncode == 2
    assert "Permission denied" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("where", ["part", "part/train/good/xyz", "part/train/good/xyz/000.tiff"])
def test_nothing_is_written_through_links(raw: Path, tmp_path: Path, where: str) -> None:
    outside = tmp_path / "outside"
    (raw / where).rename(outside)
    (raw / where).symlink_to(outside)
    content = tree(outside) if outside.is_dir() else {"": outside.read_bytes()}
    with pytest.raises(UserError, match=rf"raw/{where}: is a link to {outside}, outside of"):
        preprocess_mvtec.main([str(raw), "--in_place", "--workers", "1"])
    assert not (raw / "preprocessing.json").exists()
    assert preprocess_mvtec.main([str(raw), "--workers", "1"]) == 0  # reading through them is the user's choice
    target = raw.with_name("raw_preprocessed")
    assert not any(path.is_symlink() for path in target.rglob("*"))
    path = target / where
    path.rename(tmp_path / "moved")
    path.symlink_to(tmp_path / "moved")
    with pytest.raises(UserError, match=rf"raw_preprocessed/{where}: is a link to {tmp_path}/moved, outside of"):
        preprocess_mvtec.main([str(raw), "--workers", "1"])
    assert (tree(outside) if outside.is_dir() else {"": outside.read_bytes()}) == content


def test_target_with_leftovers_only_counts_as_empty(raw: Path) -> None:
    target = raw.with_name("raw_preprocessed")
    target.mkdir()
    (target / ".preprocessing.0123abcd.tmp.json").write_text("{")  # of a run that was killed at its first file
    assert preprocess_mvtec.main([str(raw), "--workers", "1"]) == 0
    assert not (target / ".preprocessing.0123abcd.tmp.json").exists()
    (target / ".preprocessing.0123abcd.tmp.json").write_text("{")  # or at its last
    assert preprocess_mvtec.main([str(raw), "--workers", "1"]) == 0
    assert not (target / ".preprocessing.0123abcd.tmp.json").exists()


def test_pipe_in_a_dataset_is_an_error_and_no_hang(raw: Path) -> None:
    path = raw / "part/train/good/xyz/000.tiff"
    path.unlink()
    os.mkfifo(path)
    with pytest.raises(UserError, match=r"1 samples could not .*\n.*000\.tiff: expected a file, found something else"):
        preprocess_mvtec.main([str(raw), "--workers", "1"])
