"""What all commands that make datasets share: sources that change, sources that go, and two commands at once."""

import json
import multiprocessing
import os
import shutil
from collections.abc import Callable
from multiprocessing.synchronize import Event
from pathlib import Path

import pytest
import tifffile

from processing import preprocess_eyecandies, preprocess_mvtec
from processing.bulk import Done, summary
from processing.manifest import Preprocessing, write_manifest
from tests.processing.tools import tree
from utils.errors import UserError
from utils.files import locked

GOLDEN = Path(__file__).parents[1] / "golden" / "eyecandies"


@pytest.fixture
def raw(tmp_path: Path, write_dataset: Callable[..., Path]) -> Path:
    return write_dataset(tmp_path / "raw")


def preprocess(raw: Path, *options: str) -> dict[str, bytes]:
    """Files of the preprocessed dataset."""
    assert preprocess_mvtec.main([str(raw), "--workers", "1", *options]) == 0
    return tree(raw.with_name("raw_preprocessed"))


@pytest.mark.parametrize(
    ("name", "other"),
    [
        ("test/hole/rgb/000.png", "test/hole/rgb/001.png"),
        ("test/hole/gt/000.png", "test/good/gt/000.png"),
        ("train/good/xyz/000.tiff", "train/good/xyz/001.tiff"),
    ],
)
def test_changed_source_is_processed_again(
    raw: Path, name: str, other: str, capsys: pytest.CaptureFixture[str]
) -> None:
    before = preprocess(raw)
    times = (raw / "part" / name).stat()
    shutil.copy(raw / "part" / other, raw / "part" / name)
    os.utime(raw / "part" / name, ns=(times.st_atime_ns, times.st_mtime_ns))  # as an archive unpacks it
    after = preprocess(raw)
    assert "1 samples processed, 7 were finished before" in capsys.readouterr().out
    changed = {path for path in after if after[path] != before.get(path)} - {"preprocessing.json"}
    assert changed == {f"part/{name}"}
    shutil.rmtree(raw.with_name("raw_preprocessed"))
    assert preprocess(raw) == after


def test_changed_depth_of_eyecandies_is_converted_again(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data = tmp_path / "raw/Lollipop/train/data"
    data.mkdir(parents=True)
    for key in ("depth.png", "info_depth.yaml", "pose.txt"):
        shutil.copy(GOLDEN / f"000_{key}", data)
    shutil.copy(GOLDEN / "000_depth.png", data / "000_image_4.png")  # any picture
    words = ["--dataset_path", str(tmp_path / "raw"), "--target_dir", str(tmp_path / "out"), "--workers", "1"]
    assert preprocess_eyecandies.main(words) == 0
    limits = (data / "000_info_depth.yaml").read_text()
    (data / "000_info_depth.yaml").write_text(limits + "\n# the same numbers, another file\n")
    capsys.readouterr()
    assert preprocess_eyecandies.main(words) == 0
    assert "1 samples processed, 0 were finished before" in capsys.readouterr().out
    assert preprocess_eyecandies.main(words) == 0
    assert "0 samples processed, 1 were finished before" in capsys.readouterr().out


def test_sample_whose_source_is_gone_is_told_and_kept(raw: Path) -> None:
    before = preprocess(raw)
    for kind in ("rgb", "xyz"):  # a defect was among the good
        end = "png" if kind == "rgb" else "tiff"
        (raw / f"part/train/good/{kind}/001.{end}").rename(raw / f"part/test/hole/{kind}/002.{end}")
    shutil.copy(raw / "part/test/hole/gt/001.png", raw / "part/test/hole/gt/002.png")
    with pytest.raises(UserError, match=r"1 samples have no source any more: part/train/good/xyz/001\.tiff\. Remove"):
        preprocess(raw)
    target = raw.with_name("raw_preprocessed")
    assert json.loads((target / "preprocessing.json").read_text())["complete"] is False
    assert tree(target)["part/train/good/xyz/001.tiff"] == before["part/train/good/xyz/001.tiff"]
    (target / "part/train/good/rgb/001.png").unlink()
    (target / "part/train/good/xyz/001.tiff").unlink()
    manifest = json.loads(preprocess(raw)["preprocessing.json"])
    assert manifest["complete"] is True
    assert "part/test/hole/xyz/002.tiff" in manifest["files"]


def hold(folder: Path, held: Event, done: Event) -> None:
    with locked(folder):
        held.set()
        done.wait(60)


def test_two_commands_do_not_write_to_one_folder(raw: Path) -> None:
    target = raw.with_name("raw_preprocessed")
    spawn = multiprocessing.get_context("spawn")
    held, done = spawn.Event(), spawn.Event()
    other = spawn.Process(target=hold, args=(target, held, done))
    other.start()
    try:
        assert held.wait(60)
        with pytest.raises(UserError, match=rf"{target}: another command is writing to it\. Wait"):
            preprocess(raw)
        assert tree(target) == {".lock": b""}
    finally:
        other.kill()  # the system frees what a killed process held
        other.join()
    assert len(preprocess(raw)) > 8


def test_lock_is_freed_and_leaves_nothing(tmp_path: Path) -> None:
    for _ in range(2):
        with locked(tmp_path / "new/folder"):
            assert (tmp_path / "new/folder").is_dir()
        assert list(tmp_path.iterdir()) == []
    with locked(tmp_path / "new/folder"):
        (tmp_path / "new/file").touch()
    assert list(tmp_path.rglob("*")) == [tmp_path / "new", tmp_path / "new/file"]


def test_file_system_without_locks_is_no_obstacle(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def unknown(descriptor: int, operation: int) -> None:
        raise OSError(95, "Operation not supported")

    monkeypatch.setattr("fcntl.flock", unknown)
    with locked(tmp_path / "new"):
        (tmp_path / "new/file").touch()
    with pytest.raises(BlockingIOError, match="of the work itself"), locked(tmp_path / "new"):
        raise BlockingIOError(11, "of the work itself")


def test_options_may_change_while_nothing_is_finished(raw: Path) -> None:
    target = raw.with_name("raw_preprocessed")
    write_manifest(target, Preprocessing(seed=5), False, {"part/train/good/xyz/000.tiff": None})
    assert json.loads(preprocess(raw)["preprocessing.json"])["seed"] == 0
    with pytest.raises(UserError, match=r"made with seed 0, now asked for 5\. Use the same options"):
        preprocess(raw, "--seed", "5")


def test_next_command_can_be_pasted_as_it_is() -> None:
    text = summary(Path("my data"), Done({"b/x": 0.1, "a/x": 0.2}, 1), "Tom's part", [], " --mapper mlp_big")
    assert "--dataset_path 'my data' --class_name 'Tom'\"'\"'s part' --mapper mlp_big" in text
    assert "1 samples processed, 1 were finished before" in text
    assert "fewest 10.0% in b/x" in text


def test_foreign_files_in_the_target_stay(raw: Path) -> None:
    preprocess(raw)
    target = raw.with_name("raw_preprocessed")
    mine = [target / name for name in (".report.20240101.tmpl", ".my notes.2024-1-1.tmp.txt", ".a.0123abcx.tmp")]
    for path in mine:
        path.write_text("mine")
    tifffile.imwrite(target / ".cloud.0123abcd.tmp.tiff", [[1.0]])
    preprocess(raw)
    assert [path.read_text() for path in mine] == ["mine"] * 3
    assert not (target / ".cloud.0123abcd.tmp.tiff").exists()
