"""utils/files.py: atomic writes, locks and hashes."""

import fcntl
import hashlib
import json
import os
import signal
import stat
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from utils.errors import UserError
from utils.files import (
    atomic_path,
    check_names,
    leftovers,
    locked,
    read_text,
    read_with,
    refuse_links,
    remove_leftovers,
    sha256_file,
    write_json,
)

PROJECT_ROOT = Path(__file__).resolve().parents[2]


def test_atomic_path_replaces_the_file_when_the_block_ends(tmp_path: Path) -> None:
    path = tmp_path / "new" / "folder" / "cloud.tiff"
    for content in ("old", "new"):
        before = path.read_text() if path.exists() else None
        with atomic_path(path) as temporary:
            assert temporary.parent == path.parent
            assert temporary.suffix == ".tiff"
            assert temporary.name.startswith(".")
            temporary.write_text(content)
            assert (path.read_text() if path.exists() else None) == before
        assert path.read_text() == content
    assert list(path.parent.iterdir()) == [path]


@pytest.mark.parametrize("stem", ["x" * 250, "é" * 125])
def test_every_name_that_the_system_takes_can_be_written(stem: str, tmp_path: Path) -> None:
    path = tmp_path / f"{stem}.tiff"
    with atomic_path(path) as temporary:
        assert leftovers(tmp_path) == [temporary]
        temporary.write_text("new")
    assert path.read_text() == "new"
    check_names([path])
    with pytest.raises(UserError, match=r"x{252}\.tiff: cannot be written, its name takes 257 bytes.*take 255"):
        check_names([path, tmp_path / f"{'x' * 252}.tiff"])


@pytest.mark.parametrize("existed", [True, False])
def test_exception_leaves_what_was_there(tmp_path: Path, existed: bool) -> None:
    path = tmp_path / "result.json"
    if existed:
        path.write_text("old")

    def write_half() -> None:
        with atomic_path(path) as temporary:
            temporary.write_text("half of the n")
            raise RuntimeError("stop")

    with pytest.raises(RuntimeError, match="stop"):
        write_half()
    assert list(tmp_path.iterdir()) == ([path] if existed else [])
    if existed:
        assert path.read_text() == "old"


def test_killed_writer_leaves_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / "result.json"
    path.write_text("old")
    code = f"""
import os, signal
from pathlib import Path
from utils.files import atomic_path
with atomic_path(Path({str(path)!r})) as temporary:
    temporary.write_text("half of the n")
    os.kill(os.getpid(), signal.SIGKILL)
"""
    assert subprocess.run([sys.executable, "-c", code], cwd=PROJECT_ROOT).returncode == -signal.SIGKILL
    assert path.read_text() == "old"
    assert [other.name[0] for other in tmp_path.iterdir() if other != path] == ["."]  # readers skip dot files


def test_written_file_has_the_permissions_of_any_other(tmp_path: Path) -> None:
    old = os.umask(0o027)
    try:
        with atomic_path(tmp_path / "a.txt") as temporary:
            temporary.write_text("x")
        assert stat.S_IMODE((tmp_path / "a.txt").stat().st_mode) == 0o640
        assert os.umask(0o027) == 0o027
    finally:
        os.umask(old)


