"""utils/files.py: atomic writes and hashes."""

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

from utils.files import atomic_path, sha256_file, write_json

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
