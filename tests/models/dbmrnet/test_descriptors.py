"""Local descriptors: derivatives of known images, blind to holes, to what is not measured, and to the exposure."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from datasets.sample import Sample
from models.dbmrnet.descriptors import CELLS, ORDERS, SCALES, WIDTH, _describe, describe, image_channels
from models.token_store import GridSample

SIZE, WINDOW = 96, torch.tensor([[16.0, 16.0, 64.0]])  # a cell is a pixel
INNER = slice(12, CELLS - 12)  # cells far from the window's edge


def parts(found: Tensor) -> list[tuple[Tensor, Tensor, Tensor]]:
    """Values (3, C, C), derivatives (5, 3, C, C) and strengths (5, 3, C, C) of each scale, of one sample."""
    maps = found[0].T.unflatten(1, (CELLS, CELLS)).unflatten(0, (len(SCALES), -1))
    return [(part[:3], part[3:18].unflatten(0, (5, 3)), part[18:].unflatten(0, (5, 3))) for part in maps]


def image(kind: Callable[[Tensor, Tensor], Tensor]) -> Tensor:
    """(1, 3, H, H), the same in each channel; the function takes rows and columns."""
    v, u = torch.meshgrid(torch.arange(float(SIZE)), torch.arange(float(SIZE)), indexing="ij")
    return kind(v, u).expand(1, 3, -1, -1)


@pytest.mark.parametrize(
    ("kind", "expected"),
    [
        (lambda v, u: 3 + 0 * u, {}),
        (lambda v, u: 0.2 * u, {(0, 1): 0.2}),
        (lambda v, u: -0.1 * v, {(1, 0): -0.1}),
        (lambda v, u: 0.01 * (u - 48) ** 2, {(0, 2): 0.02, (0, 1): None}),
        (lambda v, u: 0.03 * (v - 48) * (u - 48), {(1, 1): 0.03, (0, 1): None, (1, 0): None}),
    ],
)
def test_derivatives_of_polynomials(
    kind: Callable[[Tensor, Tensor], Tensor], expected: dict[tuple[int, int], float | None]
) -> None:
    found, covered = _describe(image(kind), torch.ones(1, SIZE, SIZE), WINDOW)
    assert found.shape == (1, CELLS * CELLS, WIDTH)
    assert bool(covered.all())
    for scale, (_, derivatives, strengths) in zip(SCALES[1:], parts(found)[1:], strict=True):
        for order, values, strength in zip(ORDERS, derivatives, strengths, strict=True):
            true = expected.get(order, 0.0)
            if true is None:
                continue
            unit = scale ** sum(order)
            torch.testing.assert_close(values[:, INNER, INNER], torch.full((3, 40, 40), true * unit), rtol=0, atol=2e-3)
            among = torch.full((3, 16, 16), ((true * unit) ** 2 + 1e-4)).log() / 2
            torch.testing.assert_close(strength[:, 24:40, 24:40], among, rtol=0, atol=0.03)


def test_values_are_those_at_the_cells() -> None:
    found, _ = _describe(image(lambda v, u: 0.2 * u - 0.1 * v), torch.ones(1, SIZE, SIZE), WINDOW)
    v, u = torch.meshgrid(torch.arange(16.0, 80.0), torch.arange(16.0, 80.0), indexing="ij")
    for value, _, _ in parts(found):
        torch.testing.assert_close(value[0, INNER, INNER], (0.2 * u - 0.1 * v)[INNER, INNER], rtol=0, atol=0.01)


def test_holes_leave_no_edge_and_what_is_in_them_does_not_matter() -> None:
    mask = torch.ones(1, SIZE, SIZE)
    mask[:, 40:50, 40:46] = 0
    flat = image(lambda v, u: 5 + 0 * u)
    found, covered = _describe(flat, mask, WINDOW)
    flags = covered.view(CELLS, CELLS)
    assert not bool(flags[25:33, 25:29].any())  # rows 41 to 48, columns 41 to 44
    assert bool(flags[:22].all() and flags[36:].all())
    for value, derivatives, _ in parts(found):
        torch.testing.assert_close(value[:, flags], torch.full((3, int(flags.sum())), 5.0), rtol=0, atol=1e-4)
        assert float(derivatives[:, :, flags].abs().max()) < 1e-3
    inside = torch.where(mask[:, None] > 0, flat, torch.full_like(flat, 77.0))
    assert torch.equal(_describe(inside, mask, WINDOW)[0], found)
    # Without the mask the hole would be an edge.
    edges, _ = _describe(flat * mask[:, None], torch.ones(1, SIZE, SIZE), WINDOW)
    assert float(parts(edges)[1][1].abs().max()) > 1


def test_exposure_hardly_changes_the_image(make_dome: Callable[..., Sample]) -> None:
    sample = make_dome(1)
    mean, std = (torch.tensor(v).view(3, 1, 1) for v in ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)))
    darker = (0.6 * (sample.rgb * std + mean) - mean) / std
    bright, dark = (image_channels(rgb[None], sample.valid[None])[0][:, sample.valid] for rgb in (sample.rgb, darker))
    torch.testing.assert_close(dark, bright, rtol=0, atol=1e-3)
    assert float((darker - sample.rgb)[:, sample.valid].abs().mean()) > 0.5


def test_samples_without_a_surface(make_dome: Callable[..., Sample], make_grid: Callable[..., GridSample]) -> None:
    dome = make_dome(0)
    none = torch.zeros_like(dome.valid)
    lonely = none.clone()
    lonely[40, 40] = True
    for valid in (none, lonely):
        sample = make_grid(dome.xyz, valid, dome.rgb)
        window = torch.tensor([[0.0, 0.0, 96.0]]), torch.tensor([[40.0, 40.0, 1.0]])
        for part in window:
            found, covered = describe(sample.rgb[None], sample.xyz[None], valid[None], part)
            assert bool(found.isfinite().all())
            assert not bool(covered.any())
