"""BTF's features: values by hand, plain versions, and what the release's quirks mean."""

import math

import pytest
import torch
from torch import Tensor

from models.btf.features import dense_sift, describe, fpfh_rows, hog_rows, pool, raw_rows
from models.btf.settings import FEATURES
from models.extractors.backbone import IMAGENET_MEAN, IMAGENET_STD, Backbone, load_backbone

SIZE = 224


def depth(seed: int = 0) -> Tensor:
    return 0.4 + 0.01 * torch.rand(SIZE, SIZE, generator=torch.Generator().manual_seed(seed))


def plane() -> Tensor:
    """A tilted square of points in the middle of the frame: (3, 224, 224) metres."""
    rows, columns = torch.meshgrid(torch.arange(SIZE), torch.arange(SIZE), indexing="ij")
    inside = (rows > 80) & (rows < 140) & (columns > 60) & (columns < 150)
    x, y = (columns + 1) * 5e-4, (rows + 1) * 5e-4
    return torch.stack([x, y, 0.5 + 0.2 * x]) * inside


@pytest.fixture(scope="module")
def backbone() -> Backbone:
    return load_backbone("efficientnet_lite0", None)[0]


def test_pooled_cells_are_means_of_means() -> None:
    values = torch.rand(1, SIZE, SIZE, generator=torch.Generator().manual_seed(0))
    means = [[float(values[0, i : i + 3, j : j + 3].mean()) for j in range(8)] for i in range(8)]
    # 222 means become 28 cells: the first takes ⌈222 / 28⌉ = 8 of them.
    assert float(pool(values)[0, 0]) == pytest.approx(sum(map(sum, means)) / 64, rel=1e-5)
    assert pool(torch.arange(28.0).expand(1, 28, 28))[:3, 0].tolist() == pytest.approx([1.0, 1.5, 2.5])


def test_raw_rows_follow_the_image_row() -> None:
    values = torch.arange(SIZE * SIZE).float().view(SIZE, SIZE)
    assert raw_rows(values)[5].tolist() == list(range(5 * 64, 6 * 64))  # of image row 1, not of a square


def test_hog_of_ramps_by_hand() -> None:
    """All votes go to one bin, which normalisation and clipping bring to 1; steps of 45° fall on every other bin."""
    rows, columns = torch.meshgrid(torch.arange(float(SIZE)), torch.arange(float(SIZE)), indexing="ij")
    for ramp, bin_ in ((columns, 0), (rows + columns, 2), (rows, 4), (rows - columns, 6)):
        inner = hog_rows(ramp).view(28, 28, 8)[5, 5]
        assert inner.tolist() == pytest.approx([float(i == bin_) for i in range(8)])


