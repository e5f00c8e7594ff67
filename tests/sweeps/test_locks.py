"""sweeps/locks.py: a job has one process, and those that are no more have none."""

import json
import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from sweeps.locks import LOCK, Owner, birth, owner_of, taken
from utils.errors import UserError


def plant(folder: Path, **changed: str | int) -> Owner:
    """A lock as this process would have made it, but for what is changed."""
    with taken(folder, "mine"):
        content = json.loads((folder / LOCK).read_text())
    (folder / LOCK).write_text(json.dumps(content | changed))
    owner = owner_of(folder)
    assert owner is not None
    return owner


def test_a_job_is_held_and_given_back(tmp_path: Path) -> None:
    with taken(tmp_path / "job", "mine") as other:
        assert other is None
        owner = owner_of(tmp_path / "job")
        assert owner is not None
        assert (owner.pid, owner.sweep, owner.lives) == (os.getpid(), "mine", True)
        with taken(tmp_path / "job", "theirs") as second:
            assert second == owner
        assert owner_of(tmp_path / "job") == owner  # it was not theirs to give back
    assert owner_of(tmp_path / "job") is None


def test_of_many_at_once_one_has_it(tmp_path: Path) -> None:
    plant(tmp_path, pid=2**22 + 1)  # of a process that is no more: to be replaced by one of them
    start, found = threading.Barrier(8), list[bool]()
    end = threading.Barrier(8)

    def take() -> None:
        start.wait()
        with taken(tmp_path, "mine") as other:
            found.append(other is None)
            end.wait()

    threads = [threading.Thread(target=take) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(found) == [False] * 7 + [True]


def test_the_lock_of_a_killed_process_is_taken_over(tmp_path: Path) -> None:
    child = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    owner = plant(tmp_path, pid=child.pid, born=birth(child.pid))
    assert owner.lives is True
    child.kill()
    child.wait()
    assert owner.lives is False
    with taken(tmp_path, "mine") as other:
        assert other is None
    assert owner_of(tmp_path) is None


def test_a_number_that_another_process_has_now_is_not_believed(tmp_path: Path) -> None:
    assert plant(tmp_path, born="1").lives is False
    assert birth(os.getpid()) not in ("", "1")
    assert birth(2**22 + 1) == ""


def test_locks_of_other_machines_are_left_alone_unless_the_same_sweep_made_them(tmp_path: Path) -> None:
    owner = plant(tmp_path, host="elsewhere", sweep="theirs")
    assert owner.lives is None
    assert str(owner).startswith(f"process {os.getpid()} on elsewhere, since 20")
    with taken(tmp_path, "mine") as other:
        assert other == owner
    assert owner_of(tmp_path) == owner
    with taken(tmp_path, "theirs") as other:
        assert other is None


@pytest.mark.parametrize("text", ["", "{}", "[1]", '{"host": "a"'])
def test_a_damaged_lock_is_named(text: str, tmp_path: Path) -> None:
    (tmp_path / LOCK).write_text(text)
    with pytest.raises(UserError, match=f"{LOCK}: cannot be read.*remove the file"), taken(tmp_path, "mine"):
        pass
