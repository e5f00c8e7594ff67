"""inspection/words.py: answers in words."""

from dataclasses import replace

import numpy as np

from inspection import words
from inspection.answer import Answer, Logged, Region
from tests.inspection.stub import THRESHOLDS

EMPTY = np.zeros((1, 1), np.int32)
REGIONS = [
    Region((10, 20, 14, 27), 20, 12.345, 0.87654, (0.001, -0.0123, 0.6)),
    Region((0, 0, 1, 1), 1, None, 0.7, None),
]


def outcome(score: float | None = 0.5, anomalous: bool | None = False, error: str | None = None) -> Logged:
    return Logged("7", ("s", "d", 0.01), "7.png", score, anomalous, error)


def test_an_answer_with_its_regions() -> None:
    found = Answer(0.87654, True, EMPTY, REGIONS, EMPTY, True, ("brightness: 61", "measured points: 1 %"))
    assert words.answer(found, THRESHOLDS).splitlines() == [
        "ANOMALOUS, score 0.8765, threshold 0.6",
        "  raw scan, cleaned of its background first",
        "  input: brightness: 61",
        "  input: measured points: 1 %",
        "  region 1: 4×7 pixels at (10, 20), peak 0.8765, 12.3 mm², around x 1.0, y -12.3, z 600.0 mm",
        "  region 2: 1×1 pixels at (0, 0), peak 0.7",
    ]
    assert words.answer(Answer(0.1, False, EMPTY, [], EMPTY, False), THRESHOLDS) == "good, score 0.1, threshold 0.6"
    assert words.answer(Answer(0.1, None, EMPTY, [], EMPTY, False), None) == "no decision, score 0.1"


def test_an_outcome() -> None:
    assert words.outcome(outcome(anomalous=True), True) == "ANOMALOUS, score 0.5"
    assert words.outcome(outcome(), False) == "good, score 0.5 (known before)"
    assert words.outcome(outcome(None, None, "7.png: lost"), True) == "failed: 7.png: lost"
    odd = replace(outcome(anomalous=True), reasons=("too dark", "too small"))
    assert words.outcome(odd, True) == "ANOMALOUS, score 0.5; input: too dark; input: too small"


def test_a_summary() -> None:
    failed = outcome(None, None, "lost")
    found = [(outcome(), True), (outcome(), False), (outcome(anomalous=True), True), (failed, True)]
    told = "3 of 4 parts answered (1 before): 1 anomalous, 2 good; 1 failed"
    assert words.summary(found) == told
    assert words.summary(found, 2) == f"{told}; unpaired files: 2"
    assert words.summary([(outcome(anomalous=None), True)]) == "1 of 1 parts answered: 1 no decision; 0 failed"
    odd = replace(outcome(anomalous=True), cleaned=True, reasons=("too dark",))
    told = (
        "2 of 2 parts answered: 1 anomalous, 1 good; 0 failed; raw scans, cleaned first: 1; input unlike good parts': 1"
    )
    assert words.summary([(odd, True), (outcome(), True)]) == told
    assert words.summary([]) == "0 of 0 parts answered: none; 0 failed"
