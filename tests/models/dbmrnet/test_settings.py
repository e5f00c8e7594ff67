"""Which settings are accepted."""

import pytest

from models.dbmrnet.settings import PRESETS, ModelSettings
from utils.errors import UserError


@pytest.mark.parametrize(
    ("preset", "expected"),
    [("full", (224, 14, 16, 256)), ("mid", (112, 14, 8, 128)), ("small", (64, 8, 8, 64))],
)
def test_sizes_of_the_presets(preset: str, expected: tuple[int, int, int, int]) -> None:
    sizes = PRESETS[preset]
    assert (sizes.image_size, sizes.image_grid, sizes.token_pixels, sizes.centres[2]) == expected
    assert sizes.image_grid * sizes.token_pixels == sizes.image_size
    assert ModelSettings(preset=preset).sizes is sizes


@pytest.mark.parametrize(
    ("mask_ratio", "passes", "visible_parts"), [(0.75, 4, 1), (0.25, 4, 3), (0.5, 4, 2), (0.5, 2, 1), (0.875, 8, 1)]
)
def test_visible_parts(mask_ratio: float, passes: int, visible_parts: int) -> None:
    assert ModelSettings(preset="small", mask_ratio=mask_ratio, passes=passes).visible_parts == visible_parts


@pytest.mark.parametrize(("mask_ratio", "passes"), [(0.7, 4), (0.75, 2), (0.0, 4), (1.0, 4), (0.75, 1), (0.9, 4)])
def test_visible_share_that_is_not_whole(mask_ratio: float, passes: int) -> None:
    with pytest.raises(UserError, match=rf"--mask_ratio {mask_ratio:g}, --passes {passes}.*whole number of {passes}"):
        ModelSettings(preset="small", mask_ratio=mask_ratio, passes=passes)


@pytest.mark.parametrize(
    ("preset", "passes", "count"), [("full", 8, "196 image"), ("small", 128, "64 image"), ("mid", 7, "128 point")]
)
def test_tokens_that_cannot_be_cut(preset: str, passes: int, count: str) -> None:
    with pytest.raises(UserError, match=rf"--passes {passes}: the {count} tokens of preset {preset} cannot be cut"):
        ModelSettings(preset=preset, mask_ratio=1 - 1 / passes, passes=passes)


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("preset", "tiny", "--preset tiny: expected one of full, mid, small"),
        ("view", "object,frame", "--view object,frame: expected one of object, frame"),
        ("cross_loss", "none", "expected one of depth, splat, rgb"),
        ("cross_weight", -1.0, "--cross_weight -1: expected a number of at least 0"),
        ("cross_weight", float("nan"), "--cross_weight nan"),
        ("alignment_radius", float("nan"), "--alignment_radius nan"),
        ("local_layers", 4, "--local_layers 4: expected 1 to 3, the encoder blocks of preset small"),
        ("local_layers", 0, "--local_layers 0"),
    ],
)
def test_values_that_mean_nothing(name: str, value: str | float, message: str) -> None:
    with pytest.raises(UserError, match=message):
        ModelSettings(**{"preset": "small", name: value})  # type: ignore[arg-type]
