"""The frozen extractors: repeatable, independent of the batch, equal to the dense implementation, prunable."""

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any

import pytest
import torch
from torch import Tensor

from benchmarks import plain_cfm
from datasets.sample import Sample
from models.cfm.detector import CrossmodalDetector
from models.extractors import point_mae
from models.extractors.dino import DinoEncoder
from models.extractors.dino_pointmae import DinoPointMAE
from models.extractors.point_mae import CHOSEN_BLOCKS, PointMAEEncoder
from models.token_store import extract_batch

Build = Callable[..., DinoPointMAE]
CPU = torch.device("cpu")
MODES = ("eval", "batchnorm")


def offsets(n_groups: int, seed: int = 0) -> Tensor:
    return torch.randn(n_groups, 32, 3, generator=torch.Generator().manual_seed(seed)) * 0.005


@pytest.fixture(scope="module")
def encoder(point_mae_state: dict[str, Tensor]) -> PointMAEEncoder:
    """The Point-MAE encoder with stand-in weights."""
    found = PointMAEEncoder()
    found.load_state_dict(point_mae_state)
    return found


@pytest.mark.parametrize("mode", MODES)
def test_group_description_equals_the_plain_version(
    mode: str, encoder: PointMAEEncoder, point_mae_state: dict[str, Tensor]
) -> None:
    found = encoder.describe_groups(offsets(150), current_statistics=mode == "batchnorm")
    expected = plain_cfm.describe_groups(offsets(150), point_mae_state, mode)
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4)


def test_modes_differ(encoder: PointMAEEncoder) -> None:
    found = [encoder.describe_groups(offsets(80), current) for current in (False, True)]
    assert float((found[0] - found[1]).abs().mean()) > 0.1 * float(found[0].abs().mean())


def test_blocks_equal_the_plain_version(encoder: PointMAEEncoder, point_mae_state: dict[str, Tensor]) -> None:
    generator = torch.Generator().manual_seed(1)
    groups, centres = torch.randn(2, 40, 384, generator=generator), torch.rand(2, 40, 3, generator=generator)
    found = encoder(groups, centres)
    for i in range(2):
        expected = plain_cfm.geometry_tokens(groups[i], centres[i], point_mae_state)
        torch.testing.assert_close(found[i], expected, rtol=1e-4, atol=1e-4)


def test_pruned_encoders_keep_the_first_blocks(build_dino_pointmae: Build) -> None:
    whole = build_dino_pointmae()
    cloud, vit = whole.cloud, whole.image.vit
    generator = torch.Generator().manual_seed(2)
    groups, centres = torch.randn(1, 8, 384, generator=generator), torch.rand(1, 8, 3, generator=generator)
    outputs, x = [], groups
    for block in cloud.blocks.blocks:
        x = block(x + cloud.pos_embed(centres))
        outputs.append(cloud.norm(x))
    pixels = torch.randn(1, 3, 224, 224, generator=torch.Generator().manual_seed(3))
    options: dict[str, Any] = {"norm": True, "intermediates_only": True, "stop_early": True}
    features = dict(zip((1, 4), vit.forward_intermediates(pixels, indices=[0, 3], **options), strict=True))
    for depth in (1, 4, 8, 12):
        kept = build_dino_pointmae(keep_blocks=depth)
        expected = torch.cat([outputs[i] for i in CHOSEN_BLOCKS.get(depth, (depth - 1,))], dim=2)
        assert kept.cloud.width == expected.shape[2] == (384 if depth == 1 else 1152)
        assert torch.equal(kept.cloud(groups, centres), expected)
        assert len(kept.image.vit.blocks) == depth
        found, state = kept.image.vit.blocks.state_dict(), vit.blocks[:depth].state_dict()
        assert found.keys() == state.keys()
        assert all(torch.equal(values, state[name]) for name, values in found.items())
        if depth in features:  # of others the same code runs the blocks, and tests/golden has all twelve
            feature = features[depth].flatten(2).transpose(1, 2)
            torch.testing.assert_close(kept.image(pixels), feature, rtol=1e-4, atol=1e-4)


