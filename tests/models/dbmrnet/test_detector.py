"""The detector: zero for a sample against itself, repeatable, and independent of the batch."""

from collections.abc import Callable
from dataclasses import replace

import pytest
import torch
from torch import Tensor

from datasets.sample import Sample
from models.dbmrnet.detector import DBMRNetDetector, Rebuilt
from models.dbmrnet.inputs import Inputs
from models.dbmrnet.masking import Mask, disjoint_masks
from models.dbmrnet.network import patchify
from models.dbmrnet.part_map import make_part_map
from models.dbmrnet.pipeline import DBMRNetPipeline
from models.dbmrnet.scoring import Discrepancies, rebuilt_frame
from models.dbmrnet.settings import FUSIONS, SCORES, ModelSettings
from models.token_store import GridSample


@pytest.fixture(scope="module")
def detector(settings: ModelSettings, inputs: Inputs) -> DBMRNetDetector:
    """Untrained, with radii."""
    made = DBMRNetDetector(settings, "fp32", 5).eval()
    made.network.fit_radii(inputs)
    return made


def four_maps(found: Discrepancies) -> list[Tensor]:
    assert found.features is not None
    assert found.residuals is not None
    return [*found.features, *found.residuals]


def all_maps(detector: DBMRNetDetector, samples: list[GridSample]) -> list[Tensor]:
    """Everything that is made of samples, from their preparation on."""
    inputs = detector.prepare(samples)
    rebuilt = detector.reconstruct(inputs)
    found = detector.discrepancies(inputs, rebuilt, "both")
    local = detector.discrepancies(inputs, None, "local")
    maps = [m.smoothed for some in (found, local) for m in detector.maps(some, "product")]
    return [rebuilt.image, rebuilt.points, *four_maps(found), *(local.local or ()), torch.stack(maps)]


