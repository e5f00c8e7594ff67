"""Nominal samples in more ways: still what one camera sees, each way once."""

from dataclasses import dataclass

import pytest
import torch
from torch import Tensor

from models.cfm.augmentation import AUGMENTATIONS, Look, looks
from models.cfm.training import default_augment
from models.normals import NormalSettings, estimate_normals
from utils.view import ViewSettings

SIZE, FOCAL = 12, 20.0


@dataclass(frozen=True)
class Framed:
    """A sample of which the extractor looks at a view, or at all."""

    rgb: Tensor
    xyz: Tensor
    valid: Tensor
    view: Look


def seen_by_a_camera(depth: Tensor) -> Tensor:
    """(S, S) depths → (3, S, S) points of a camera in the middle of the grid."""
    rows, columns = torch.meshgrid(*[torch.arange(SIZE) - (SIZE - 1) / 2] * 2, indexing="ij")
    return torch.stack([columns * depth / FOCAL, rows * depth / FOCAL, depth])


@pytest.fixture
def sample() -> Framed:
    """A slope without symmetry, whose image holds its depths and places."""
    rows, columns = torch.meshgrid(*[torch.arange(float(SIZE))] * 2, indexing="ij")
    depth = 1 + 0.01 * columns + 0.003 * rows**2
    view = Look(torch.stack([depth, rows, columns]), seen_by_a_camera(depth), (rows > 2) & (columns < 9))
    return Framed(view.rgb + 1, view.xyz + 1, ~view.valid, view)


@pytest.mark.parametrize("augment", AUGMENTATIONS)
def test_each_way_is_what_the_camera_would_see_and_comes_once(augment: str | None, sample: Framed) -> None:
    found = list(looks(sample, ViewSettings("object", SIZE), augment))
    assert len(found) == AUGMENTATIONS[augment]
    for name in ("rgb", "xyz", "valid"):
        assert torch.equal(getattr(found[0], name), getattr(sample.view, name))
    for look in found:
        torch.testing.assert_close(look.xyz, seen_by_a_camera(look.rgb[0]))  # image and cloud went the same way
        rows, columns = look.rgb[1:]
        assert torch.equal(look.valid, (rows > 2) & (columns < 9))
        assert look.view is look
    assert len({tuple(look.rgb[0].flatten().tolist()) for look in found}) == len(found)


def test_the_mirror_comes_second_and_quarters_turn_counter_clockwise(sample: Framed) -> None:
    found = [look.rgb[1:, 0, 0].tolist() for look in looks(sample, ViewSettings("object", SIZE), "turn")]
    last = SIZE - 1  # row and column that come to the first corner
    assert found[:4] == [[0, 0], [0, last], [0, last], [0, 0]]
    assert found[4:] == [[last, last], [last, 0], [last, 0], [last, last]]


def test_normals_of_a_mirrored_surface_are_mirrored(sample: Framed) -> None:
    first, second = looks(sample, ViewSettings("object", SIZE), "mirror")
    both = torch.stack([first.xyz, second.xyz]), torch.stack([first.valid, second.valid])
    plain, mirrored = estimate_normals(*both, NormalSettings())[0]
    expected = plain.flip(-1) * torch.tensor([-1.0, 1.0, 1.0])[:, None, None]
    torch.testing.assert_close(mirrored, expected, atol=1e-5, rtol=0)


def test_an_extractor_without_a_view_is_shown_the_sample(sample: Framed) -> None:
    (look,) = looks(sample, None, None)
    assert torch.equal(look.rgb, sample.rgb)


@pytest.mark.parametrize(
    ("images", "augment"), [(1, "turn"), (29, "turn"), (30, "mirror"), (99, "mirror"), (100, None)]
)
def test_few_images_are_seen_in_more_ways(images: int, augment: str | None) -> None:
    assert default_augment("cnn_normals", images) == augment
    assert default_augment("handcrafted", images) is default_augment(None, images) is None
