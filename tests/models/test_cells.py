"""Cells as tokens: operators, draws, the loss of a batch, the cache; and their maps on the frame."""

from pathlib import Path

import pytest
import torch
from torch import Tensor

from models.cells import CellOperator
from models.cfm.detector import CrossmodalDetector
from models.cfm.mappers import MAPPERS, CrossmodalMapper, mapper_variant, mapper_widths
from models.cfm.scoring import discrepancy
from models.token_store import load_tokens, save_tokens
from models.tokens import Tokens, cell_tokens, join_cells
from models.view_maps import make_view_map, placing
from utils.view import Window


def cells(seed: int, count: int = 50, width: int = 6) -> Tokens:
    """Random tokens on `count` of 16×16 cells."""
    generator = torch.Generator().manual_seed(seed)
    values = torch.randn(2, count, width, generator=generator)
    places = torch.randperm(256, generator=generator)[:count].sort().values
    return cell_tokens(values, torch.rand(2, count, generator=generator), places, 16)


@pytest.mark.parametrize("size", [7, 20, 100])
def test_operators_are_rows_of_the_identity(size: int) -> None:
    matrix = torch.eye(20)
    tokens = torch.randn(20, 3)
    start = 0
    for block in CellOperator(0, 20, 20).blocks(size):
        rows = matrix[start : start + block.n_pixels]
        assert torch.equal(block.multiply(tokens), rows @ tokens)
        values = torch.randn(block.n_pixels, 2)
        assert torch.equal(block.transposed.multiply(values), rows.T @ values)
        start += block.n_pixels
    assert start == 20


def test_drawn_cells_are_cells_of_the_image() -> None:
    tokens = cells(0)
    drawn = tokens.draw_pixels(0.2, torch.Generator().manual_seed(1))
    assert len(drawn.foreground) == len(drawn.rgb.lifted()) == 10
    rows = [tokens.foreground.tolist().index(place) for place in drawn.foreground.tolist()]
    for name in ("rgb", "xyz"):
        before, after = getattr(tokens, name), getattr(drawn, name)
        assert torch.equal(after.lifted(), before.tokens[rows])
        assert torch.equal(after.rarity, before.rarity[rows])


def test_gradients_of_a_batch_are_those_of_the_plain_loss() -> None:
    batch = [cells(seed) for seed in range(3)]
    detector = CrossmodalDetector(6, 6, "mlp_wide", "fp32", seed=1)
    losses = detector.backward([join_cells(batch)])
    found = [parameter.grad.clone() for parameter in detector.parameters() if parameter.grad is not None]
    detector.zero_grad()
    rgb, xyz = (torch.cat([getattr(tokens, name).tokens for tokens in batch]) for name in ("rgb", "xyz"))
    plain = [
        (1 - torch.cosine_similarity(mapper(source), target, eps=1e-6)).mean()
        for mapper, source, target in ((detector.rgb_to_xyz, rgb, xyz), (detector.xyz_to_rgb, xyz, rgb))
    ]
    torch.stack(plain).sum().backward()
    assert [float(loss) for loss in losses.values()] == pytest.approx([loss.item() for loss in plain], abs=1e-5)
    for gradient, parameter in zip(found, detector.parameters(), strict=True):
        torch.testing.assert_close(gradient, parameter.grad, rtol=1e-4, atol=1e-6)


