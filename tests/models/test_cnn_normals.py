"""The CNN on colours and normals: repeatable, standardised, and blind to nothing that is planted."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from datasets.sample import Sample, make_sample
from models.extractors import ExtractorOptions, build_extractor
from models.extractors.cnn_normals import CnnNormals, build_cnn_normals
from models.token_store import extract_batch, extract_tokens, fit_extractor
from models.tokens import Tokens
from utils.errors import UserError
from utils.view import ViewSettings

CPU = torch.device("cpu")
VIEW = ViewSettings("object", 96)


def sample(seed: int = 0, dent: float = 0.0, stain: int = 0, view: ViewSettings | None = VIEW) -> Sample:
    """A ribbed dome on a 120×120 frame; a dent (metres) and a stain (of 255) around pixel (50, 70)."""
    generator = np.random.default_rng(seed)
    v, u = np.mgrid[0:120, 0:120].astype(np.float64)
    radius = (u - 60 - generator.random()) ** 2 + (v - 55 - generator.random()) ** 2
    ribs = np.sin((u - 60) / 5)
    spot = np.exp(-((u - 70) ** 2 + (v - 50) ** 2) / (2 * 3**2))
    z = 0.5 + 2e-6 * radius - 0.0004 * ribs + dent * spot + 2e-5 * generator.standard_normal((120, 120))
    xyz = np.stack([(u - 60) * z / 800, (v - 60) * z / 800, z], axis=-1) * (radius < 40**2)[..., None]
    rgb = np.stack([120 + 60 * ribs - stain * spot, 90 + 30 * ribs, 60 + v / 3 + stain * spot], axis=-1)
    rgb = (rgb + 3 * generator.standard_normal(rgb.shape)).clip(0, 255).astype(np.uint8)
    return make_sample(rgb, xyz.astype(np.float32), view=view)


def small(view: ViewSettings = VIEW) -> CnnNormals:
    """On a small view, without statistics."""
    made = build_cnn_normals(CPU, "efficientnet_lite0", "fp32", "object", None, {})
    return CnnNormals(made.backbone, replace(made.settings, view=view))


@pytest.fixture(scope="module")
def fitted() -> CnnNormals:
    """Fitted on eight domes."""
    extractor = small()
    fit_extractor(extractor, map(sample, range(10, 18)), 1, CPU)
    return extractor


def test_nominal_tokens_are_standardised_and_not_rare(fitted: CnnNormals) -> None:
    found = extract_batch([sample(seed) for seed in range(10, 18)], fitted, CPU)
    for part in ("rgb", "xyz"):
        tokens = torch.cat([getattr(image, part).tokens for image in found])
        assert tokens.shape[1] == 176 == fitted.rgb_width == fitted.xyz_width
        assert float(tokens.mean(dim=0).abs().max()) < 1e-3
        assert float((tokens.std(dim=0) - 1).abs().max()) < 1e-2
        rarity = torch.cat([getattr(image, part).rarity for image in found])
        assert 0.4 < float(rarity.mean()) <= 1.001  # exactly 1 but for the shrinkage


def test_foreground_is_the_objects_cells(fitted: CnnNormals) -> None:
    (tokens,) = extract_batch([sample()], fitted, CPU)
    view = sample().view
    assert view is not None
    share = view.valid.float().view(12, 8, 12, 8).mean(dim=(1, 3))
    assert torch.equal(tokens.foreground, (share > 0.5).flatten().nonzero().flatten())
    assert tokens.size == 12
    assert tokens.in_cells


def rarest(tokens: Tokens, part: str) -> tuple[int, int]:
    """Row and column of the cell that is farthest from nominal ones."""
    place = int(tokens.foreground[getattr(tokens, part).rarity.argmax()])
    return place // tokens.size, place % tokens.size


@pytest.mark.parametrize(("part", "defect"), [("rgb", {"stain": 120}), ("xyz", {"dent": 0.004})])
def test_a_planted_defect_is_rare_in_its_own_modality_only(
    fitted: CnnNormals, part: str, defect: dict[str, float]
) -> None:
    other = {"rgb": "xyz", "xyz": "rgb"}[part]
    good, bad = extract_batch([sample(7), sample(7, **defect)], fitted, CPU)  # type: ignore[arg-type]
    view = sample(7).view
    assert view is not None
    row, column = ((at / 120 - start) / view.window.side * 12 for at, start in zip((50, 70), view.window, strict=False))
    found = rarest(bad, part)
    assert abs(found[0] + 0.5 - row) < 1.5
    assert abs(found[1] + 0.5 - column) < 1.5
    assert getattr(bad, part).rarity.max() > 2 * getattr(good, part).rarity.max()
    assert torch.equal(getattr(bad, other).tokens, getattr(good, other).tokens)


def test_statistics_are_kept_and_those_of_another_extractor_refused(fitted: CnnNormals) -> None:
    again = small()
    with pytest.raises(UserError, match="fit it on nominal samples"):
        extract_batch([sample(8)], again, CPU)
    again.load_state(fitted.state_dict())
    assert again.fingerprint() == fitted.fingerprint()
    pair = [extract_batch([sample(8)], extractor, CPU)[0] for extractor in (fitted, again)]
    assert torch.equal(pair[0].rgb.tokens, pair[1].rgb.tokens)
    with pytest.raises(UserError, match="statistics of `cnn_normals`"):
        small().load_state({"mean": torch.zeros(2, 3)})


def test_every_setting_changes_the_fingerprint(fitted: CnnNormals) -> None:
    seen = [str(fitted.fingerprint())]
    changes = {"backbone": "b", "weights_sha256": "0", "precision": "bf16", "view": ViewSettings("frame", 96)}
    for name, value in {**changes, "cell": 4, "smoothing": 5, "foreground": 0.25}.items():
        changed = CnnNormals(fitted.backbone, replace(fitted.settings, **{name: value}))  # type: ignore[arg-type]
        changed.load_state(fitted.state_dict())
        seen.append(str(changed.fingerprint()))
    assert len(set(seen)) == len(seen)


def test_the_view_of_the_registry_and_an_empty_cloud() -> None:
    extractor = build_extractor("cnn_normals", CPU, ExtractorOptions())
    assert extractor.view == ViewSettings("object", 320)
    assert build_extractor("cnn_normals", CPU, ExtractorOptions(view="frame")).view == ViewSettings("frame", 320)
    empty = make_sample(np.zeros((40, 40, 3), np.uint8), np.zeros((40, 40, 3), np.float32), view=extractor.view)
    (tokens,) = extract_tokens([empty], extractor, 1, CPU)
    assert tokens.rgb.tokens.shape == (0, 176)
    with pytest.raises(UserError, match="no valid point"):
        extractor.fit([tokens])


def test_samples_without_the_view_are_refused(fitted: CnnNormals) -> None:
    with pytest.raises(ValueError, match="make them with view="):
        extract_batch([sample(view=None)], fitted, CPU)


def test_the_paper_s_extractor_keeps_the_frame_and_handcrafted_takes_either() -> None:
    assert build_extractor("handcrafted", CPU, ExtractorOptions()).view is None
    extractor = build_extractor("handcrafted", CPU, ExtractorOptions(view="object"))
    assert extractor.view == ViewSettings("object", 224)
    seen = sample(view=extractor.view)
    (tokens,) = fit_extractor(extractor, [seen], 1, CPU)
    assert seen.view is not None
    assert abs(len(tokens.foreground) / int(seen.view.valid.sum()) - 1) < 0.1
