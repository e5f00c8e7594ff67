"""benchmarks/alignment.py: the faults that it plants, and its table."""

import numpy as np
import pytest

from benchmarks import alignment
from datasets.scenes.shapes import OBJECT_CLASSES


def pixels(*rows: list[int]) -> np.ndarray:
    """A cloud whose points have three equal coordinates."""
    return np.repeat(np.array(rows, np.float32)[..., None], 3, axis=2)


def test_moved_clouds_lose_what_leaves_the_frame() -> None:
    cloud = pixels([1, 2, 3], [4, 5, 6])
    np.testing.assert_array_equal(alignment.moved(cloud, 1, 0), pixels([0, 1, 2], [0, 4, 5]))
    np.testing.assert_array_equal(alignment.moved(cloud, -2, 1), pixels([0, 0, 0], [3, 0, 0]))
    np.testing.assert_array_equal(alignment.moved(cloud, 0, -1), pixels([4, 5, 6], [0, 0, 0]))


def test_stretched_clouds_keep_their_middle() -> None:
    cloud = pixels([1, 2, 3, 4, 5])
    np.testing.assert_array_equal(alignment.stretched(cloud, 2, 1), pixels([2, 3, 3, 3, 4]))
    np.testing.assert_array_equal(alignment.stretched(cloud, 0.5, 1), pixels([0, 1, 3, 5, 0]))
    np.testing.assert_array_equal(alignment.stretched(cloud, 1, 1), cloud)


# Slow: the check judges several scans together.
@pytest.mark.slow
def test_table_counts_by_class_and_fault(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(alignment, "OBJECT_CLASSES", {"gear": OBJECT_CLASSES["gear"]})
    monkeypatch.setattr(alignment, "FAULTS", {name: alignment.FAULTS[name] for name in ("none", "15 px down")})
    monkeypatch.setattr(alignment, "SIZE", 240)
    monkeypatch.setattr(alignment, "SAMPLES", 6)
    assert alignment.main(["--seeds", "1", "--workers", "1"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "| fault | all | gear |"
    assert lines[2:] == ["| none | 0 of 2 | 0 of 2 |", "| 15 px down | 2 of 2 | 2 of 2 |"]


def test_cells_count_what_was_told_and_what_was_not_judged() -> None:
    assert alignment._counts([False, None, True, False]) == "2 of 4, 1 not judged"
    assert alignment._counts([True, True]) == "0 of 2"
