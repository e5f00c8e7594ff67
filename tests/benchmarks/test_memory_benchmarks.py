"""The cases of memory banks: what is timed against one another gives the same."""

from pathlib import Path
from typing import Any

import pytest
import torch

from benchmarks import memory_cases
from benchmarks.measure import Setting
from models.memory.coreset import greedy_coreset


@pytest.fixture
def setting(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Setting:
    sizes = {"ROWS": 600, "WIDTH": 20, "PICKS": 60, "PLAIN_PICKS": 40, "QUERIES": 30, "BANK": 90, "BANK_WIDTH": 15}
    for name, value in sizes.items():
        monkeypatch.setattr(memory_cases, name, value)
    return Setting("cpu", tmp_path)


def test_both_loops_pick_the_same(setting: Setting) -> None:
    plain, ours = memory_cases.plain_coreset(setting), memory_cases.coreset(setting)
    picks: Any = ours.step()
    assert picks.tolist()[:40] == plain.step()
    assert (plain.images, ours.images) == (40, 60)
    assert ours.figures() == {"first picks that are those of the plain loop": 40}


def test_all_ways_find_the_same_neighbours(setting: Setting) -> None:
    exact: Any = memory_cases.distances(setting, "donot_use_mm_for_euclid_dist").step()
    ours: Any = memory_cases.neighbours(setting).step()
    assert torch.equal(exact.indices, ours[1][:, 0])
    assert torch.allclose(exact.values, ours[0][:, 0].sqrt().float(), atol=1e-6)
    assert memory_cases.neighbours(setting).figures()["largest error of `cdist`"] < 0.1


def test_a_bank_has_no_row_twice(setting: Setting) -> None:
    _, bank = memory_cases.queries_and_bank()
    assert len(greedy_coreset(bank, len(bank))) == len(bank) == 90
