"""inspection/overlay.py: what the picture of an answer shows, pixel by pixel."""

from dataclasses import replace

import numpy as np
import pytest
from PIL import Image, ImageDraw, ImageFont

from evaluation.thresholds import Thresholds
from inspection import overlay
from inspection.answer import Answer
from inspection.overlay import draw, scale
from inspection.regions import find_regions
from utils.palette import OUTLINE

LIMITS = Thresholds(0.01, image=0.5, map=0.4, typical=0.1, images=50, rank=50, source="validation")


def picture(values: np.ndarray, grey: int = 120) -> tuple[np.ndarray, np.ndarray, Answer]:
    """Grey image, its picture, and the answer of an (h, h) map that is its own grid."""
    cloud = np.ones((*values.shape, 3), np.float32)
    regions, labels = find_regions(values, cloud, LIMITS)
    answer = Answer(float(values.max()), bool(values.max() > LIMITS.image), values, regions, labels, False)
    rgb = np.full(cloud.shape, grey, np.uint8)
    drawn = draw(rgb, answer, LIMITS)
    assert (rgb == grey).all()
    return rgb, drawn, answer


def spots(side: int, *places: tuple[int, int, float]) -> np.ndarray:
    """(side, side) map, 0.1 but for 40×40 spots at (row, column) of a height."""
    values = np.full((side, side), 0.1, np.float32)
    for row, column, height in places:
        values[row : row + 40, column : column + 40] = height
    return values


def is_colour(image: np.ndarray, colour: tuple[int, ...]) -> np.ndarray:
    return (image == colour).all(axis=-1)


def test_the_scale_puts_the_threshold_at_40_percent() -> None:
    low, high = scale(LIMITS)
    assert (low, high) == pytest.approx((0.1, 1.1))
    assert (LIMITS.image - low) / (high - low) == pytest.approx(0.4)
    assert scale(replace(LIMITS, image=0.1)) == pytest.approx((0.1, 1.1))  # nothing between: any scale will do


def test_a_good_part_is_shown_as_it_is() -> None:
    rgb, drawn, _ = picture(spots(240, (100, 100, 0.29)))  # below a fifth of the scale
    assert drawn.dtype == np.uint8
    assert drawn.shape[1] == 240
    np.testing.assert_array_equal(drawn[:240], rgb)


def test_regions_are_outlined_just_outside() -> None:
    _, drawn, answer = picture(spots(400, (200, 100, 0.9), (60, 300, 0.7), (300, 300, 0.45)))
    assert [region.box for region in answer.regions] == [(100, 200, 140, 240), (300, 60, 340, 100)]
    lines = is_colour(drawn[:400], OUTLINE)
    for left, top, right, bottom in (region.box for region in answer.regions):
        frame = np.zeros_like(lines)
        frame[top - 1 : bottom + 1, left - 1 : right + 1] = True
        frame[top:bottom, left:right] = False
        assert lines[frame].all()
        lines[frame] = False
    assert not lines[top:bottom, left:right].any()
    assert not lines[290:, 290:].any()  # a spot between the thresholds is no region


def test_outlines_grow_with_the_picture() -> None:
    _, drawn, _ = picture(spots(1200, (600, 600, 0.9)))
    lines = is_colour(drawn[:1200], OUTLINE)
    assert lines[597:600, 620].all()
    assert not lines[596, 620]
    assert not lines[600, 620]


def numbers(values: np.ndarray) -> np.ndarray:
    """(h, w) bool, where the numbers of regions are drawn."""
    rgb, drawn, answer = picture(values)
    without = draw(rgb, replace(answer, regions=[]), LIMITS)
    changed: np.ndarray = (drawn != without)[: len(rgb)].any(axis=-1)
    return changed


def digit(text: str) -> np.ndarray:
    """(30, 30) bool, where a digit is drawn in a picture that is 400 pixels wide."""
    image = Image.new("L", (30, 30), 255)
    font = ImageFont.load_default(1.4 * 11)
    ImageDraw.Draw(image).text((10, 10), text, 0, font, stroke_width=2)
    return np.asarray(image) < 255


def cut(drawn: np.ndarray) -> np.ndarray:
    """The part of a mask that holds what is True."""
    rows, columns = np.nonzero(drawn)
    return drawn[rows.min() : rows.max() + 1, columns.min() : columns.max() + 1]


