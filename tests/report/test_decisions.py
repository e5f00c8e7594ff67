"""report/decisions.py, by hand."""

import numpy as np
import pytest

from evaluation.results import Prediction
from report.decisions import counts, histogram, verdict, worst_first


def predictions(*scores: tuple[str, float]) -> list[Prediction]:
    empty = np.zeros((2, 2), np.float32)
    return [
        Prediction(defect, str(i), 9.0 - score, score, 0.1, empty, empty, empty > 0)
        for i, (defect, score) in enumerate(scores)
    ]


SCORES = predictions(
    ("good", 0.2),
    ("good", 0.9),
    ("hole", 0.8),
    ("hole", 0.3),
    ("cut", 0.1),
    ("good", 0.6),
    ("cut", 0.55),
    ("good", 0.5),
)


@pytest.mark.parametrize(
    ("label", "score", "expected"),
    [(True, 0.6, "caught"), (True, 0.5, "missed"), (False, 0.6, "false alarm"), (False, 0.5, "passed")],
)
def test_verdict(label: bool, score: float, expected: str) -> None:
    assert verdict(label, score, 0.5) == expected
    assert verdict(label, score, None) is None


def test_counts() -> None:
    assert counts(SCORES, 0.5) == {"caught": 2, "missed": 2, "false alarm": 2, "passed": 2}
    assert counts(SCORES[:1], 0.5) == {"caught": 0, "missed": 0, "false alarm": 0, "passed": 1}


def test_worst_first() -> None:
    # misses 0.1 and 0.3; false alarms 0.9 and 0.6; then 0.5, 0.55, 0.2, 0.8 by their distance to 0.5
    assert worst_first(SCORES, 0.5) == [4, 3, 1, 5, 7, 6, 0, 2]
    # defects from the lowest score, good ones from the highest
    assert worst_first(SCORES, None) == [4, 3, 6, 2, 1, 5, 7, 0]


def test_equal_scores_follow_their_names() -> None:
    tied = predictions(("hole", 0.3), ("cut", 0.3), ("cut", 0.3))
    assert worst_first(tied[::-1], 0.5) == [1, 0, 2]
    assert worst_first(tied, None) == [1, 2, 0]


def test_histogram() -> None:
    found = histogram(SCORES, bins=4)  # 0.1 … 0.9 in steps of 0.2
    assert found["edges"] == pytest.approx([0.1, 0.3, 0.5, 0.7, 0.9])
    assert list(found["counts"]) == ["good", "cut", "hole"]
    assert found["counts"]["good"] == [1, 0, 2, 1]
    assert found["counts"]["cut"] == [1, 0, 1, 0]
    assert sum(found["counts"]["hole"]) == 2
    assert found["counts"]["hole"][3] == 1
    alone = histogram(SCORES[:1], bins=3)
    assert (alone["counts"], len(alone["edges"])) == ({"good": [0, 1, 0]}, 4)
