"""BTF as a whole: what it finds, its map by a plain version, and that it goes round."""

from collections.abc import Callable
from dataclasses import replace
from functools import cache
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from datasets.sample import Sample, make_sample
from models.btf.detector import BTF, fit, load, read_rows, settings_for
from utils.errors import UserError

CPU = torch.device("cpu")


def sample(seed: int, dent: float = 0.0, stain: int = 0) -> Sample:
    """A ribbed dome; a dent (metres) and a stain (of 255) around pixel (80, 120) of 224."""
    generator = np.random.default_rng(seed)
    v, u = np.mgrid[0:224, 0:224].astype(np.float64)
    inside = (u - 112) ** 2 + (v - 104) ** 2 < 70**2
    spot = (u - 120) ** 2 + (v - 80) ** 2 < 6**2
    z = 0.5 + 1e-6 * ((u - 112) ** 2 + (v - 104) ** 2) - 0.0004 * np.sin(u / 5) + dent * spot
    z += 2e-5 * generator.standard_normal(z.shape)
    xyz = np.stack([(u + 1) * z / 800, (v + 1) * z / 800, z], axis=-1) * inside[..., None]
    rgb = np.stack([120 + 60 * np.sin(u / 5), 90 + 30 * np.sin(v / 5), 60 + v / 3], axis=-1) + stain * spot[..., None]
    rgb = (rgb + 3 * generator.standard_normal(rgb.shape)) * inside[..., None]
    return make_sample(rgb.clip(0, 255).astype(np.uint8), xyz.astype(np.float32))


def rows_of_four(features: str) -> Tensor:
    settings, backbone = settings_for(features, "efficientnet_lite0", None)
    rows = read_rows((sample(seed) for seed in range(4)), 5, settings, backbone, CPU)
    assert rows.shape[:2] == (4, 784)
    return rows


known_rows = cache(rows_of_four)


def trained(features: str, fraction: float = 0.1, read: Callable[[str], Tensor] = known_rows) -> BTF:
    settings, backbone = settings_for(features, "efficientnet_lite0", None, fraction)
    return fit(read(features), settings, backbone)


@pytest.mark.parametrize("features", ["rgb", "depth", "hog", "sift", "fpfh"])
def test_a_defect_is_found_where_it_is(features: str) -> None:
    made = trained(features, 0.3)
    good = [made.score(sample(seed)) for seed in (10, 11)]
    defect = {"stain": 120} if features == "rgb" else {"dent": 0.004}
    bad = made.score(sample(12, **defect))
    assert bad.image_score() > max(found.image_score() for found in good)
    place = divmod(int((bad.smoothed - good[0].smoothed).argmax()), 224)
    assert abs(place[0] - 80) <= 14
    assert abs(place[1] - 120) <= 14
    assert all(found.smoothed.shape == (224, 224) for found in (bad, *good))


def test_raw_depth_is_compared_as_it_is() -> None:
    """The part moved 10 mm away is 8 pixels' root times 10 mm from the bank: √64 · .01."""
    made = trained("raw", 1.0)
    moved = sample(3)
    moved.xyz[2] += 0.01 * moved.valid
    assert float(made.score(moved).psi_3d.max()) == pytest.approx(0.08, rel=0.05)
    assert made.score(sample(3)).image_score() == 0  # all its rows are in the bank


def test_bank_holds_the_share_and_goes_round() -> None:
    made = trained("fpfh")
    assert made.bank.rows.shape == (int(0.1 * 4 * 784), 33)
    again = load(made.chosen, made.state_dict(), None)
    found, wanted = again.score(sample(9, dent=0.003)), made.score(sample(9, dent=0.003))
    assert torch.equal(found.smoothed, wanted.smoothed)
    assert found.image_score() == wanted.image_score()
    with pytest.raises(UserError, match="a bank of sift: expected rows 128 wide, found 33"):
        load(replace(made.chosen, features="sift"), made.state_dict(), None)


def test_training_twice_gives_the_same() -> None:
    first, second = trained("sift", read=rows_of_four), trained("sift", read=rows_of_four)
    assert torch.equal(first.bank.rows, second.bank.rows)


def test_what_is_asked_for_is_checked(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="--features shape: expected one of btf, rgb"):
        settings_for("shape", None, None)
    with pytest.raises(UserError, match=r"\(0, 1\], found 0"):
        settings_for("fpfh", None, None, 0.0)
    with pytest.raises(UserError, match="no such weight file"):
        settings_for("btf", None, tmp_path / "none.pth")
    settings, backbone = settings_for("hog", "no_such_network", None)  # which it does not need
    assert (settings.backbone, settings.weights_sha256, backbone) == (None, None, None)
    with pytest.raises(UserError, match="at least 3 different nominal rows"):
        fit(read_rows([], 0, settings, None, CPU), settings, None)


def test_settings_tell_the_network() -> None:
    settings, backbone = settings_for("btf", "efficientnet_lite0", None)
    assert settings.backbone == "efficientnet_lite0"
    assert len(settings.weights_sha256 or "") == 64
    assert backbone is not None


def test_a_sample_without_a_point_has_a_map() -> None:
    empty = sample(0)
    nothing = Sample(torch.zeros_like(empty.rgb), torch.zeros_like(empty.xyz), empty.valid & False, None, (224, 224))
    for features in ("fpfh", "hog", "sift", "raw"):
        found: Tensor = trained(features).score(nothing).smoothed
        assert found.isfinite().all(), features
