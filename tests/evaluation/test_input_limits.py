"""evaluation/input_limits.py: limits by hand, and what is told of values outside."""

import numpy as np
import pytest

from evaluation.input_limits import MARGIN, MEASURES, limits, outside
from evaluation.thresholds import conformal_rank


def test_limits_by_hand() -> None:
    """20 images: slack is doubled. Two-sided and relative, one-sided, and in its own unit."""
    values = [100.0] * 10 + [104.0] * 9 + [90.0]  # median 100; deviations 0, 4 and 10
    found = limits({"area": values, "hole": values, "exposure": values}, rank=20)
    room = MARGIN * 10
    assert found["area"] == pytest.approx((100 - room - 10, 100 + room + 10))
    assert found["exposure"] == pytest.approx((100 - room - 10, 100 + room + 10))
    assert found["hole"] == (None, pytest.approx(100 + MARGIN * 4 + 0.02))
    assert limits({"exposure": values}, rank=19)["exposure"] == pytest.approx((100 - 6 - 10, 100 + 6 + 10))


@pytest.mark.parametrize("count", [1, 2, 5])
def test_few_images_still_tell_a_part_that_is_hardly_there(count: int) -> None:
    low, high = limits({"points": [0.2] * count}, rank=count)["points"]
    assert low is not None
    assert high is not None
    assert 0.25 * 0.2 <= low < 0.2 < high


def test_good_parts_are_hardly_ever_outside() -> None:
    """Fresh values of the same heavy-tailed kind, each measure alone: far fewer than the rate; other parts: all."""
    rng = np.random.default_rng(0)
    outliers = 0
    for _ in range(200):
        nominal = {name: list(1 + 0.05 * rng.standard_t(4, 100)) for name in ("points", "exposure")}
        found = limits(nominal, conformal_rank(100, 0.05))
        fresh = 1 + 0.05 * rng.standard_t(4, 100)
        outliers += sum(bool(outside({"points": value, "exposure": 1.0}, found)) for value in fresh)
        assert outside({"points": 0.5, "exposure": 1.0}, found)
    assert outliers / (200 * 100) < 0.03


def test_reasons_say_what_was_found_what_is_nominal_and_what_to_look_for() -> None:
    ends = {"area": (0.001, 0.002), "hole": (None, 0.1), "exposure": (80.0, 140.0)}
    assert outside({"area": 0.001, "hole": 0.1, "exposure": 140.0}, ends) == []
    part, spot, light = outside({"area": 0.00025, "hole": 0.25, "exposure": 61.0}, ends)
    assert part == "measured surface: 250 mm², good parts have 1000 to 2000. " + MEASURES["area"].question
    assert spot == "largest unmeasured spot in it: 25 % of it, good parts have at most 10. " + MEASURES["hole"].question
    assert light == "brightness: 61 of 255, good parts have 80 to 140. Did light or exposure change?"


def test_every_measure_has_limits_of_its_own_kind() -> None:
    found = limits({name: [0.5, 0.6, 0.7] for name in MEASURES}, rank=3)
    assert {name for name, (low, _) in found.items() if low is None} == {"gaps", "hole"}