def test_discrepancies_are_squared_distances_times_powers_of_rarity() -> None:
    tokens = cells(0)
    detector = CrossmodalDetector(6, 6, "mlp", "fp32", seed=1).eval()
    psi_2d, psi_3d = detector.discrepancies(tokens)
    assert psi_2d.shape == psi_3d.shape == (16, 16)
    assert tokens.rgb.rarity is not None
    assert tokens.xyz.rarity is not None
    with torch.no_grad():
        colour = discrepancy(detector.xyz_to_rgb(tokens.xyz.tokens), tokens.rgb.tokens).square() * tokens.rgb.rarity
        shape = discrepancy(detector.rgb_to_xyz(tokens.rgb.tokens), tokens.xyz.tokens).square()
    torch.testing.assert_close(psi_2d.flatten()[tokens.foreground], colour, rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(
        psi_3d.flatten()[tokens.foreground], shape * tokens.xyz.rarity**1.5, rtol=1e-5, atol=1e-6
    )
    assert int((psi_2d != 0).sum()) == len(tokens.foreground)


def test_no_foreground_is_no_discrepancy() -> None:
    empty = cell_tokens(torch.zeros(2, 0, 6), torch.zeros(2, 0), torch.zeros(0, dtype=torch.int64), 16)
    assert not any(psi.any() for psi in CrossmodalDetector(6, 6, "mlp", "fp32").discrepancies(empty))


def test_the_cache_keeps_cells_and_their_rarity(tmp_path: Path) -> None:
    tokens = cells(0)
    save_tokens(tmp_path / "a.safetensors", tokens)
    loaded = load_tokens(tmp_path / "a.safetensors")
    assert loaded.in_cells
    assert torch.equal(loaded.foreground, tokens.foreground)
    for name in ("rgb", "xyz"):
        assert torch.equal(getattr(loaded, name).tokens, getattr(tokens, name).tokens)
        assert torch.equal(getattr(loaded, name).rarity, getattr(tokens, name).rarity)


@pytest.mark.parametrize("variant", sorted(MAPPERS))
def test_a_mappers_variant_is_seen_in_its_weights(variant: str) -> None:
    state = CrossmodalMapper(8, 6, variant).state_dict()
    assert mapper_variant(state) == variant
    assert mapper_widths(state) == (8, 6)


def bump(side: int) -> Tensor:
    """(side, side), 1 in one cell."""
    values = torch.zeros(side, side)
    values[3, 12] = 1
    return values


def test_a_defect_of_the_view_lies_where_it_is_in_the_frame() -> None:
    window = Window(0.25, 0.1, 0.5)  # cell (3, 12) of 20 has its centre at (0.3375, 0.4125) of the frame
    valid = torch.ones(80, 80, dtype=torch.bool)
    found = make_view_map(bump(20), bump(20), "product", valid, window)
    rows, columns = (found.smoothed.sum(dim=axis) @ torch.arange(224.0) / found.smoothed.sum() for axis in (1, 0))
    assert float(rows) == pytest.approx(0.3375 * 224 - 0.5, abs=0.1)
    assert float(columns) == pytest.approx(0.4125 * 224 - 0.5, abs=0.1)
    assert found.image_score() == float(found.smoothed.max())
    outside = torch.ones(224, 224, dtype=torch.bool)
    outside[54:170, 20:136] = False
    assert not found.smoothed[outside].any()


def test_smoothing_follows_the_size_of_the_object() -> None:
    peaks = []
    for share in (1.0, 0.25):
        valid = torch.rand(160, 160, generator=torch.Generator().manual_seed(0)) < share
        found = make_view_map(torch.ones(40, 40), bump(40), "3d", valid, Window(0.0, 0.0, 1.0))
        peaks.append(float(found.smoothed.max()))
        assert float(found.smoothed.sum()) == pytest.approx(224**2 / 40**2, rel=0.05)  # it moves, and nothing is lost
    assert peaks[1] > 1.8 * peaks[0]


def test_an_even_map_stays_even_inside() -> None:
    whole = torch.ones(80, 80, dtype=torch.bool), Window(0.0, 0.0, 1.0)
    found = make_view_map(torch.full((20, 20), 2.0), torch.full((20, 20), 3.0), "sum", *whole)
    assert torch.allclose(found.smoothed[30:-30, 30:-30], torch.tensor(5.0))
    assert torch.allclose(found.psi_2d[5:-5, 5:-5], torch.tensor(2.0))


def test_placing_is_linear_interpolation() -> None:
    matrix = placing(4, 0.25, 0.5, frame=8)  # four pixels of the view on the middle four of the frame
    expected = torch.zeros(8, 4)
    expected[2:6] = torch.eye(4)
    assert torch.allclose(matrix, expected)
