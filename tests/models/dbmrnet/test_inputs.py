"""Preparation: normalisation, sampling, neighbourhoods, and the square of the image that is seen."""

from collections.abc import Callable
from dataclasses import fields

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from datasets.sample import Sample
from models.dbmrnet.inputs import Inputs, object_window, prepare, to_metres, to_window
from models.dbmrnet.neighbours import nearest_in_plane, take
from models.dbmrnet.scoring import to_pixels
from models.dbmrnet.settings import SAMPLERS, VIEWS, ModelSettings
from models.point_ops import farthest_point_sampling
from models.token_store import GridSample

CPU = torch.device("cpu")
MakeGrid = Callable[..., GridSample]


def roof(make_grid: MakeGrid) -> GridSample:
    """Two steep planes that meet in the column 32 of a grid of 64, everywhere valid, 1 mm a pixel."""
    v, u = torch.meshgrid(torch.arange(64.0), torch.arange(64.0), indexing="ij")
    z = 0.6 + 2e-3 * (u - 32).abs()
    return make_grid(torch.stack([(u - 31.7) / 600 * z, (v - 30.3) / 600 * z, z]), torch.ones(64, 64, dtype=torch.bool))


def in_plane(a: Tensor, b: Tensor) -> Tensor:
    """Distances (Q, N) in (x, y), float64."""
    return (a[:, None, :2].double() - b[None, :, :2].double()).norm(dim=-1)


def distinct(points: Tensor) -> int:
    return len(torch.unique(points, dim=0))


def test_unit_sphere_and_back_to_metres(inputs: Inputs, samples: list[Sample]) -> None:
    for i, sample in enumerate(samples):
        points = inputs.cloud[i].permute(1, 2, 0)[sample.valid]
        assert float(points.norm(dim=1).max()) == pytest.approx(1, abs=1e-5)
        torch.testing.assert_close(points.mean(dim=0), torch.zeros(3), rtol=0, atol=1e-5)
        assert not bool(inputs.cloud[i][:, ~sample.valid].any())
        metres = to_metres(inputs.select(torch.tensor([i])), points[None])[0]
        torch.testing.assert_close(metres, sample.xyz.permute(1, 2, 0)[sample.valid], rtol=0, atol=1e-6)


def test_points_are_drawn_without_replacement(inputs: Inputs, samples: list[Sample]) -> None:
    for i, sample in enumerate(samples):
        cloud = inputs.cloud[i].permute(1, 2, 0)[sample.valid]
        assert len(cloud) > 1024
        assert distinct(inputs.points[i]) == 1024
        assert distinct(torch.cat([cloud, inputs.points[i]])) == distinct(cloud)


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_few_points_all_come_before_one_comes_again(sampler: str, make_grid: MakeGrid) -> None:
    sample = roof(make_grid)
    valid = torch.zeros(64, 64, dtype=torch.bool)
    valid[20:40, 22:37] = True  # 300 points: 1024 = 3 · 300 + 124
    found = prepare([make_grid(sample.xyz, valid)], ModelSettings("small", sampler=sampler), 0, CPU)
    _, counts = torch.unique(found.points[0], dim=0, return_counts=True)
    assert counts.bincount().tolist() == [0, 0, 0, 300 - 124, 124]


def test_centres_are_nested_farthest_points(inputs: Inputs) -> None:
    for i in range(len(inputs)):
        for count in (256, 128, 64):
            picks = farthest_point_sampling([inputs.points[i] + 2], count)[0]
            assert torch.equal(inputs.centres[i, :count], inputs.points[i, picks])
        assert distinct(inputs.centres[i]) == 256


def test_owners_are_the_nearest_centres_in_the_plane(inputs: Inputs) -> None:
    for i in range(len(inputs)):
        coarse = inputs.centres[i, :64]
        for owners, points in ((inputs.owners[i], inputs.points[i]), (inputs.centre_owners[i], inputs.centres[i])):
            distances = in_plane(points, coarse)
            torch.testing.assert_close(distances.gather(1, owners[:, None])[:, 0], distances.min(dim=1).values)
        assert inputs.centre_owners[i, :64].tolist() == list(range(64))


