"""Masks, neighbours among visible points, and the depth of hidden centres."""

import pytest
import torch

from models.dbmrnet.masking import (
    Mask,
    disjoint_masks,
    draw_mask,
    interpolate_depth,
)
from models.dbmrnet.neighbours import visible_neighbours


def mask_of(visible: list[int], n_tokens: int) -> Mask:
    """One sample's mask."""
    hidden = [i for i in range(n_tokens) if i not in visible]
    return Mask(torch.tensor([visible]), torch.tensor([hidden], dtype=torch.int64))


@pytest.mark.parametrize(("n_tokens", "ratio", "n_visible"), [(64, 0.75, 16), (196, 0.75, 49), (256, 0.5, 128)])
def test_drawn_counts_are_exact_and_nothing_is_lost(n_tokens: int, ratio: float, n_visible: int) -> None:
    mask = draw_mask(5, n_tokens, ratio, torch.Generator().manual_seed(0))
    assert mask.visible.sum(dim=1).tolist() == [n_visible] * 5
    assert mask.hidden.shape == (5, n_tokens - n_visible)
    everything = torch.cat([mask.kept, mask.hidden], dim=1).sort(dim=1).values
    assert torch.equal(everything, torch.arange(n_tokens).expand(5, -1))
    assert bool((mask.kept.diff(dim=1) > 0).all())
    assert bool((mask.hidden.diff(dim=1) > 0).all())
    assert bool(mask.visible.gather(1, mask.kept).all())
    assert not bool(mask.visible.gather(1, mask.hidden).any())
    assert len({tuple(row) for row in mask.kept.tolist()}) == 5


def test_drawn_masks_repeat_with_the_seed_and_reach_every_token() -> None:
    first, second = (draw_mask(3, 64, 0.75, torch.Generator().manual_seed(7)) for _ in range(2))
    assert torch.equal(first.kept, second.kept)
    shares = draw_mask(2000, 64, 0.75, torch.Generator().manual_seed(0)).visible.float().mean(dim=0)
    assert float((shares - 0.25).abs().max()) < 0.05  # five standard deviations


