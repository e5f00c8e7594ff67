"""report/pictures.py: what a page decodes is what went in."""

import base64
import io
from typing import Any

import numpy as np
import pytest
from matplotlib import colormaps
from PIL import Image

from report import pictures
from report.figures.colours import ColourScale
from report.figures.sample import QualitativeInput
from tests.report.tools import make_sample
from utils.palette import OUTLINE


def decoded(uri: str, kind: str) -> Image.Image:
    head = f"data:image/{kind};base64,"
    assert uri.startswith(head)
    picture = Image.open(io.BytesIO(base64.b64decode(uri.removeprefix(head))))
    assert picture.format == kind.upper()
    return picture


def cloud_points(cloud: dict[str, Any], width: int = 48) -> tuple[np.ndarray, np.ndarray]:
    """(n, 3) metres and (n, 2) row and column in the image, as a page reads them."""
    whole = np.frombuffer(base64.b64decode(cloud["points"]), "<u2").reshape(-1, 4).astype(int)
    return cloud["low"] + cloud["step"] * whole[:, :3], np.column_stack(np.divmod(whole[:, 3], width))


def test_masks_come_back_bit_by_bit() -> None:
    mask = np.random.default_rng(0).random((20, 30)) < 0.5
    picture = decoded(pictures.mask_png(mask), "png")
    assert picture.mode == "1"
    assert np.array_equal(np.asarray(picture), mask)


def test_maps_take_the_colours_of_their_scale() -> None:
    values = np.array([[0.0, 1.0, 2.0], [3.0, 9.0, np.nan]], np.float32)
    pixels = np.asarray(decoded(pictures.map_png(values, (1.0, 3.0), "inferno"), "png").convert("RGB")).astype(int)
    expected = 255 * np.array(colormaps["inferno"]([0.0, 0.0, 0.5, 1.0, 1.0]))[:, :3]
    assert np.abs(pixels.reshape(-1, 3)[:5] - expected).max() <= 2  # 255 levels
    assert pixels[1, 2].tolist() == [237, 237, 237]


def test_palette_runs_from_end_to_end() -> None:
    colours = pictures.palette("viridis", 3)
    assert colours == [(68, 1, 84), (33, 145, 140), (253, 231, 37)]


def test_photos_stay_close() -> None:
    rgb = make_sample("hole", "1", 1.0).rgb
    pixels = np.asarray(decoded(pictures.jpeg(rgb), "jpeg")).astype(int)
    assert np.abs(pixels - rgb).mean() < 4


def test_thumbnail_shows_the_part_and_outlines_the_defect() -> None:
    sample = make_sample("hole", "1", 1.0)
    xyz = sample.xyz.copy()
    xyz[:, 30:] = 0  # so that the part lies on the left
    item = QualitativeInput(
        "", "hole", 1.0, sample.rgb, sample.prediction.gt, xyz[..., 2], *[np.zeros((48, 48), np.float32)] * 3
    )
    calm = ColourScale((0, 1), (0, 1), (0, 1))
    picture = np.asarray(decoded(pictures.thumbnail(item, calm), "jpeg")).astype(int)
    assert picture.shape == (224, 224, 3)
    outline = np.abs(picture - OUTLINE).max(axis=-1) < 60
    assert 0.005 < outline.mean() < 0.05
    good = np.asarray(decoded(pictures.thumbnail(QualitativeInput(**{**vars(item), "gt": None}), calm), "jpeg"))
    assert not (np.abs(good.astype(int) - OUTLINE).max(axis=-1) < 60).any()


@pytest.mark.parametrize(("limit", "stride"), [(8000, 1), (500, 2), (60, 4)])
def test_cloud_comes_back(limit: int, stride: int) -> None:
    xyz = make_sample("hole", "1", 1.0).xyz
    cloud = pictures.cloud(xyz, limit)
    assert cloud is not None
    points, pixels = cloud_points(cloud)
    valid = np.argwhere(xyz[::stride, ::stride].any(axis=-1)) * stride
    assert np.array_equal(pixels, valid)
    assert len(points) <= limit
    extent = np.ptp(xyz[xyz.any(axis=-1)], axis=0).max()
    assert np.abs(points - xyz[pixels[:, 0], pixels[:, 1]]).max() <= 0.51 * extent / 65535


def test_cloud_of_few_points() -> None:
    xyz = np.zeros((48, 48, 3), np.float32)
    assert pictures.cloud(xyz) is None
    xyz[3, 5] = 0.1, -0.2, 0.7
    xyz[9, 9] = np.nan
    cloud = pictures.cloud(xyz)
    assert cloud is not None
    points, pixels = cloud_points(cloud)
    assert pixels.tolist() == [[3, 5]]
    assert points == pytest.approx(np.array([[0.1, -0.2, 0.7]]))


def test_cloud_of_the_largest_image_that_its_numbers_count() -> None:
    xyz = np.zeros((128, 512, 3), np.float32)
    xyz[127, 511] = 0.1, 0.2, 0.7
    cloud = pictures.cloud(xyz)
    assert cloud is not None
    assert cloud_points(cloud, 512)[1].tolist() == [[127, 511]]
    with pytest.raises(ValueError, match="at most 65536 pixels"):
        pictures.cloud(np.zeros((129, 512, 3), np.float32))


def test_cloud_between_the_rows_that_would_be_kept() -> None:
    xyz = np.zeros((48, 48, 3), np.float32)
    xyz[1::2, 1::2] = 0.1, 0.2, 0.7
    cloud = pictures.cloud(xyz, limit=200)
    assert cloud is not None
    pixels = cloud_points(cloud)[1]
    assert 100 < len(pixels) <= 200
    assert (pixels % 2 == 1).all()