def test_candidates_are_the_nearest_in_the_plane(inputs: Inputs) -> None:
    for i in range(len(inputs)):
        stages = [inputs.points[i], inputs.centres[i], inputs.centres[i, :128], inputs.centres[i, :64]]
        pairs = [(stages[1], stages[0], 64), (stages[2], stages[1], 32), (stages[3], stages[2], 32)]
        for near, (centres, points, k) in zip(inputs.near, pairs, strict=True):
            distances = in_plane(centres, points)
            expected = distances.topk(k, dim=1, largest=False).values
            torch.testing.assert_close(distances.gather(1, near[i]), expected, rtol=0, atol=1e-7)


def test_groups_are_the_nearest_in_space_of_those_near_in_the_plane(inputs: Inputs) -> None:
    for i in range(len(inputs)):
        centres, points = inputs.centres[i, :64], inputs.points[i]
        distances = torch.cdist(centres.double(), points.double())
        far = torch.ones_like(distances, dtype=torch.bool)
        far.scatter_(1, in_plane(centres, points).topk(64, dim=1, largest=False).indices, False)
        expected = distances.masked_fill(far, torch.inf).topk(16, dim=1, largest=False).values
        torch.testing.assert_close(distances.gather(1, inputs.groups[i]), expected, rtol=0, atol=1e-6)


def test_candidates_and_owners_say_nothing_of_depth(inputs: Inputs, settings: ModelSettings) -> None:
    sizes, points = settings.sizes, inputs.points
    picks = farthest_point_sampling(list(points + 2), 256)
    assert torch.equal(take(points, picks), inputs.centres)
    hidden = inputs.owners % 2 == 0
    moved = points.clone()
    moved[..., 2] += torch.randn(points.shape[:2], generator=torch.Generator().manual_seed(0)) * hidden
    assert not torch.equal(moved, points)
    stages = [moved, *(take(moved, picks[:, :count]) for count in sizes.centres)]
    for i, k in enumerate(sizes.neighbours):
        assert torch.equal(nearest_in_plane(stages[i + 1], stages[i], 4 * k), inputs.near[i])
    assert torch.equal(nearest_in_plane(moved, stages[3], 1)[..., 0], inputs.owners)


def test_samplers_differ_and_repeat_with_their_seed(samples: list[Sample]) -> None:
    found = {name: prepare(samples[:1], ModelSettings("small", sampler=name), 0, CPU).points[0] for name in SAMPLERS}
    for name, points in found.items():
        again = prepare(samples[:1], ModelSettings("small", sampler=name), 0, CPU).points[0]
        assert torch.equal(points, again)
        assert distinct(points) == 1024
    other = prepare(samples[:1], ModelSettings("small"), 1, CPU).points[0]
    for name in ("fps", "geometry"):
        assert distinct(torch.cat([found[name], found["random"]])) > 1400
    assert distinct(torch.cat([other, found["random"]])) > 1400
    # Farthest points keep their distance.
    closest = {name: torch.cdist(points, points).fill_diagonal_(9).min(dim=1).values for name, points in found.items()}
    assert float(closest["fps"].min()) > 1.2 * float(closest["random"].min())
    assert float(closest["fps"].mean()) > 1.2 * float(closest["random"].mean())


def test_geometry_prefers_creases(make_grid: MakeGrid) -> None:
    shares = {}
    for sampler in ("random", "geometry"):
        found = prepare([roof(make_grid)], ModelSettings("small", sampler=sampler), 0, CPU)
        metres = to_metres(found, found.points)[0]
        columns = metres[:, 0] / metres[:, 2] * 600 + 31.7
        shares[sampler] = float(((columns - 32).abs() < 2.5).float().mean())
    assert shares["random"] == pytest.approx(5 / 64, abs=0.025)
    assert shares["geometry"] > 1.5 * shares["random"]


def test_object_window_by_hand() -> None:
    valid = torch.zeros(100, 100, dtype=torch.bool)
    assert object_window(valid) == (0, 0, 100)
    valid[30:70, 20:40] = True  # 20 wide, 40 high: a side of 44, centred at (30, 50)
    assert object_window(valid) == (8, 28, 44)
    valid[:] = False
    valid[0:40, 95:100] = True  # at the upper right corner
    assert object_window(valid) == (56, 0, 44)
    valid[:] = False
    valid[99, 0] = True
    assert object_window(valid) == (0, 99, 1)
    assert object_window(torch.ones(100, 100, dtype=torch.bool)) == (0, 0, 100)


