"""The three banks: sizes, units, scores, and what is refused."""

import pytest
import torch

from models.m3dm.banks import ScaledBank, bank_sizes, fit_banks, load_banks, rows_of
from models.m3dm.cells import Cells, Grid
from models.m3dm.settings import M3DMSettings
from models.m3dm.uff import UFF
from utils.errors import UserError

CPU = torch.device("cpu")


def cells(seed: int) -> Cells:
    """4×4 cells of geometry, 3 wide, in 2×2 of RGB, 2 wide and ten times as large."""
    generator = torch.Generator().manual_seed(seed)
    places = torch.arange(16)
    inside = places // 4 // 2 * 2 + places % 4 // 2
    rgb, xyz = 10 * torch.randn(4, 2, generator=generator), torch.randn(16, 3, generator=generator)
    return Cells(rgb, Grid(torch.arange(4), 2), xyz, Grid(places, 4), inside)


def test_sizes_are_shares_of_the_rows_that_there_are() -> None:
    """Those of bagel, 244 images."""
    counts = {"rgb": 191_296, "xyz": 765_184, "fusion": 765_184}
    assert bank_sizes(counts, 0.1, as_released=False) == {"rgb": 19_129, "xyz": 76_518, "fusion": 76_518}
    assert bank_sizes(counts, 0.1, as_released=True) == {"rgb": 7_651, "xyz": 76_518, "fusion": 7_651}


def test_each_bank_is_in_units_of_its_own_rows() -> None:
    nominal = [cells(seed) for seed in range(5)]
    banks = fit_banks(nominal, M3DMSettings(fraction=0.5), None, 0, CPU)
    assert list(banks) == ["rgb", "xyz", "fusion"]
    assert {name: tuple(bank.bank.rows.shape) for name, bank in banks.items()} == {
        "rgb": (10, 2),
        "xyz": (40, 3),
        "fusion": (40, 5),
    }
    for name, bank in banks.items():
        rows = torch.cat([rows_of(name, of, None) for of in nominal])
        assert float(bank.scale) == pytest.approx(float(rows.std()))
        assert torch.equal(bank.bank.rows[0], rows[0] / bank.scale)  # the coreset begins with the first


def test_as_released_all_are_in_units_of_rgb_and_two_are_smaller() -> None:
    nominal = [cells(seed) for seed in range(5)]
    banks = fit_banks(nominal, M3DMSettings(fraction=0.5, as_released=True), None, 0, CPU)
    assert [len(bank.bank.rows) for bank in banks.values()] == [20, 40, 20]
    wanted = float(torch.cat([of.rgb for of in nominal]).std())
    assert [float(bank.scale) for bank in banks.values()] == pytest.approx([wanted] * 3)


def test_fused_rows_are_geometry_and_the_rgb_of_its_place() -> None:
    of = cells(0)
    rows = rows_of("fusion", of, None)
    assert torch.equal(rows[5], torch.cat([of.xyz[5], of.rgb[0]]))
    assert torch.equal(rows[11], torch.cat([of.xyz[11], of.rgb[3]]))
    network = UFF(3, 2)
    assert torch.equal(rows_of("fusion", of, network), network(of.xyz, of.rgb[of.inside]))


@pytest.mark.parametrize("modality", ["rgb", "xyz"])
def test_one_modality_has_one_bank(modality: str) -> None:
    banks = fit_banks([cells(0), cells(1)], M3DMSettings(modality, 0.5), None, 0, CPU)
    assert list(banks) == [modality]


def test_scores_are_distances_in_the_bank_s_units_and_their_weight_lies_in_half_to_one() -> None:
    banks = fit_banks([cells(seed) for seed in range(5)], M3DMSettings(fraction=0.5), None, 0, CPU)
    for seed in range(20, 25):
        for name, bank in banks.items():
            rows = rows_of(name, cells(seed), None)
            distances, score = bank.score(rows)
            plain = torch.cdist((rows / bank.scale).double(), bank.bank.rows.double()).amin(dim=1)
            torch.testing.assert_close(distances.double(), plain, rtol=1e-5, atol=1e-6)
            assert 0.5 <= float(score / distances.max()) < 1


def test_a_sample_without_rows_scores_nothing() -> None:
    bank = fit_banks([cells(0), cells(1)], M3DMSettings("xyz", 0.5), None, 0, CPU)["xyz"]
    distances, score = bank.score(torch.zeros(0, 3))
    assert (len(distances), float(score)) == (0, 0.0)


def test_features_that_never_vary_are_refused_as_too_few_rows() -> None:
    of = cells(0)
    same = Cells(torch.ones_like(of.rgb), of.rgb_grid, torch.ones_like(of.xyz), of.grid, of.inside)
    with pytest.raises(UserError, match="at least 3 different nominal rows"):
        fit_banks([same, same], M3DMSettings(fraction=0.5), None, 0, CPU)


def test_states_go_round_and_others_are_refused() -> None:
    banks = fit_banks([cells(seed) for seed in range(5)], M3DMSettings(fraction=0.5), None, 0, CPU)
    states, widths = {name: bank.state_dict() for name, bank in banks.items()}, {"rgb": 2, "xyz": 3, "fusion": 5}
    again = load_banks(states, widths)
    assert all(torch.equal(again[name].bank.rows, bank.bank.rows) for name, bank in banks.items())
    assert all(again[name].scale == bank.scale for name, bank in banks.items())
    with pytest.raises(UserError, match="expected banks of rgb, xyz, fusion, found rgb, xyz"):
        load_banks({name: states[name] for name in ("rgb", "xyz")}, widths)
    with pytest.raises(UserError, match=r"a bank of xyz: expected rows 4 wide .* found 3"):
        load_banks(states, {**widths, "xyz": 4})
    zero = ScaledBank(banks["rgb"].bank, torch.zeros(())).state_dict()
    with pytest.raises(UserError, match="a bank of rgb: expected rows 2 wide and a scale > 0"):
        load_banks({**states, "rgb": zero}, widths)
