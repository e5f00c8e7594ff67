"""Matrices against torch's own filters."""

import pytest
import torch
from torch.nn import functional

from models.resampling import box, linear

CPU = torch.device("cpu")


@pytest.mark.parametrize(("length", "size"), [(20, 40), (80, 40), (40, 40), (7, 19), (1, 5)])
def test_linear_interpolation_is_torchs(length: int, size: int) -> None:
    grid = torch.rand(1, 2, length, length, generator=torch.Generator().manual_seed(0))
    matrix = linear(length, size, CPU)
    expected = functional.interpolate(grid, (size, size), mode="bilinear")
    torch.testing.assert_close(matrix @ grid @ matrix.T, expected, rtol=0, atol=1e-6)


@pytest.mark.parametrize(("length", "side"), [(9, 3), (6, 5), (4, 1), (3, 7)])
def test_means_leave_out_what_lies_beyond_the_border(length: int, side: int) -> None:
    line = torch.arange(1.0, length + 1)
    for place, mean in enumerate((box(length, side, CPU) @ line).tolist()):
        seen = line[max(0, place - side // 2) : place + side // 2 + 1]
        assert mean == pytest.approx(float(seen.mean()))