@pytest.fixture(scope="module")
def few_points(make_dome: Callable[..., Sample], make_grid: Callable[..., GridSample]) -> Callable[[int], GridSample]:
    """(count) -> a sample with this many valid pixels, spread over the dome."""
    whole = make_dome(0)

    def make(count: int) -> GridSample:
        places = whole.valid.view(-1).nonzero().flatten()
        valid = torch.zeros_like(whole.valid)
        valid.view(-1)[places[:: max(1, len(places) // max(count, 1))][:count]] = True
        sample: GridSample = make_grid(whole.xyz, valid, whole.rgb)
        return sample

    return make


def test_panels_show_what_the_score_compares_with(detector: DBMRNetDetector, samples: list[GridSample]) -> None:
    assert DBMRNetPipeline(detector, "local").look(samples)[1]() == [{} for _ in samples]
    panels = DBMRNetPipeline(detector, "residual").look(samples)[1]()
    inputs = detector.prepare(samples)
    rebuilt = rebuilt_frame(inputs, detector.reconstruct(inputs).image, torch.stack([s.rgb for s in samples]))
    assert [list(panel) for panel in panels] == [["RGB rebuilt", "depth rebuilt (m)"] for _ in samples]
    torch.testing.assert_close(torch.stack([panel["RGB rebuilt"] for panel in panels]), rebuilt)


def test_thresholds_for_maps_that_were_smoothed_otherwise_do_not_hold(detector: DBMRNetDetector) -> None:
    settings = DBMRNetPipeline(detector, "local", "max").settings
    assert settings == {"score": "local", "fusion": "max", "smoothing": 0.05}


def test_sample_against_itself_gives_zero_maps(
    detector: DBMRNetDetector, few_points: Callable[[int], GridSample]
) -> None:
    inputs = detector.prepare([few_points(700), few_points(1000)])  # all their points are among the sampled ones
    found = detector.discrepancies(inputs, Rebuilt(inputs.image, inputs.points), "both")
    for values in four_maps(found):
        assert not bool(values.any())
    for fusion in FUSIONS:
        for anomaly_map in detector.maps(found, fusion):
            assert anomaly_map.image_score() == 0
            assert not bool(anomaly_map.smoothed.any())


def test_large_sample_against_its_own_points(detector: DBMRNetDetector, inputs: Inputs) -> None:
    found = detector.discrepancies(inputs, Rebuilt(inputs.image, inputs.points), "both")
    image_features, point_features, image_residual, _ = four_maps(found)
    assert not bool(torch.cat([image_features, point_features, image_residual]).any())
    for i in range(len(inputs)):
        cloud = inputs.cloud[i].permute(1, 2, 0)[inputs.valid[i]][None]
        one = inputs.select(torch.tensor([i]))
        residuals = detector.discrepancies(one, Rebuilt(one.image, cloud), "residual").residuals
        assert residuals is not None
        assert not bool(residuals[1].any())


def test_invalid_pixels_are_zero_before_the_blur(detector: DBMRNetDetector, inputs: Inputs) -> None:
    found = detector.discrepancies(inputs, detector.reconstruct(inputs), "both")
    for values in four_maps(found):
        assert not bool(values[~inputs.valid].any())
        assert float(values.min()) == 0
        assert float((values[inputs.valid] > 0).float().mean()) > 0.99
    for i, anomaly_map in enumerate(detector.maps(found, "product")):
        valid = inputs.valid[i]
        assert not bool(anomaly_map.psi_2d[~valid].any())
        assert not bool(anomaly_map.psi_3d[~valid].any())
        assert float(anomaly_map.smoothed[~valid].max()) > 0  # the blurred map is not masked again


@pytest.mark.parametrize("score", SCORES)
def test_clouds_with_few_or_no_points(
    score: str, detector: DBMRNetDetector, few_points: Callable[[int], GridSample], samples: list[Sample]
) -> None:
    counts = (0, 1, 2, 5, 30)
    inputs = detector.prepare([*(few_points(count) for count in counts), samples[0]])
    assert inputs.valid.sum(dim=(1, 2)).tolist()[:5] == list(counts)
    found = detector.discrepancies(inputs, detector.reconstruct(inputs), score)
    for i, anomaly_map in enumerate(detector.maps(found, "sum")):
        for values in (anomaly_map.psi_2d, anomaly_map.psi_3d, anomaly_map.smoothed):
            assert bool(values.isfinite().all())
        # Scattered points have no normals, so that of those local descriptors say nothing.
        assert (anomaly_map.image_score() > 0) == (i > (4 if score == "local" else 0))


def test_empty_cloud_alone_gives_zero_maps(detector: DBMRNetDetector, few_points: Callable[[int], GridSample]) -> None:
    _, _, *maps = all_maps(detector, [few_points(0)])
    assert not any(bool(values.any()) for values in maps)


@pytest.mark.parametrize(("mask_ratio", "passes"), [(0.75, 4), (0.25, 4)])
def test_reconstruction_is_the_mean_of_the_passes_that_hid_a_token(
    mask_ratio: float, passes: int, inputs: Inputs
) -> None:
    model = ModelSettings("small", mask_ratio=mask_ratio, passes=passes)
    made = DBMRNetDetector(model, "fp32", 5).eval()
    rebuilt = made.reconstruct(inputs)
    generator = torch.Generator().manual_seed(5)
    masks = [disjoint_masks(64, passes, model.visible_parts, generator) for _ in range(2)]
    patches: dict[int, list[Tensor]] = {}
    points: dict[int, list[Tensor]] = {}
    for j in range(passes):
        point_mask, image_mask = (Mask(mask.kept[j].expand(4, -1), mask.hidden[j].expand(4, -1)) for mask in masks)
        with torch.no_grad():
            found = made.network(inputs, point_mask, image_mask)
            cloud = made.network.rebuilt_points(found)
        for token in range(64):
            if not masks[1].visible[j, token]:
                patches.setdefault(token, []).append(found.patches[:, token])
            if not masks[0].visible[j, token]:
                points.setdefault(token, []).append(cloud[:, token])
    times = passes - model.visible_parts
    assert {len(part) for part in (*patches.values(), *points.values())} == {times}
    expected = torch.stack([torch.stack(patches[token]).mean(dim=0) for token in range(64)], dim=1)
    torch.testing.assert_close(patchify(rebuilt.image, 8), expected, rtol=0, atol=1e-5)
    expected = torch.stack([torch.stack(points[token]).mean(dim=0) for token in range(64)], dim=1)
    torch.testing.assert_close(rebuilt.points.view(4, 64, 16, 3), expected, rtol=0, atol=1e-5)


def test_fitted_means_bring_the_foreground_to_one(detector: DBMRNetDetector, inputs: Inputs) -> None:
    made = DBMRNetDetector(detector.settings, "fp32", 5).eval()
    made.network.load_state_dict(detector.network.state_dict())
    assert made.feature_means.tolist() == [1, 1]
    made.fit_means(inputs, 3)
    rebuilt = made.reconstruct(inputs)
    for score, mean in (("local", 1), ("feature", 1), ("residual", 1), ("both", 2)):
        maps = made.maps(made.discrepancies(inputs, rebuilt, score), "product")
        for name in ("psi_2d", "psi_3d"):
            values = torch.stack([getattr(m, name) for m in maps])[inputs.valid]
            assert float(values.mean()) == pytest.approx(mean, rel=1e-4)


def test_means_are_never_zero(detector: DBMRNetDetector, few_points: Callable[[int], GridSample]) -> None:
    made = DBMRNetDetector(detector.settings, "fp32", 5).eval()
    made.fit_means(made.prepare([few_points(0)]), 4)
    for means in (made.local_means, made.feature_means, made.residual_means):
        assert means.tolist() == pytest.approx([1e-6, 1e-6])


def test_maps_are_scaled_added_and_fused() -> None:
    made = DBMRNetDetector(ModelSettings("small"), "fp32", 0)
    made.feature_means.copy_(torch.tensor([2.0, 4.0]))
    made.residual_means.copy_(torch.tensor([5.0, 10.0]))
    made.local_means.copy_(torch.tensor([20.0, 40.0]))
    generator = torch.Generator().manual_seed(0)
    f2, f3, r2, r3 = torch.rand(4, 2, 30, 30, generator=generator)
    valid = torch.ones(2, 30, 30, dtype=torch.bool)
    both = Discrepancies(valid, (f2, f3), (r2, r3))
    parts = {
        "both": (both, f2 / 2 + r2 / 5, f3 / 4 + r3 / 10),
        "feature": (replace(both, residuals=None), f2 / 2, f3 / 4),
        "residual": (replace(both, features=None), r2 / 5, r3 / 10),
        "local": (Discrepancies(valid, local=(r2, f3)), r2 / 20, f3 / 40),
    }
    for found, a, b in parts.values():
        fused = {"product": a * b, "sum": a + b, "max": torch.maximum(a, b), "2d": a, "3d": b}
        for fusion, expected in fused.items():
            maps = made.maps(found, fusion)
            for i in range(2):
                torch.testing.assert_close(maps[i].psi_2d, a[i])
                torch.testing.assert_close(maps[i].psi_3d, b[i])
                wanted = make_part_map(a[i], b[i], fusion, valid[i])
                torch.testing.assert_close(maps[i].smoothed, wanted.smoothed)
                torch.testing.assert_close(make_part_map(expected[i], b[i], "2d", valid[i]).smoothed, wanted.smoothed)
                assert maps[i].image_score() == pytest.approx(wanted.image_score())


def test_only_the_maps_that_are_asked_for(detector: DBMRNetDetector, inputs: Inputs) -> None:
    rebuilt = detector.reconstruct(inputs)
    both = detector.discrepancies(inputs, rebuilt, "both")
    residual = detector.discrepancies(inputs, rebuilt, "residual")
    feature = detector.discrepancies(inputs, rebuilt, "feature")
    assert residual.features is None
    assert feature.residuals is None
    assert detector.discrepancies(inputs, None, "local").local is not None
    with pytest.raises(ValueError, match="score residual compares with a reconstruction"):
        detector.discrepancies(inputs, None, "residual")
    alone = [*(feature.features or ()), *(residual.residuals or ())]
    assert all(torch.equal(a, b) for a, b in zip(alone, four_maps(both), strict=True))


def test_rebuilt_points_are_seen_around_the_same_centres(detector: DBMRNetDetector, inputs: Inputs) -> None:
    rebuilt = detector.reconstruct(inputs)
    seen = detector._with_points(inputs, rebuilt.points)
    assert torch.equal(seen.points, rebuilt.points)
    assert torch.equal(seen.centres, inputs.centres)
    distances = torch.cdist(inputs.centres[..., :2].double(), rebuilt.points[..., :2].double())
    expected = distances.topk(64, dim=-1, largest=False).values
    torch.testing.assert_close(distances.gather(2, seen.near[0]), expected, rtol=0, atol=1e-6)
    assert all(torch.equal(a, b) for a, b in zip(seen.near[1:], inputs.near[1:], strict=True))


def test_lower_precision_gives_nearly_the_same(
    detector: DBMRNetDetector, inputs: Inputs, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.backends.cpu, "get_cpu_capability", lambda: "AVX512")  # or it may be the same
    lower = DBMRNetDetector(detector.settings, "bf16", 5).eval()
    lower.network.load_state_dict(detector.network.state_dict())
    exact, rough = detector.reconstruct(inputs), lower.reconstruct(inputs)
    assert rough.points.dtype == rough.image.dtype == torch.float32
    assert not torch.equal(exact.image, rough.image)
    torch.testing.assert_close(rough.image, exact.image, rtol=0, atol=0.05)
    torch.testing.assert_close(rough.points, exact.points, rtol=0, atol=0.05)