@pytest.mark.parametrize(("passes", "visible_parts"), [(4, 1), (4, 3), (4, 2), (8, 1)])
def test_each_token_is_visible_in_as_many_passes_as_parts(passes: int, visible_parts: int) -> None:
    mask = disjoint_masks(64, passes, visible_parts, torch.Generator().manual_seed(1))
    assert mask.visible.sum(dim=0).tolist() == [visible_parts] * 64
    assert mask.visible.sum(dim=1).tolist() == [64 * visible_parts // passes] * passes
    assert mask.hidden.shape == (passes, 64 - 64 * visible_parts // passes)
    other = disjoint_masks(64, passes, visible_parts, torch.Generator().manual_seed(2))
    assert not torch.equal(other.kept, mask.kept)


def test_visible_neighbours_equal_brute_force() -> None:
    generator = torch.Generator().manual_seed(0)
    centres, points = torch.randn(2, 6, 3, generator=generator), torch.randn(2, 50, 3, generator=generator)
    candidates = torch.rand(2, 6, 50, generator=generator).argsort(dim=-1)[..., :20]
    visible = torch.rand(2, 50, generator=generator) < 0.2
    visible[0, candidates[0, 0]] = False
    visible[0, candidates[0, 0, 13]] = True  # a single one is left
    fewer = 0
    for flags in (visible, None):
        indices, distances = visible_neighbours(centres, points, candidates, flags, 4)
        for b in range(2):
            for g in range(6):
                allowed = [n for n in candidates[b, g].tolist() if flags is None or flags[b, n]]
                allowed.sort(key=lambda n: float((points[b, n] - centres[b, g]).norm()))
                if not allowed:
                    continue
                expected = (allowed + [allowed[0]] * 4)[:4] if len(allowed) < 4 else allowed[:4]
                fewer += len(allowed) < 4
                assert indices[b, g].tolist() == expected
                lengths = (points[b, expected] - centres[b, g]).norm(dim=1)
                torch.testing.assert_close(distances[b, g], lengths)
    assert fewer > 1


def test_centre_without_visible_candidates_gets_candidates_all_the_same() -> None:
    points = torch.tensor([[[0.0, 0, 0], [1, 0, 0], [2, 0, 0]]])
    candidates = torch.tensor([[[2, 1, 0]]])
    indices, _ = visible_neighbours(points[:, :1], points, candidates, torch.zeros(1, 3, dtype=torch.bool), 2)
    assert indices[0, 0, 0] == indices[0, 0, 1]
    assert int(indices[0, 0, 0]) in (0, 1, 2)


def test_interpolated_depth_by_hand() -> None:
    # Hidden: (0, 0). Visible: at distances 1, 2 and 4 with depths 1, 2 and 3, and a fourth farther away.
    centres = torch.tensor([[[0.0, 0, 99], [1, 0, 1], [0, -2, 2], [-4, 0, 3], [5, 5, -50]]])
    found = interpolate_depth(centres, mask_of([1, 2, 3, 4], 5))
    expected = (1 / 1 + 2 / 2 + 3 / 4) / (1 / 1 + 1 / 2 + 1 / 4)
    assert float(found[0, 0, 2]) == pytest.approx(expected, abs=1e-5)
    assert torch.equal(found[:, 1:], centres[:, 1:])
    assert found[0, 0, :2].tolist() == [0, 0]


def test_nearness_is_that_of_the_plane() -> None:
    # In (x, y) the visible centres at 0.1, 0.2, 0.3 are nearest although their depths are far away.
    centres = torch.tensor([[[0.0, 0, 0], [0.1, 0, 100], [0.2, 0, 100], [0.3, 0, 100], [1, 0, 0], [1, 1, 0]]])
    found = interpolate_depth(centres, mask_of([1, 2, 3, 4, 5], 6))
    assert float(found[0, 0, 2]) == pytest.approx(100, abs=1e-3)


def test_hidden_centre_above_a_visible_one_takes_its_depth() -> None:
    centres = torch.tensor([[[0.5, 0.5, 7.0], [0.5, 0.5, 1], [0.9, 0.5, 3], [0.5, 0.1, 5]]])
    assert float(interpolate_depth(centres, mask_of([1, 2, 3], 4))[0, 0, 2]) == pytest.approx(1, abs=1e-4)


@pytest.mark.parametrize("visible", [[2], [2, 5], [0, 3, 4, 6]])
def test_constant_depth_is_kept_exactly_however_few_are_visible(visible: list[int]) -> None:
    plane = torch.rand(1, 8, 3, generator=torch.Generator().manual_seed(0))
    plane[..., 2] = 0.25
    torch.testing.assert_close(interpolate_depth(plane, mask_of(visible, 8)), plane, rtol=0, atol=1e-6)


def test_interpolated_depth_is_independent_of_hidden_depths() -> None:
    generator = torch.Generator().manual_seed(0)
    centres = torch.randn(3, 64, 3, generator=generator)
    mask = draw_mask(3, 64, 0.75, generator)
    moved = centres.clone()
    moved[..., 2] += torch.randn(3, 64, generator=generator) * ~mask.visible
    found = interpolate_depth(centres, mask)
    assert torch.equal(found, interpolate_depth(moved, mask))
    assert torch.equal(found[..., :2], centres[..., :2])
    assert torch.equal(found[mask.visible], centres[mask.visible])
    assert bool((found[~mask.visible] != centres[~mask.visible])[:, 2].all())


def test_nothing_hidden_nothing_interpolated() -> None:
    centres = torch.randn(1, 9, 3, generator=torch.Generator().manual_seed(0))
    assert interpolate_depth(centres, mask_of(list(range(9)), 9)) is centres
