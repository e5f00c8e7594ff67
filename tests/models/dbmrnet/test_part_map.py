"""The map of a part against a plain version, and what it says of holes and rims."""

import math

import pytest
import torch
from torch import Tensor

from models.dbmrnet.part_map import closed, make_part_map


def sheet(hole: tuple[slice, slice] | None = None) -> Tensor:
    """(100, 100) bool, 60×60 pixels valid but for a hole; σ is 3 pixels, and gaps under 13 wide are filled."""
    valid = torch.zeros(100, 100, dtype=torch.bool)
    valid[20:80, 20:80] = True
    if hole:
        valid[hole] = False
    return valid


HOLE = slice(45, 54), slice(40, 49)
NOTCH = slice(20, 32), slice(50, 59)


def plain_closed(mask: Tensor, radius: int) -> Tensor:
    """Every square that holds the pixel touches the mask; squares reach beyond the frame, where nothing is."""
    size, found = len(mask), mask.clone()
    for v in range(size):
        for u in range(size):
            squares = [
                mask[max(0, y - radius) : max(0, y + radius + 1), max(0, x - radius) : max(0, x + radius + 1)]
                for y in range(v - radius, v + radius + 1)
                for x in range(u - radius, u + radius + 1)
            ]
            found[v, u] = all(bool(square.any()) for square in squares)
    return found


def plain_smooth(values: Tensor, deviation: float) -> Tensor:
    """Sum over all pixels, by distance, weights of a line over their sum on an endless one."""
    size = len(values)
    total = sum(math.exp(-(d**2) / (2 * deviation**2)) for d in range(-100, 101))
    line = [[math.exp(-((i - j) ** 2) / (2 * deviation**2)) / total for j in range(size)] for i in range(size)]
    weights = torch.tensor(line, dtype=torch.float64)
    return torch.einsum("vy,yx,ux->vu", weights, values.double(), weights).float()


@pytest.mark.parametrize("radius", [0, 1, 2])
def test_closing_is_that_of_a_plain_version(radius: int) -> None:
    mask = torch.rand(14, 14, generator=torch.Generator().manual_seed(radius)) < 0.15
    mask[0, 5] = True  # at the border of the frame
    found = closed(mask, radius)
    assert torch.equal(found, plain_closed(mask, radius))
    assert (int(found.sum()) > int(mask.sum())) == (radius > 0)


def test_map_is_that_of_a_plain_version() -> None:
    valid = sheet(HOLE) & (torch.rand(100, 100, generator=torch.Generator().manual_seed(0)) < 0.9)
    a, b = torch.rand(2, 100, 100, generator=torch.Generator().manual_seed(1)) * valid
    deviation = 0.05 * float(valid.sum()) ** 0.5
    share = plain_smooth(valid.float(), deviation)
    gaps = closed(valid, round(2 * deviation)) & ~valid
    assert int(gaps.sum()) > 300
    for fusion, fused in {"max": torch.maximum(a, b), "product": a * b}.items():
        found = make_part_map(a, b, fusion, valid)
        filled = torch.where(gaps, plain_smooth(fused, deviation) / share.clamp(min=1e-6), fused)
        expected = plain_smooth(filled, deviation) * (0.85 + 0.15 * share)
        torch.testing.assert_close(found.smoothed, expected, rtol=2e-3, atol=1e-5)
        assert found.image_score() == float(found.smoothed.max())
        assert torch.equal(found.psi_2d, a)
        assert torch.equal(found.psi_3d, b)


@pytest.mark.parametrize("gap", [HOLE, NOTCH])
def test_missing_piece_has_the_level_around_it(gap: tuple[slice, slice]) -> None:
    """As if it were there; and nothing is filled beyond the outline."""
    ones = torch.ones(100, 100)
    whole, holed = sheet(), sheet(gap)
    expected = make_part_map(ones * whole, ones * whole, "max", whole).smoothed
    found = make_part_map(ones * holed, ones * holed, "max", holed).smoothed
    losses = [0.85 + 0.15 * plain_smooth(valid.float(), 3.0) for valid in (holed, whole)]  # of rims
    torch.testing.assert_close(found / losses[0], expected / losses[1], rtol=0.05, atol=0.005)
    raised = ones * holed
    raised[gap[0].start - 4 : gap[0].stop + 4, gap[1].stop : gap[1].stop + 4] *= 5  # the defect's traces
    middle = tuple((line.start + line.stop) // 2 for line in gap)
    marked = make_part_map(raised, raised, "max", holed).smoothed
    assert float(marked[middle]) > 1.5


def test_wide_opening_stays_open() -> None:
    valid = sheet((slice(20, 60), slice(40, 60)))
    found = make_part_map(valid.float(), valid.float(), "max", valid).smoothed
    assert float(found[30, 50]) < 0.01


def test_spot_at_a_rim_counts_less() -> None:
    """Than smoothing makes it: what is half surrounded by nothing loses half of 15 %."""
    found = []
    for valid in (torch.ones(100, 100, dtype=torch.bool), sheet()):
        spot = torch.zeros(100, 100)
        spot[20, 47] = 30
        deviation = 0.05 * float(valid.sum()) ** 0.5
        found.append(float(make_part_map(spot, spot, "max", valid).smoothed[20, 47]) * deviation**2)
    assert found[0] / 30 == pytest.approx(1 / (2 * math.pi), rel=0.01)
    assert found[1] / found[0] == pytest.approx(1 - 0.15 * 0.43, abs=0.01)  # the rim's own row is measured


def test_branch_is_the_map_of_another_fusion() -> None:
    a, b = torch.rand(2, 100, 100, generator=torch.Generator().manual_seed(0)) * sheet(HOLE)
    fused = make_part_map(a, b, "max", sheet(HOLE))
    alone, expected = fused.branch("3d"), make_part_map(a, b, "3d", sheet(HOLE))
    assert torch.equal(alone.smoothed, expected.smoothed)
    assert not torch.equal(alone.cpu().smoothed, fused.smoothed)


@pytest.mark.parametrize("points", [0, 1, 2])
def test_few_points(points: int) -> None:
    valid = torch.zeros(30, 30, dtype=torch.bool)
    valid[10, 10 : 10 + points] = True
    found = make_part_map(valid.float(), valid.float(), "max", valid)
    assert bool(found.smoothed.isfinite().all())
    assert (found.image_score() > 0) == (points > 0)
