"""The handcrafted descriptors: repeatable, invariant where they should be, and sensitive to planted defects."""

from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

from datasets.sample import Sample
from models.extractors.handcrafted import CLIP, Handcrafted, describe_colours, describe_shape
from models.token_store import extract_batch, fit_extractor
from models.tokens import Tokens
from utils.errors import UserError

SIZE = 224


def sample(seed: int = 0, dent: float = 0.0) -> Sample:
    """A painted dome; `dent` metres are taken from its height around pixel (100, 130)."""
    generator = torch.Generator().manual_seed(seed)
    v, u = torch.meshgrid(torch.arange(SIZE).float(), torch.arange(SIZE).float(), indexing="ij")
    u0, v0 = 110 + torch.rand(2, generator=generator) * 6
    radius = (u - u0).square() + (v - v0).square()
    valid = radius < 75**2
    ribs = torch.sin((u - u0) / 5)
    z = 0.6 - 0.02 * (1 - radius / 75**2) - 0.001 * ribs + 2e-5 * torch.randn(SIZE, SIZE, generator=generator)
    z = z + dent * torch.exp(-((u - 130).square() + (v - 100).square()) / (2 * 5**2))
    xyz = torch.stack([(u - 112) * z / 1400, (v - 112) * z / 1400, z]) * valid
    rgb = torch.stack([ribs, 0.5 * ribs, v / 300 - 0.3]) * valid + 0.02 * torch.randn(
        3, SIZE, SIZE, generator=generator
    )
    return Sample(rgb, xyz, valid, torch.zeros_like(valid), (SIZE, SIZE))


@pytest.fixture(scope="module")
def fitted() -> Handcrafted:
    """Fitted on three domes."""
    extractor = Handcrafted()
    fit_extractor(extractor, map(sample, range(3)), 1, torch.device("cpu"))
    return extractor


def extract(extractor: Handcrafted, *samples: Sample) -> list[Tokens]:
    return extract_batch(samples, extractor, torch.device("cpu"))


def test_widths_and_standardisation(fitted: Handcrafted) -> None:
    (tokens,) = extract(fitted, sample(1))
    assert tokens.rgb.tokens.shape == (56 * 56, 72) == (56 * 56, fitted.rgb_width)
    assert tokens.xyz.tokens.shape == (1024, 38) == (1024, fitted.xyz_width)
    for features in (tokens.rgb.lifted(), tokens.xyz.lifted()):
        assert float(features.abs().max()) <= CLIP + 1e-4
        assert float(features.mean(dim=0).abs().max()) < 0.3
        assert 0.5 < float(features.std(dim=0).mean()) < 1.1


def test_needs_statistics() -> None:
    with pytest.raises(UserError, match="fit it on nominal samples"):
        extract(Handcrafted(), sample())
    with pytest.raises(UserError, match="Train again"):
        Handcrafted.from_state({"rgb_mean": torch.zeros(3)})


@pytest.mark.parametrize("wrong", [None, 1.0, [0.0] * 72, torch.zeros(72).double(), torch.zeros(72).bfloat16()])
def test_refuses_statistics_of_another_kind(fitted: Handcrafted, wrong: Any) -> None:
    with pytest.raises(UserError, match="statistics of `handcrafted`"):
        Handcrafted.from_state(fitted.state_dict() | {"rgb_mean": wrong})


def test_refuses_to_fit_without_a_point() -> None:
    item = sample()
    empty = replace(item, xyz=torch.zeros_like(item.xyz), valid=torch.zeros_like(item.valid))
    for samples in ([], [empty]):
        with pytest.raises(UserError, match="no valid point"):
            fit_extractor(Handcrafted(), samples, 1, torch.device("cpu"))


def test_shape_does_not_depend_on_where_the_cloud_is() -> None:
    item, picks = sample(), torch.arange(0, 15000, 50)
    moved = (item.xyz + torch.tensor([0.02, -0.01, 0.1]).view(3, 1, 1)) * item.valid
    expected = describe_shape(item.xyz, item.valid, picks)
    torch.testing.assert_close(describe_shape(moved, item.valid, picks), expected, rtol=1e-3, atol=1e-3)