def test_object_window_holds_every_valid_pixel() -> None:
    generator = torch.Generator().manual_seed(0)
    for _ in range(50):
        low = torch.randint(0, 40, (2,), generator=generator).tolist()
        high = [n + int(torch.randint(1, 24, (1,), generator=generator)) for n in low]
        valid = torch.zeros(64, 64, dtype=torch.bool)
        valid[low[1] : high[1], low[0] : high[0]] = True
        left, top, side = object_window(valid)
        assert int(valid[top : top + side, left : left + side].sum()) == int(valid.sum())
        assert 0 <= left <= 64 - side
        assert 0 <= top <= 64 - side


@pytest.mark.parametrize("view", VIEWS)
def test_image_and_grid_fit_each_other(view: str, samples: list[Sample], make_grid: MakeGrid) -> None:
    """A ramp of colours over the grid is still that ramp in the image, and back on the grid."""
    v, u = torch.meshgrid(torch.arange(96.0), torch.arange(96.0), indexing="ij")
    ramps = torch.stack([u, v, u - 2 * v])
    sample = make_grid(samples[0].xyz, samples[0].valid, ramps)
    found = prepare([sample], ModelSettings("small", view=view), 0, CPU)
    if view == "frame":
        assert found.window[0].tolist() == [0, 0, 96]
    else:
        assert found.window[0].tolist() == list(object_window(sample.valid))
        assert float(found.window[0, 2]) < 94
    pixels = torch.tensor([[[40.0, 50.0], [47.5, 30.25], [60.0, 61.0]]])
    places = to_window(found, pixels, 64)
    left, top, side = found.window[0].tolist()
    assert places[0, 0].tolist() == pytest.approx([(40.5 - left) * 64 / side - 0.5, (50.5 - top) * 64 / side - 0.5])
    seen = functional.grid_sample(found.image, ((2 * places + 1) / 64 - 1)[:, None], align_corners=False)
    torch.testing.assert_close(seen[0, :2, 0].T, pixels[0], rtol=0, atol=0.05)  # of a pixel
    inner = (u - 47).abs().maximum((v - 47).abs()) < 20
    for channel in range(3):
        back = to_pixels(found, found.image[:, channel : channel + 1])[0]
        assert not bool(back[~sample.valid].any())
        chosen = inner & sample.valid
        torch.testing.assert_close(back[chosen], ramps[channel][chosen], rtol=0, atol=0.1)


def test_views_differ_in_the_image_only(samples: list[Sample], inputs: Inputs) -> None:
    frame = prepare(samples, ModelSettings("small", view="frame"), 5, CPU)
    assert torch.equal(frame.points, inputs.points)
    assert torch.equal(frame.camera, inputs.camera)
    assert not torch.equal(frame.image, inputs.image)


def test_take_select_and_concatenate(inputs: Inputs, samples: list[Sample], settings: ModelSettings) -> None:
    values, indices = torch.arange(12).view(2, 3, 2), torch.tensor([[[2, 0]], [[1, 1]]])
    assert take(values, indices).tolist() == [[[[4, 5], [0, 1]]], [[[8, 9], [8, 9]]]]
    assert len(inputs) == 4
    parts = [inputs.select(torch.tensor([i])) for i in (2, 0)]
    both = Inputs.concatenate(parts)
    alone = prepare([samples[2], samples[0]], settings, 5, CPU)
    for field in fields(Inputs):
        found, expected = getattr(both, field.name), getattr(alone, field.name)
        if field.name == "near":
            assert all(torch.equal(a, b) for a, b in zip(found, expected, strict=True))
        else:
            assert torch.equal(found, expected), field.name


def test_scaled_scene_gives_the_same_points(make_grid: MakeGrid) -> None:
    near = roof(make_grid)
    far = make_grid(2 * near.xyz, near.valid)
    first, second = (prepare([sample], ModelSettings("small"), 0, CPU) for sample in (near, far))
    torch.testing.assert_close(second.points, first.points, rtol=0, atol=1e-5)
    assert float(second.scale) == pytest.approx(2 * float(first.scale), rel=1e-5)