def test_numbers_stand_at_their_regions_highest_first() -> None:
    drawn = numbers(spots(400, (200, 100, 0.9), (200, 300, 0.7)))
    places = np.argwhere(drawn)
    assert places.min(axis=0).tolist() >= [175, 98]
    assert places.max(axis=0)[0] < 200
    one, two = drawn[170:200, 95:130], drawn[170:200, 295:330]
    assert min(one.sum(), two.sum()) > 20
    assert one.sum() + two.sum() == drawn.sum()
    for number, place in (("1", one), ("2", two)):
        np.testing.assert_array_equal(cut(place), cut(digit(number)))
    swapped = numbers(spots(400, (200, 100, 0.7), (200, 300, 0.9)))
    np.testing.assert_array_equal(swapped[170:200, 95:130], two)
    np.testing.assert_array_equal(swapped[170:200, 295:330], one)


def test_numbers_stay_inside_the_picture() -> None:
    inside = numbers(spots(400, (200, 200, 0.9)))
    assert numbers(spots(400, (0, 0, 0.9)))[:30, :30].sum() == inside.sum()
    values = spots(400)
    values[200:240, 398:] = 0.9
    assert numbers(values)[:, 370:].sum() == inside.sum()


def test_a_value_has_one_colour_in_all_pictures() -> None:
    _, calm, _ = picture(spots(240, (100, 100, 0.45)))
    _, wild, _ = picture(spots(240, (100, 100, 0.45), (20, 20, 5.0)))
    np.testing.assert_array_equal(calm[100:140, 100:140], wild[100:140, 100:140])
    assert (calm[120, 120] != 120).any()
    assert not np.array_equal(wild[40, 40], wild[120, 120])


@pytest.mark.parametrize("side", [200, 400, 1000])
def test_the_legend_marks_the_threshold_and_says_the_decision(side: int) -> None:
    for height, red in ((0.9, True), (0.45, False)):
        _, drawn, _ = picture(spots(side, (100, 100, height)))
        legend = drawn[side:]
        words = legend[: len(legend) // 3].astype(int)
        assert (words[..., 0] - words[..., 1] > 50).any() == red
        assert (words[..., 1] - words[..., 0] > 30).any() != red
        margin = int(np.argmin((legend[len(legend) * 6 // 10] > 250).all(axis=-1)))  # the bar begins behind it
        marks = np.flatnonzero(is_colour(legend, OUTLINE).any(axis=0))
        assert marks.mean() == pytest.approx(margin + 0.4 * (side - 2 * margin), abs=2)
        assert is_colour(legend[:, [0, -1]], (255, 255, 255)).all()  # no text is cut off


@pytest.mark.parametrize("factor", [1, 1e-8])
def test_the_longest_text_has_room(factor: float) -> None:
    long = replace(LIMITS, image=0.0008888 * factor, typical=0.0001 * factor, map=0.0004 * factor)
    empty = np.zeros((200, 200), np.float32)
    answer = Answer(0.0009888 * factor, True, empty, [], empty.astype(np.int32), False)
    drawn = draw(np.zeros((200, 200, 3), np.uint8), answer, long)
    assert is_colour(drawn[200:, [0, -1]], (255, 255, 255)).all()


def test_tiny_images_are_enlarged_by_a_whole_factor() -> None:
    """70×30 pixels become 210×90 with the nearest pixel; the region's box too."""
    rng = np.random.default_rng(0)
    rgb = rng.integers(0, 200, (30, 70, 3), np.uint8)
    labels = np.zeros((30, 70), np.int32)
    answer = Answer(0.1, False, np.full((30, 70), 0.1, np.float32), [], labels, False)
    drawn = draw(rgb, answer, LIMITS)
    np.testing.assert_array_equal(drawn[:90], np.asarray(Image.fromarray(rgb).resize((210, 90), 0)))
    assert drawn.shape[1] == 210


def test_strips_do_not_show(monkeypatch: pytest.MonkeyPatch) -> None:
    values = np.random.default_rng(0).random((210, 210)).astype(np.float32)
    expected = picture(values)[1]
    monkeypatch.setattr(overlay, "_STRIP", 1)
    np.testing.assert_array_equal(picture(values)[1], expected)