def test_nothing_learns(encoder: PointMAEEncoder, point_mae_state: dict[str, Tensor]) -> None:
    encoder.describe_groups(offsets(10), current_statistics=True)
    with torch.device("meta"):
        image = DinoEncoder()
    for module in (encoder, image):
        assert not module.training
        assert not any(parameter.requires_grad for parameter in module.parameters())
    name = "encoder.first_conv.1.running_mean"
    assert torch.equal(encoder.state_dict()[name], point_mae_state[name])


def test_in_a_batch_each_cloud_is_normalised_by_its_own_statistics(
    build_dino_pointmae: Build, golden_samples: dict[str, Sample], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(point_mae, "N_GROUPS", 256)  # the statistics are of all groups, however many
    extractor, pair = build_dino_pointmae("batchnorm", keep_blocks=1), [golden_samples["dome"], golden_samples["plank"]]
    batch, (alone,) = extract_batch(pair, extractor, CPU), extract_batch(pair[1:], extractor, CPU)
    torch.testing.assert_close(batch[1].xyz.tokens, alone.xyz.tokens, rtol=1e-4, atol=1e-4)


def test_whole_method_equals_the_dense_implementation(
    golden_samples: dict[str, Sample],
    point_mae_state: dict[str, Tensor],
    build_dino_pointmae: Build,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Of fewer groups, and one block of DINO, which both ask; tests/golden has the whole of it.

    With the statistics of the cloud only the description of groups changes, which is compared above.
    """
    monkeypatch.setattr(point_mae, "N_GROUPS", 256)
    monkeypatch.setattr(plain_cfm, "sample_centres", partial(plain_cfm.sample_centres, n_samples=256))
    sample, extractor = golden_samples["plank"], build_dino_pointmae()
    extractor.image.prune(1)
    (tokens,) = extract_batch([sample], extractor, CPU)
    assert tokens.xyz.tokens.shape == (256, 1152)
    dense = plain_cfm.extract(sample.rgb, sample.xyz, sample.valid, extractor.image.vit, point_mae_state, "eval")
    assert torch.equal(tokens.foreground, dense.foreground.nonzero().flatten())
    features = tokens.rgb.lifted(), tokens.xyz.lifted()
    torch.testing.assert_close(features[0], dense.rgb[dense.foreground], rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(features[1], dense.xyz[dense.foreground], rtol=1e-4, atol=1e-4)

    # Maps and losses of a few of the features: tests/golden has them of all.
    dense = plain_cfm.PlainFeatures(dense.rgb[:, :24], dense.xyz[:, :36], dense.foreground)
    rgb, xyz = (replace(part, tokens=part.tokens[:, :n]) for part, n in ((tokens.rgb, 24), (tokens.xyz, 36)))
    tokens, detector = replace(tokens, rgb=rgb, xyz=xyz), CrossmodalDetector(24, 36, "mlp", "fp32")
    states = detector.rgb_to_xyz.state_dict(), detector.xyz_to_rgb.state_dict()
    psi_2d, psi_3d, smoothed = plain_cfm.anomaly_maps(dense, *states)
    found = detector.predict(tokens)
    torch.testing.assert_close(found.psi_2d, psi_2d, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(found.psi_3d, psi_3d, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(found.smoothed, smoothed, rtol=1e-4, atol=1e-4)
    assert found.image_score() == pytest.approx(plain_cfm.image_score(smoothed), rel=1e-4)
    losses = plain_cfm.loss(dense, *states)
    expected = dict(zip(("loss_2Dto3D", "loss_3Dto2D"), map(float, losses), strict=True))
    assert {k: float(v) for k, v in detector.backward([tokens]).items()} == pytest.approx(expected, rel=1e-4)


@pytest.mark.parametrize("mode", MODES)
def test_cloud_without_points_scores_zero(mode: str, build_dino_pointmae: Build) -> None:
    empty = torch.zeros(1, 3, 224, 224), torch.zeros(1, 3, 224, 224), torch.zeros(1, 224, 224, dtype=torch.bool)
    extractor = build_dino_pointmae(mode, keep_blocks=1)
    (tokens,) = extractor.extract(*empty)
    assert len(tokens.foreground) == 0
    found = CrossmodalDetector(extractor.rgb_width, extractor.xyz_width, "mlp", "fp32").predict(tokens)
    assert found.image_score() == 0
    assert not found.smoothed.any()