def test_write_json(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    value = {"loss": 0.1, "names": ["é", "b"], "none": None, "nested": {"x": 1}}
    write_json(path, value)
    assert json.loads(path.read_text(encoding="utf-8")) == value
    assert path.read_text(encoding="utf-8").endswith("}\n")
    for bad in (float("nan"), float("inf")):
        with pytest.raises(ValueError, match="JSON"):
            write_json(path, {"loss": bad})
    assert json.loads(path.read_text(encoding="utf-8")) == value
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("size", [0, 1, (1 << 20) - 1, 1 << 20, (1 << 21) + 17])
def test_sha256_file(tmp_path: Path, size: int) -> None:
    content = np.random.default_rng(size).bytes(size)
    (tmp_path / "file").write_bytes(content)
    assert sha256_file(tmp_path / "file") == hashlib.sha256(content).hexdigest()


def test_read_with_names_the_file_and_what_to_do(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    path.write_text("[1, 2]")
    assert read_with(path, lambda file: json.loads(read_text(file)), "Write it again.") == [1, 2]
    path.write_text("[" * 100_000)  # too deep for the parser's recursion
    with pytest.raises(UserError, match=r"a\.json: cannot be read \(RecursionError: .*\)\. Write it again\."):
        read_with(path, lambda file: json.loads(read_text(file)), "Write it again.")
    path.write_bytes(b"\xff")
    with pytest.raises(UserError, match=r"a\.json: cannot be read \(UnicodeDecodeError"):
        read_with(path, read_text, "Write it again.")
    path.write_bytes(b" " * ((16 << 20) + 1))
    with pytest.raises(UserError, match=r"16777217 bytes, expected a text file of at most 16777216"):
        read_with(path, read_text, "Write it again.")


def test_links_out_of_a_folder_are_refused(tmp_path: Path) -> None:
    folder, outside = tmp_path / "data", tmp_path / "outside"
    (folder / "part").mkdir(parents=True)
    outside.mkdir()
    (folder / "part/inner").symlink_to(folder / "part")
    refuse_links(folder)
    (tmp_path / "link").symlink_to(folder)
    refuse_links(tmp_path / "link")
    refuse_links(tmp_path / "absent")
    for target in (outside, outside / "absent", tmp_path, folder / "../outside"):
        (folder / "part/out").symlink_to(target)
        with pytest.raises(UserError, match=rf"data/part/out: is a link to {target.resolve()}, outside of"):
            refuse_links(folder)
        (folder / "part/out").unlink()


def test_leftovers_are_removed_and_nothing_else(tmp_path: Path) -> None:
    kept = ["a.tiff", ".hidden", "b.12345678.tmp.tiff", ".c.1234.tmp.tiff"]
    gone = [".a.0123abcd.tmp.tiff", ".b.0123abcd.tmp"]
    (tmp_path / "inner/.d.0123abcd.tmp").mkdir(parents=True)
    for name in (*kept, *gone):
        (tmp_path / "inner" / name).touch()
    remove_leftovers(tmp_path)
    assert {path.name for path in (tmp_path / "inner").iterdir()} == {*kept, ".d.0123abcd.tmp"}


HOLD = """
import sys, time
from pathlib import Path
from utils.files import locked
with locked(Path(sys.argv[1]), sys.argv[2]):
    print("held", flush=True)
    time.sleep(60)
"""


def test_names_in_a_folder_are_locked_apart(tmp_path: Path) -> None:
    command = [sys.executable, "-c", HOLD, str(tmp_path / "new"), "gear_5ep_2bs"]
    with subprocess.Popen(command, cwd=PROJECT_ROOT, stdout=subprocess.PIPE, text=True) as other:
        try:
            assert other.stdout is not None
            assert other.stdout.readline() == "held\n"
            with locked(tmp_path / "new", "gear_6ep_2bs"), locked(tmp_path / "new"):
                assert len(list((tmp_path / "new").iterdir())) == 3
            for _ in range(2):
                with (
                    pytest.raises(UserError, match=r"new/gear_5ep_2bs: another command is writing to it"),
                    locked(tmp_path / "new", "gear_5ep_2bs"),
                ):
                    raise AssertionError("not reached")
        finally:
            other.kill()
    with locked(tmp_path / "new", "gear_5ep_2bs"):  # the system frees what a killed process held
        pass
    assert list((tmp_path / "new").iterdir()) == []


def test_lock_is_not_that_of_a_file_which_was_removed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Another command ends, and removes its file, between the opening of the file and its locking."""
    flock = fcntl.flock
    opened: list[int] = []

    def slow(descriptor: int, operation: int) -> None:
        if not opened:
            (tmp_path / ".a.lock").unlink()
        opened.append(os.fstat(descriptor).st_ino)
        flock(descriptor, operation)

    monkeypatch.setattr("fcntl.flock", slow)
    with locked(tmp_path, "a"):
        assert len(opened) == 2
        assert (tmp_path / ".a.lock").stat().st_ino == opened[1]


def test_lock_follows_no_link(tmp_path: Path) -> None:
    (tmp_path / ".a.lock").symlink_to(tmp_path / "outside")
    with pytest.raises(OSError, match="symbolic links"), locked(tmp_path, "a"):
        raise AssertionError("not reached")
    assert not (tmp_path / "outside").exists()


def test_system_without_these_locks_gets_a_sentence(tmp_path: Path) -> None:
    """As on Windows."""
    code = f"""
import sys
sys.modules["fcntl"] = None
import cfm_training
from utils import cli
raise SystemExit(cli.run(lambda: cfm_training.main(["--class_name", "a", "--checkpoint_savepath", {str(tmp_path)!r}])))
"""
    done = subprocess.run([sys.executable, "-c", code], cwd=PROJECT_ROOT, capture_output=True, text=True)
    assert done.returncode == 2
    assert done.stderr.startswith("error: this system has no fcntl")
    assert "run on Linux and macOS; on Windows, run them in WSL" in done.stderr
    assert done.stderr.count("\n") == 1
