"""Pictures: the colour scale keeps good parts calm, files hold what was asked for, and no figure stays open."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from report.figures.canvas import show
from report.figures.colours import ColourScale, colour_range, colour_scale, depth_ends, overlay, unit_range
from report.figures.contact_sheet import save_contact_sheet
from report.figures.panels import QualitativeFigure
from report.figures.sample import QualitativeInput, object_window
from report.figures.training_curves import save_loss_plot
from utils.palette import OUTLINE

SIDE = 48


def item(defect: str, number: int, rng: np.random.Generator) -> QualitativeInput:
    """A disc on an empty background; a defect is a 6×6 square in all three maps."""
    y, x = np.mgrid[:SIDE, :SIDE]
    disc = np.hypot(y - SIDE / 2, x - SIDE / 2) < 20
    gt = np.zeros((SIDE, SIDE), dtype=bool)
    if defect != "good":
        gt[20:26, 28:34] = True
    base = (0.2 + 0.1 * rng.random((SIDE, SIDE))) * disc
    return QualitativeInput(
        title=f"bagel, {defect}/{number:03d}",
        defect=defect,
        image_score=float((base + gt).max()),
        rgb=np.where(disc[..., None], [200, 150, 90], [30, 30, 30]).astype(np.uint8),
        gt=gt,
        depth=np.where(disc, 0.6, 0.0).astype(np.float32),
        map_2d=(base + gt).astype(np.float32),
        map_3d=(base + 0.5 * gt).astype(np.float32),
        combined=(base + 2 * gt).astype(np.float32),
    )


@pytest.fixture
def items() -> list[QualitativeInput]:
    rng = np.random.default_rng(0)
    return [item(d, i, rng) for d in ("hole", "good", "cut") for i in range(4)]


def pixels(path: Path) -> np.ndarray:
    with Image.open(path) as image:
        return np.asarray(image.convert("RGB")).astype(int)


def test_scale_starts_at_the_median_of_good_and_ends_at_a_typical_defect(items: list[QualitativeInput]) -> None:
    scale = colour_scale(items)
    good = [i for i in items if i.defect == "good"]
    for name, added in (("map_2d", 1.0), ("map_3d", 0.5), ("combined", 2.0)):
        low, high = getattr(scale, name)
        assert low == pytest.approx(0.25, abs=0.005)
        assert high == pytest.approx(0.3 + added, abs=0.01)
        assert all(unit_range(getattr(i, name), (low, high)).max() <= 0.41 for i in good)
        assert all(
            unit_range(getattr(i, name), (low, high))[i.gt].mean() > 0.9 for i in items if i.defect not in ("good",)
        )


def test_good_images_stay_in_the_lower_part_when_defects_are_weak() -> None:
    rng = np.random.default_rng(2)
    maps = [0.2 + 0.1 * rng.random((20, 20)) for _ in range(10)]
    maps += [m * 1.1 for m in maps]
    ends = colour_range(maps, [m > 0 for m in maps], [True] * 10 + [False] * 10)
    peaks = [float(unit_range(m, ends).max()) for m in maps]
    assert max(peaks[:10]) == pytest.approx(0.4, abs=0.01)
    assert min(peaks[10:]) > max(peaks[:10])


@pytest.mark.parametrize(
    ("maps", "good"),
    [
        ([], []),
        ([np.zeros((4, 4))], [True]),
        ([np.zeros((4, 4)), np.zeros((4, 4))], [True, False]),
        ([np.full((4, 4), 0.3)], [True]),
        ([np.arange(16.0).reshape(4, 4)], [False]),
    ],
)
def test_scale_of_degenerate_classes_is_finite_and_not_empty(maps: list[np.ndarray], good: list[bool]) -> None:
    low, high = colour_range(maps, [m > 0 for m in maps], good)
    assert np.isfinite([low, high]).all()
    assert low < high


def test_overlay_leaves_normal_pixels_alone_and_shows_the_defect(items: list[QualitativeInput]) -> None:
    scale = colour_scale(items)
    hole, good = items[0], items[4]
    np.testing.assert_array_equal(overlay(good.rgb, good.combined, scale.combined), good.rgb)
    painted = overlay(hole.rgb, hole.combined, scale.combined)
    assert hole.gt is not None
    np.testing.assert_array_equal(painted[~hole.gt], hole.rgb[~hole.gt])
    assert (np.abs(painted.astype(int) - hole.rgb)[hole.gt].max(axis=-1) > 30).all()


@pytest.mark.parametrize(
    ("shape", "corner", "size", "expected"),
    [
        ((100, 100), (40, 40), (20, 10), (38, 62, 33, 57)),
        ((100, 100), (0, 75), (10, 20), (0, 24, 73, 97)),
        ((100, 100), (0, 80), (10, 20), (0, 24, 76, 100)),
        ((100, 60), (5, 5), (90, 50), (0, 100, 0, 60)),
        ((100, 100), (0, 0), (0, 0), (0, 100, 0, 100)),
    ],
)
def test_object_window(
    items: list[QualitativeInput],
    shape: tuple[int, int],
    corner: tuple[int, int],
    size: tuple[int, int],
    expected: tuple[int, int, int, int],
) -> None:
    depth = np.zeros(shape)
    depth[corner[0] : corner[0] + size[0], corner[1] : corner[1] + size[1]] = 0.5
    rows, columns = object_window(replace(items[0], depth=depth, gt=np.zeros(shape, dtype=bool)))
    assert (*rows.indices(shape[0])[:2], *columns.indices(shape[1])[:2]) == expected


def test_object_window_holds_a_defect_beside_the_object(items: list[QualitativeInput]) -> None:
    gt = np.zeros((SIDE, SIDE), dtype=bool)
    gt[0, 0] = gt[-1, -1] = True
    assert gt[object_window(replace(items[0], gt=gt))].sum() == 2


def test_qualitative_figure_shows_the_outline_only_when_there_is_a_defect(
    items: list[QualitativeInput], tmp_path: Path
) -> None:
    scale = colour_scale(items)
    cyan = []
    for one in (items[0], items[4]):
        path = tmp_path / "figures" / f"{one.defect}.png"
        QualitativeFigure(scale).save(path, one)
        cyan.append(int((np.abs(pixels(path) - OUTLINE).max(axis=-1) < 40).sum()))
    assert cyan[0] > 50
    assert cyan[1] == 0


def test_colour_scale_is_shared_so_a_brighter_map_gives_a_brighter_figure(
    items: list[QualitativeInput], tmp_path: Path
) -> None:
    scale = ColourScale((0.0, 1.0), (0.0, 1.0), (0.0, 1.0))
    mean = []
    for value in (0.1, 0.9):
        flat = np.full((SIDE, SIDE), value, dtype=np.float32)
        path = tmp_path / f"{value}.png"
        QualitativeFigure(scale).save(path, replace(items[4], map_2d=flat, map_3d=flat, combined=flat))
        mean.append(pixels(path).mean())
    assert mean[1] > mean[0] + 20


def test_a_figure_keeps_nothing_of_the_image_before(items: list[QualitativeInput], tmp_path: Path) -> None:
    """Other outlines, depths and windows than before: the same pixels as on a figure of its own."""
    scale, far = colour_scale(items), items[0].depth * 2
    far[:, 40:] = 1.5
    shown = [items[0], replace(items[0], depth=far), replace(items[4], gt=None), items[1]]
    figure = QualitativeFigure(scale, 1)
    for one in shown:
        figure.save(tmp_path / "again.png", one, {"depth rebuilt (m)": one.depth})
        QualitativeFigure(scale, 1).save(tmp_path / "new.png", one, {"depth rebuilt (m)": one.depth})
        np.testing.assert_array_equal(pixels(tmp_path / "again.png"), pixels(tmp_path / "new.png"))


def test_extra_panels_widen_the_figure_and_hold_their_image(items: list[QualitativeInput], tmp_path: Path) -> None:
    scale = colour_scale(items)
    magenta = np.broadcast_to(np.array([255, 0, 255], dtype=np.uint8), (SIDE, SIDE, 3))
    QualitativeFigure(scale).save(tmp_path / "plain.png", items[0])
    more = {"rebuilt": magenta, "cloud (m)": items[0].depth}
    QualitativeFigure(scale, len(more)).save(tmp_path / "extra.png", items[0], more)
    plain, extra = pixels(tmp_path / "plain.png"), pixels(tmp_path / "extra.png")
    assert extra.shape[0] == plain.shape[0]
    assert extra.shape[1] > plain.shape[1] + 150
    assert int((extra == [255, 0, 255]).all(axis=-1).sum()) > 150**2
    assert not (plain == [255, 0, 255]).all(axis=-1).any()


@pytest.mark.parametrize("depth", [np.zeros((SIDE, SIDE)), np.full((SIDE, SIDE), np.nan)])
def test_figure_of_a_sample_without_points(items: list[QualitativeInput], depth: np.ndarray, tmp_path: Path) -> None:
    zero = np.zeros((SIDE, SIDE), dtype=np.float32)
    empty = replace(items[4], depth=depth, map_2d=zero, map_3d=zero, combined=zero)
    QualitativeFigure(colour_scale([empty])).save(tmp_path / "empty.png", empty)
    assert pixels(tmp_path / "empty.png").std() > 10


def test_contact_sheet_holds_every_image_and_good_comes_first(items: list[QualitativeInput], tmp_path: Path) -> None:
    scale = colour_scale(items)
    path = tmp_path / "sheet.png"
    good = next(i for i in items if i.defect == "good")
    window = object_window(good)
    side = window[0].stop - window[0].start  # so that thumbnails are cut out but not resized
    save_contact_sheet(path, items, scale, "bagel", columns=3, side=side)
    sheet = pixels(path)
    assert sheet.shape[1] == max(6 + 3 * (side + 6), 6 + 480)
    first = sheet[54 : 54 + side, 6 : 6 + side]  # below the sheet's heading and the group's
    np.testing.assert_array_equal(first, overlay(good.rgb, good.combined, scale.combined)[window])
    outlined = (sheet == OUTLINE).all(axis=-1)
    assert outlined.sum() == 8 * 4 * 6, "eight defects of 6×6 pixels, each with a rim of 4·6 pixels"


def test_loss_plot_draws_each_loss(tmp_path: Path) -> None:
    entries = [{"epoch": e, "loss": 1 / e, "loss_2d_to_3d": 0.6 / e, "seconds": 2.0} for e in range(1, 6)]
    save_loss_plot(tmp_path / "two.png", entries, "bagel")
    save_loss_plot(tmp_path / "one.png", [{"epoch": e["epoch"], "loss": e["loss"]} for e in entries], "bagel")
    save_loss_plot(tmp_path / "none.png", [], "bagel")
    coloured = {
        name: int((np.ptp(pixels(tmp_path / f"{name}.png"), axis=-1) > 60).sum()) for name in ("two", "one", "none")
    }
    assert coloured["two"] > coloured["one"] + 100 > 200
    assert coloured["none"] == 0


def test_losses_of_networks_that_are_trained_in_turn_are_drawn(tmp_path: Path) -> None:
    entries = [{"epoch": e, f"loss_{'ab'[e > 3]}": 1 / e, "seconds": 2.0} for e in range(1, 7)]
    save_loss_plot(tmp_path / "both.png", entries, "bagel")
    save_loss_plot(tmp_path / "first.png", entries[:3], "bagel")
    drawn = [pixels(tmp_path / f"{name}.png").astype(int) for name in ("both", "first")]
    orange = [int((image[..., 0] > image[..., 2] + 100).sum()) for image in drawn]  # of the second line
    blue = [int((image[..., 2] > image[..., 0] + 100).sum()) for image in drawn]
    assert orange[0] > 100
    assert orange[1] == 0
    assert min(blue) > 100


def test_no_figure_stays_open(items: list[QualitativeInput], tmp_path: Path) -> None:
    from matplotlib import pyplot

    QualitativeFigure(colour_scale(items)).save(tmp_path / "a.png", items[0])
    save_loss_plot(tmp_path / "b.png", [{"epoch": 1, "loss": 1.0}], "bagel")
    assert pyplot.get_fignums() == []
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a.png", "b.png"]


def test_show_without_a_display_says_so_once(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    monkeypatch.setattr("matplotlib.get_backend", lambda: "agg")
    shown = [show(tmp_path / f"{name}.png") for name in "abc"]
    assert shown == [False, False, False]
    assert capsys.readouterr().err.count("no display") == 1


def test_depth_scale() -> None:
    depth = np.concatenate([np.linspace(1, 2, 1001), [0.0, np.nan, 0.0]])[None]
    assert depth_ends(depth) == pytest.approx((1.005, 1.995))
    assert depth_ends(np.zeros((2, 2))) == (0.0, 1.0)
    assert depth_ends(np.full((2, 2), 0.5)) == (0.5, pytest.approx(0.501))
