"""inspection/watch.py: pairs are handed out when they are complete, once."""

import os
from pathlib import Path

import pytest

from inspection import watch as module
from inspection.watch import Watch


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "in").mkdir()
    return tmp_path / "in"


def names(watch: Watch) -> list[str]:
    return [pair.name for pair in watch.look()]


def write(path: Path, size: int, seconds: int = 0) -> None:
    path.write_bytes(b"x" * size)
    os.utime(path, (seconds, seconds))


def test_a_pair_is_handed_out_once_when_both_files_stand_still(folder: Path) -> None:
    watch = Watch(folder, folder / "out")
    write(folder / "7.png", 10)
    assert names(watch) == []
    assert names(watch) == []  # there is no cloud yet
    write(folder / "7.npy", 10)
    assert names(watch) == []
    assert names(watch) == ["7"]
    assert names(watch) == []


@pytest.mark.parametrize("part", ["7.png", "7.npy"])
def test_files_that_grow_or_are_rewritten_are_waited_for(part: str, folder: Path) -> None:
    watch = Watch(folder, folder / "out")
    write(folder / "7.png", 10)
    write(folder / "7.npy", 10)
    for size, seconds in ((11, 0), (12, 0), (12, 1), (12, 2)):
        assert names(watch) == []
        write(folder / part, size, seconds)
    assert names(watch) == []
    assert names(watch) == ["7"]


def test_a_changed_pair_is_handed_out_again(folder: Path) -> None:
    watch = Watch(folder, folder / "out")
    write(folder / "7.png", 10)
    write(folder / "7.npy", 10)
    assert names(watch) + names(watch) == ["7"]
    write(folder / "7.npy", 10, seconds=5)
    assert names(watch) == []
    assert names(watch) == ["7"]
    write(folder / "new.npy", 10, seconds=5)  # of the same size and time, in the place of the old one
    (folder / "new.npy").replace(folder / "7.npy")
    assert names(watch) + names(watch) == ["7"]


def test_pairs_that_come_meanwhile_are_not_lost(folder: Path) -> None:
    watch = Watch(folder, folder / "out")
    for name in ("b", "a"):
        write(folder / f"{name}.png", 10)
        write(folder / f"{name}.npy", 10)
    assert names(watch) == []
    write(folder / "c.png", 10)
    write(folder / "c.npy", 10)
    assert names(watch) == ["a", "b"]
    assert names(watch) == ["c"]


def test_files_and_folders_may_go_and_come(folder: Path) -> None:
    watch = Watch(folder, folder / "out")
    write(folder / "7.png", 10)
    write(folder / "7.npy", 10)
    assert names(watch) == []
    (folder / "7.npy").unlink()
    assert names(watch) == []
    write(folder / "7.npy", 10)
    assert names(watch) == []
    assert names(watch) == ["7"]
    for path in (folder / "7.npy", folder / "7.png"):
        path.unlink()
    folder.rmdir()
    assert names(watch) == []
    folder.mkdir()
    write(folder / "7.png", 10)
    write(folder / "7.npy", 10)
    assert names(watch) == []
    assert names(watch) == ["7"]


def test_a_file_that_vanishes_while_it_is_looked_at_is_not_handed_out(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    watch = Watch(folder, folder / "out")
    write(folder / "7.png", 10)
    write(folder / "7.npy", 10)
    assert names(watch) == []
    find_pairs = module.find_pairs

    def find_and_lose(*arguments: Path) -> object:
        found = find_pairs(*arguments)
        (folder / "7.png").unlink()
        return found

    monkeypatch.setattr(module, "find_pairs", find_and_lose)
    assert names(watch) == []
