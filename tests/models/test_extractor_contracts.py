"""What every extractor of the registry keeps, with stand-in weights; a new one is tried by being entered."""

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn import functional

from datasets.sample import Sample, make_sample
from models.extractors import EXTRACTORS, Extractor, ExtractorOptions, backbone, build_extractor, point_mae
from models.token_store import extract_batch, fit_extractor, seen_by
from models.tokens import Tokens
from tests.domes import SIDE, dome

CPU = torch.device("cpu")
CHANGES = {
    "mode": "batchnorm",
    "keep_blocks": 4,
    "precision": "bf16",
    "backbone": "efficientnet_lite1",
    "view": ("object", "frame"),  # whichever is not its own
}
"""Option → another value than the default's."""


@pytest.fixture(scope="module")
def stand_ins(
    dino_file: Path, point_mae_state: dict[str, Tensor], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[dict[str, ExtractorOptions]]:
    """Options of extractors that take weights from elsewhere, with files in their place.

    The networks are cut short and see a quarter of the groups: no contract hangs on their number, tests/golden has all.
    """
    folder = tmp_path_factory.mktemp("weights")
    model = {f"module.MAE_encoder.{name}": value for name, value in point_mae_state.items()}
    torch.save({"base_model": model}, folder / "point_mae.pth")
    files = ExtractorOptions(rgb_weights=dino_file, xyz_weights=folder / "point_mae.pth", keep_blocks=1)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(point_mae, "N_GROUPS", 256)
        yield {"dino_pointmae": files}


class Case:
    """An extractor, fitted on two domes. expected: of dome 7."""

    def __init__(self, name: str, options: ExtractorOptions) -> None:
        self.name, self.options = name, options
        self.extractor = self.build()
        fit_extractor(self.extractor, map(self.sample, (1, 2)), 1, CPU)
        self.expected = tensors(*self.extract(self.sample(7)))

    def build(self, state: dict[str, Tensor] | None = None, **changes: object) -> Extractor:
        return build_extractor(self.name, CPU, replace(self.options, **changes), state)  # type: ignore[arg-type]

    def sample(self, seed: int, n_points: int | None = None) -> Sample:
        """A dome; n_points: in the middle, nothing else of it is valid."""
        image, cloud = dome(seed)
        if n_points is not None:
            kept = np.zeros((SIDE, SIDE, 1), np.float32)
            kept[48, 40 : 40 + n_points] = 1
            cloud = cloud * kept
        return make_sample(image, cloud, view=self.extractor.view)

    def extract(self, *samples: Sample) -> list[Tokens]:
        return extract_batch(samples, self.extractor, CPU)


@pytest.fixture(scope="module", params=EXTRACTORS)
def case(request: pytest.FixtureRequest, stand_ins: dict[str, ExtractorOptions]) -> Case:
    return Case(request.param, stand_ins.get(request.param, ExtractorOptions()))


def tensors(tokens: Tokens) -> dict[str, Tensor]:
    """All that a sample's tokens hold, lifted."""
    found = {"foreground": tokens.foreground}
    for name, part in (("rgb", tokens.rgb), ("xyz", tokens.xyz)):
        found |= {name: part.tokens, f"{name} lifted": part.lifted()}
        if part.rarity is not None:
            found[f"{name} rarity"] = part.rarity
    return found


def test_frozen_repeatable_and_a_batch_is_its_samples(case: Case) -> None:
    samples = [case.sample(3), case.sample(4)]
    before = case.extractor.fingerprint()
    state = {name: value.clone() for name, value in case.extractor.state_dict().items()}
    batch, (first,), (again,) = case.extract(*samples), case.extract(samples[1]), case.extract(samples[1])
    of_batch, repeated = tensors(batch[1]), tensors(again)
    for name, values in tensors(first).items():
        assert not values.requires_grad
        assert torch.equal(values, repeated[name]), name
        torch.testing.assert_close(values, of_batch[name], rtol=1e-3, atol=1e-3)
    assert not torch.equal(batch[0].rgb.lifted()[:100], of_batch["rgb lifted"][:100])
    assert case.extractor.fingerprint() == before
    assert all(torch.equal(value, state[name]) for name, value in case.extractor.state_dict().items())


def test_widths_are_as_declared_and_the_foreground_is_the_valid_part(case: Case) -> None:
    sample = case.sample(5)
    (tokens,) = case.extract(sample)
    assert tokens.rgb.tokens.shape[1] == case.extractor.rgb_width
    assert tokens.xyz.tokens.shape[1] == case.extractor.xyz_width
    (seen,) = seen_by(case.extractor.view, [sample])
    share = functional.adaptive_avg_pool2d(seen.valid[None].float(), tokens.size)
    near = functional.max_pool2d(share, 5, stride=1, padding=2)  # the paper's averages reach beyond the valid pixels
    inside = torch.zeros(tokens.size**2, dtype=torch.bool)
    inside[tokens.foreground] = True
    assert torch.equal(inside.nonzero().flatten(), tokens.foreground)  # in order, each once
    assert inside.any()
    assert inside[share.flatten() == 1].all()
    assert not inside[near.flatten() == 0].any()
    for part in (tokens.rgb, tokens.xyz):
        assert len(part.lifted()) == len(tokens.foreground)


@pytest.mark.parametrize("n_points", [0, 1, 4])
def test_clouds_of_few_points_give_finite_tokens(case: Case, n_points: int) -> None:
    (tokens,) = case.extract(case.sample(6, n_points))
    for name, values in tensors(tokens).items():
        assert torch.isfinite(values).all(), name
    if n_points == 0:
        assert len(tokens.foreground) == 0


def test_fingerprint_and_state_are_all_that_the_tokens_depend_on(case: Case) -> None:
    found = case.extractor.fingerprint()
    assert json.loads(json.dumps(found)) == found
    assert found["extractor"] == case.name
    state = case.extractor.state_dict()
    for given in (state, dict(reversed(state.items()))) if state else ({},):  # files keep no order
        again = case.build(given)
        assert again.fingerprint() == found
        repeated = tensors(*extract_batch([case.sample(7)], again, CPU))
        assert all(torch.equal(values, repeated[name]) for name, values in case.expected.items())


@pytest.mark.parametrize("option", CHANGES)
def test_an_option_that_changes_the_tokens_changes_the_fingerprint(
    case: Case, option: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    value = CHANGES[option]
    if option == "backbone":  # whose package is not installed
        torch.save(backbone.Backbone(str(value)).network.state_dict(), tmp_path / "backbone.pth")
        monkeypatch.setattr(backbone, "packaged_file", lambda name: tmp_path / "backbone.pth")
    if isinstance(value, tuple):
        own = case.extractor.view
        value = next(kind for kind in value if kind != (own.kind if own else "frame"))
    other = case.build(case.extractor.state_dict(), **{option: value})
    if json.dumps(other.fingerprint()) == json.dumps(case.extractor.fingerprint()):
        repeated = tensors(*extract_batch([case.sample(7)], other, CPU))
        assert all(torch.equal(values, repeated[name]) for name, values in case.expected.items())


def test_statistics_follow_the_samples(case: Case) -> None:
    if state := case.extractor.state_dict():
        other = case.build()
        fit_extractor(other, [case.sample(9)], 1, CPU)
        found = other.state_dict()
        assert {name: value.shape for name, value in found.items()} == {n: v.shape for n, v in state.items()}
        assert not any(torch.equal(value, state[name]) for name, value in found.items())
        assert other.fingerprint() == case.extractor.fingerprint()  # what is cached serves every run