def test_turning_the_cloud_about_the_axis_only_turns_its_normals() -> None:
    item, picks = sample(), torch.arange(0, 15000, 50)
    turn = torch.tensor([[0.0, -1.0, 0.0], [1.0, 0.0, 0.0], [0.0, 0.0, 1.0]])
    turned = torch.einsum("ij,jhw->ihw", turn, item.xyz)
    before, after = (describe_shape(xyz, item.valid, picks) for xyz in (item.xyz, turned))
    x, y = torch.tensor([5, 12, 19]), torch.tensor([6, 13, 20])
    others = torch.tensor([i for i in range(38) if i not in {*x.tolist(), *y.tolist()}])
    for found, expected in (
        (after[:, others], before[:, others]),
        (after[:, x], -before[:, y]),
        (after[:, y], before[:, x]),
    ):
        torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4)


def test_colours_of_a_constant_image_have_no_derivatives() -> None:
    features = describe_colours(torch.ones(3, SIZE, SIZE) * torch.tensor([0.5, -0.2, 0.1]).view(3, 1, 1))
    expected = torch.zeros(4, 6, 3)  # scale, derivative, opponent colour
    expected[:, 0] = torch.tensor([0.4 / 3, 0.7, 0.05])
    torch.testing.assert_close(features, expected.flatten().expand(56 * 56, 72), rtol=0, atol=2e-3)


def test_colours_of_a_quadratic_image() -> None:
    v, u = torch.meshgrid(torch.arange(SIZE) - 111.5, torch.arange(SIZE) - 111.5, indexing="ij")
    image = torch.stack([3 * u * u + 2 * u * v, v * v, 0 * u]) / 1e4
    middle = describe_colours(image).view(56, 56, 4, 6, 3)[28, 28, 1]  # scale 3, at u = v = 2
    red, green = 9 * torch.tensor([[2.0, 6.0], [0.0, 2.0]])  # times scale²: f_uv, and f_uu + 0 or f_vv + 0
    for colour, (red_part, green_part) in enumerate(((1 / 3, 1 / 3), (1, -1), (0.5, 0.5))):
        second = red_part * torch.tensor([red[0], red[1], red[1]]) + green_part * green[1] * torch.tensor([0, 1, -1])
        torch.testing.assert_close(middle[3:, colour] * 1e4, second, rtol=0.02, atol=0.02)
        across, down = red_part * 3 * (6 * 2 + 2 * 2), red_part * 3 * 2 * 2 + green_part * 3 * 2 * 2
        torch.testing.assert_close(
            middle[1:3, colour] * 1e4, torch.tensor([float(across), float(down)]), rtol=0.02, atol=0.02
        )


def token_change(kind: str, found: Tokens, good: Tokens) -> tuple[float, float]:
    """Mean absolute change of the features near (100, 130) and more than 60 pixels away."""
    changes = [getattr(t, kind).lifted() for t in (found, good)]
    change = (changes[0] - changes[1]).abs().mean(dim=1)
    rows, columns = good.foreground // SIZE, good.foreground % SIZE
    distance = torch.hypot(rows - 100.0, columns - 130.0)
    return float(change[distance < 6].mean()), float(change[distance > 60].mean())


@pytest.mark.parametrize("dent", [0.002, -0.002])
def test_dent_and_bump_change_geometry_near_by_only(fitted: Handcrafted, dent: float) -> None:
    (good,), (found,) = extract(fitted, sample(4)), extract(fitted, sample(4, dent))
    near, far = token_change("xyz", found, good)
    assert near > 0.3
    assert far < 0.1 * near
    assert torch.equal(found.rgb.tokens, good.rgb.tokens)


def test_dent_and_bump_have_opposite_signs(fitted: Handcrafted) -> None:
    pixel = torch.zeros(SIZE, SIZE, dtype=torch.bool)
    pixel[100, 130] = True
    flat, dent, bump = (
        describe_shape(s.xyz, s.valid, pixel[s.valid].nonzero().flatten())[0]
        for s in (sample(4, d) for d in (0, 0.002, -0.002))
    )
    assert float(dent[7] - flat[7]) * float(bump[7] - flat[7]) < 0  # distance from the local plane, scale 3


def test_stain_changes_colour_near_by_only(fitted: Handcrafted) -> None:
    item = sample(4)
    rgb: Tensor = item.rgb.clone()
    rgb[0, 94:106, 124:136] -= 1.5
    (good,), (found,) = extract(fitted, item), extract(fitted, replace(item, rgb=rgb))
    near, far = token_change("rgb", found, good)
    assert near > 0.3
    assert far < 0.1 * near
    assert torch.equal(found.xyz.tokens, good.xyz.tokens)