def plain_hog(depth: Tensor, row: int, column: int) -> list[float]:
    values = depth.double().tolist()
    votes = [0.0] * 8
    for i in range(8 * row, 8 * row + 8):
        for j in range(8 * column, 8 * column + 8):
            down = values[i + 1][j] - values[i - 1][j] if 0 < i < SIZE - 1 else 0.0
            across = values[i][j + 1] - values[i][j - 1] if 0 < j < SIZE - 1 else 0.0
            angle = math.degrees(math.atan2(down, across)) % 180
            votes[int(angle // 22.5)] += math.hypot(down, across) / 64
    norm = math.sqrt(sum(v * v for v in votes) + 1e-10)
    clipped = [min(v / norm, 0.2) for v in votes]
    norm = math.sqrt(sum(v * v for v in clipped) + 1e-10)
    return [v / norm for v in clipped]


@pytest.mark.parametrize(("row", "column"), [(0, 0), (13, 7), (27, 27)])
def test_hog_is_that_of_the_plain_version(row: int, column: int) -> None:
    assert hog_rows(depth())[28 * row + column].tolist() == pytest.approx(plain_hog(depth(), row, column), abs=1e-6)


def test_sift_of_a_ramp_by_hand() -> None:
    """One angle, 16 equal taps: 1/4 each, clipped to 1/5, summing to 1 again: the root of 1/16."""
    columns = torch.arange(float(SIZE)).expand(SIZE, SIZE)
    found = dense_sift(columns)[:, 100, 100].view(8, 16)
    assert found[0].tolist() == pytest.approx([0.25] * 16, abs=1e-5)
    assert found[1:].abs().max() < 1e-4


def plain_sift(depth: Tensor, row: int, column: int) -> list[float]:
    values = depth.double().tolist()

    def at(i: int, j: int) -> float:
        return values[min(max(i, 0), SIZE - 1)][min(max(j, 0), SIZE - 1)]

    def vote(i: int, j: int, angle: int) -> float:
        if not (0 <= i < SIZE and 0 <= j < SIZE):
            return 0.0
        across, down = (at(i, j + 1) - at(i, j - 1)) / 2, (at(i + 1, j) - at(i - 1, j)) / 2
        place = 8 * (math.atan2(down, across + 1e-10) + 2 * math.pi) / (2 * math.pi)
        low, share = int(place) % 8, place - int(place)
        return ((1 - share) * (low == angle) + share * ((low + 1) % 8 == angle)) * math.hypot(down, across, 1e-5)

    def pooled(i: int, j: int, angle: int) -> float:
        if not (0 <= i <= SIZE and 0 <= j <= SIZE):
            return 0.0
        weights = (0.25, 0.75, 0.75, 0.25)
        return sum(weights[a] * weights[b] * vote(i - 2 + a, j - 2 + b, angle) for a in range(4) for b in range(4))

    taps = [pooled(row - 1 + i, column - 1 + j, angle) for angle in range(8) for i in range(4) for j in range(4)]
    for limit in (0.2, 1.0):
        norm = math.sqrt(sum(t * t for t in taps))
        taps = [min(t / norm, limit) for t in taps]
    return [math.sqrt(t / sum(taps) + 1e-10) for t in taps]


@pytest.mark.parametrize(("row", "column"), [(0, 0), (50, 120), (223, 222)])
def test_sift_is_that_of_the_plain_version(row: int, column: int) -> None:
    assert dense_sift(depth())[:, row, column].tolist() == pytest.approx(plain_sift(depth(), row, column), abs=2e-4)


def test_fpfh_of_a_plane() -> None:
    """Each of three histograms sums to 200 where there are points (100 of the point, 100 of its neighbours), and is
    one bin wide: no angle differs. Where a cell holds none, all is zero."""
    rows = fpfh_rows(plane()).view(28, 28, 3, 11)
    assert rows[14, 12].sum(dim=1).tolist() == pytest.approx([200.0] * 3, rel=1e-3)
    assert (rows[14, 12] > 1).sum(dim=1).max() <= 2  # a normal may be turned over
    assert not rows[:9].any()
    assert not rows[:, 20:].any()


def test_a_bump_changes_its_neighbourhood_only() -> None:
    bumped = plane()
    bumped[2, 108:114, 100:106] += 0.002
    changed = (fpfh_rows(bumped) - fpfh_rows(plane())).abs().amax(dim=1).view(28, 28) > 5
    assert changed[13:14, 12:14].all()
    assert not changed[:, :10].any()
    assert not changed[:, 17:].any()


@pytest.mark.parametrize("points", [0, 1, 4])
def test_features_of_few_points_are_finite(points: int) -> None:
    xyz = torch.zeros(3, SIZE, SIZE)
    for number in range(points):
        xyz[:, 100, 100 + number] = torch.tensor([0.1, 0.1 + 0.001 * number, 0.5])
    for features in ("raw", "hog", "sift", "fpfh"):
        assert describe(torch.zeros(3, SIZE, SIZE), xyz, features, None).isfinite().all(), features


def test_each_set_has_its_width_and_btf_joins_two(backbone: Backbone) -> None:
    rgb = torch.rand(3, SIZE, SIZE, generator=torch.Generator().manual_seed(0))
    rows = {features: describe(rgb, plane(), features, backbone) for features in FEATURES}
    widths = {"rgb": 152, "depth": 152, "raw": 64, "hog": 8, "sift": 128, "fpfh": 33, "btf": 185}
    assert {features: tuple(found.shape) for features, found in rows.items()} == {
        features: (784, width) for features, width in widths.items()
    }
    assert all(found.dtype == torch.float32 for found in rows.values())
    assert torch.equal(rows["btf"], torch.cat([rows["rgb"], rows["fpfh"]], dim=1))


def test_what_the_network_is_shown(backbone: Backbone, monkeypatch: pytest.MonkeyPatch) -> None:
    """Colours normalised once, by its own statistics; depth in metres as it is, not normalised."""
    shown: list[Tensor] = []

    def watch(images: Tensor, **_: object) -> list[Tensor]:
        shown.append(images)
        return [torch.zeros(1, 1, 56, 56), torch.zeros(1, 2, 28, 28), torch.zeros(1, 3, 14, 14)]

    monkeypatch.setattr(backbone.network, "forward_intermediates", watch)
    grey = torch.full((3, SIZE, SIZE), 0.75)
    mean, std = (torch.tensor(values).view(3, 1, 1) for values in (IMAGENET_MEAN, IMAGENET_STD))
    assert describe((grey - mean) / std, plane(), "rgb", backbone).shape == (784, 5)
    assert describe(grey, plane(), "depth", backbone).shape == (784, 5)
    assert torch.allclose(shown[0], ((grey - backbone.mean) / backbone.std)[None], atol=1e-5)
    assert torch.allclose(shown[1], plane()[2].expand(1, 3, -1, -1), atol=1e-6)


def test_features_of_a_network_need_one() -> None:
    with pytest.raises(ValueError, match="need a backbone"):
        describe(torch.zeros(3, SIZE, SIZE), torch.zeros(3, SIZE, SIZE), "rgb", None)
