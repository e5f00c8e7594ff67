"""M3DM as a whole: its fused map is the sum of its banks', what it finds, and its branches."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from scipy.ndimage import gaussian_filter
from torch import Tensor

from datasets.sample import Sample, make_sample
from models.extractors.handcrafted import Handcrafted
from models.m3dm.banks import fit_banks, rows_of
from models.m3dm.cells import Cells, Grid, cells_of, reach_out
from models.m3dm.detector import M3DM, Decision, M3DMMap, decide
from models.m3dm.settings import M3DMSettings
from models.token_store import fit_extractor
from models.view_maps import place
from tests.domes import dome
from utils.view import ViewSettings

CPU = torch.device("cpu")


class View:
    """An extractor of which only the view is asked."""

    def __init__(self, view: ViewSettings | None = None) -> None:
        self.view = view


def cells(seed: int, side: int = 56, rgb_side: int = 28, stain: float = 0.0) -> Cells:
    """Random rows in a square of the frame; RGB's are moved by `stain` at one place."""
    generator = torch.Generator().manual_seed(seed)
    v, u = torch.meshgrid(torch.arange(side), torch.arange(side), indexing="ij")
    places = ((v > 12) & (v < 30) & (u > 8) & (u < 28)).flatten().nonzero().flatten()
    factor = side // rgb_side
    rgb_places, inside = (places // side // factor * rgb_side + places % side // factor).unique(return_inverse=True)
    rgb = torch.randn(len(rgb_places), 4, generator=generator)
    rgb[20] += stain
    xyz = torch.randn(len(places), 5, generator=generator)
    return Cells(rgb, Grid(rgb_places, rgb_side), xyz, Grid(places, side), inside)


def made(nominal: list[Cells], chosen: M3DMSettings, view: ViewSettings | None = None) -> M3DM:
    banks = fit_banks(nominal, chosen, None, 0, CPU)
    return M3DM(chosen, View(view), None, banks, decide(nominal, banks, None, chosen))  # type: ignore[arg-type]


def plain_map(grid: Tensor) -> np.ndarray:
    """Of one bank: bilinear to 224, then scipy's Gaussian."""
    large = torch.nn.functional.interpolate(grid[None, None], size=224, mode="bilinear", align_corners=False)[0, 0]
    return np.asarray(gaussian_filter(large.double().numpy(), 4, mode="nearest", truncate=5))


@pytest.mark.parametrize("decision", ["zscore", "svm"])
@pytest.mark.parametrize("rgb_side", [28, 56])
def test_fused_map_is_the_weighted_sum_of_the_banks_own_maps(decision: str, rgb_side: int) -> None:
    nominal = [cells(seed, rgb_side=rgb_side) for seed in range(6)]
    detector = made(nominal, M3DMSettings(fraction=0.2, decision=decision))
    sample, of = make_sample(*dome(0)), cells(9, rgb_side=rgb_side)
    found = detector.map_of(of, sample)
    wanted, score = np.zeros((224, 224)), 0.0
    for i, (name, bank) in enumerate(detector.banks.items()):
        distances, own = bank.score(rows_of(name, of, None))
        wanted += float(detector.decision.map[i]) * plain_map(of.grid_of(name).fill(distances))
        score += float(detector.decision.image[i]) * float(own)
    np.testing.assert_allclose(found.smoothed.numpy(), wanted, rtol=1e-3, atol=1e-3)
    assert found.image_score() == pytest.approx(score, rel=1e-5)
    assert (detector.decision.map > 0).sum() >= 2


@pytest.mark.parametrize("rgb_side", [40, 20])  # tokens of groups in a view keep two grids
def test_in_a_view_all_are_placed_with_it(rgb_side: int) -> None:
    view = ViewSettings("object", 320)
    nominal = [cells(seed, 40, rgb_side) for seed in range(6)]
    detector = made(nominal, M3DMSettings(fraction=0.2), view)
    sample, of = make_sample(*dome(0), view=view), cells(9, 40, rgb_side)
    found = detector.map_of(of, sample)
    assert sample.view is not None
    wanted = torch.zeros(224, 224)
    for weight, (name, bank) in zip(detector.decision.map, detector.banks.items(), strict=True):
        own = of.grid_of(name)
        grid = reach_out(own.fill(bank.score(rows_of(name, of, None))[0]), own)
        wanted += weight * place(grid[None], sample.view.valid, sample.view.window)[1][0]
    torch.testing.assert_close(found.smoothed, wanted, rtol=1e-4, atol=1e-4)
    assert (detector.settings, replace(detector, extractor=made(nominal, detector.chosen).extractor).settings) == (
        {"beside": 3},
        {},
    )


def test_branches_are_what_one_bank_says() -> None:
    nominal, sample, of = [cells(seed) for seed in range(6)], make_sample(*dome(0)), cells(9)
    found = made(nominal, M3DMSettings(fraction=0.2)).map_of(of, sample)
    for modality, way, psi in (("rgb", "2d", found.psi_2d), ("xyz", "3d", found.psi_3d)):
        single = made(nominal, M3DMSettings(modality, 0.2)).map_of(of, sample)
        branch = found.branch(way)
        torch.testing.assert_close(branch.smoothed, single.smoothed)
        assert branch.image_score() == pytest.approx(single.image_score())
        torch.testing.assert_close(psi, single.psi_2d if modality == "rgb" else single.psi_3d)
        assert not (single.psi_3d if modality == "rgb" else single.psi_2d).any()


def test_a_stain_is_found_where_it_is() -> None:
    nominal = [cells(seed) for seed in range(6)]
    detector = made(nominal, M3DMSettings(fraction=0.2))
    sample, good, bad = make_sample(*dome(0)), cells(9), cells(9, stain=6.0)
    found, wanted = detector.map_of(bad, sample), detector.map_of(good, sample)
    assert found.image_score() > 1.5 * wanted.image_score()
    change = found.smoothed - wanted.smoothed
    place = int(bad.rgb_grid.places[20])
    row, column = divmod(int(change.argmax()), 224)
    assert abs(row - (place // 28 * 8 + 3.5)) <= 3
    assert abs(column - (place % 28 * 8 + 3.5)) <= 3
    assert torch.equal(found.smoothed_3d, wanted.smoothed_3d)


def test_weights_are_taken_from_cells_at_the_same_place() -> None:
    """A geometry cell's vector holds the distance of the RGB cell that it lies in."""
    nominal = [cells(seed) for seed in range(4)]
    chosen = M3DMSettings(fraction=0.2)
    banks = fit_banks(nominal, chosen, None, 0, CPU)
    found = decide(nominal, banks, None, chosen)
    rgb = torch.cat([banks["rgb"].score(of.rgb)[0][of.inside] for of in nominal])
    assert float(found.map[0]) == pytest.approx(1 / float(rgb.double().std(unbiased=False)), rel=1e-4)
    scores = torch.stack([banks["xyz"].score(of.xyz)[1] for of in nominal])
    assert float(found.image[1]) == pytest.approx(1 / float(scores.double().std(unbiased=False)), rel=1e-4)


def samples(*seeds: int, dent: float = 0.0) -> list[Sample]:
    return [make_sample(*dome(seed, dent)) for seed in seeds]


def test_from_samples_a_dent_is_farther_than_any_good_dome() -> None:
    extractor = Handcrafted()
    nominal = [cells_of(tokens) for tokens in fit_extractor(extractor, samples(0, 1, 2, 3), 1, CPU)]
    chosen = M3DMSettings()
    banks = fit_banks(nominal, chosen, None, 0, CPU)
    detector = M3DM(chosen, extractor, None, banks, decide(nominal, banks, None, chosen))
    good, bad = detector.maps(samples(4, 5, 6)), detector.maps(samples(7, 8, dent=0.004))
    worst = max(found.image_score() for found in good)
    assert min(found.image_score() for found in bad) > worst
    for found in bad:
        row, column = divmod(int(found.smoothed.argmax()), 224)
        assert np.hypot(row - 40 * 224 / 96, column - 52 * 224 / 96) < 20
    assert all(isinstance(found, M3DMMap) for found in good)
    doubled = replace(detector, decision=Decision(2 * detector.decision.image, 2 * detector.decision.map))
    (again,) = doubled.maps(samples(4))
    assert again.image_score() == pytest.approx(2 * good[0].image_score(), rel=1e-5)
