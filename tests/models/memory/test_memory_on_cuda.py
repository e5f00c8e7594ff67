"""Memory banks on a GPU against the CPU; skipped where there is none."""

import torch

from models.memory.bank import fit_bank
from models.memory.coreset import distinct_rows, greedy_coreset, projected
from models.memory.neighbours import nearest_rows
from tests.gpu import GPU, needs_gpu

pytestmark = needs_gpu


def rows(count: int, width: int, seed: int = 0) -> torch.Tensor:
    """A third of them are the same, and many are equally far from others."""
    generator = torch.Generator().manual_seed(seed)
    made = torch.randint(0, 4, (count, width), generator=generator).float()
    made[: count // 2] += torch.randn(count // 2, width, generator=generator)
    made[torch.rand(count, generator=generator) < 1 / 3] = 1.0
    return made


def test_coresets_equal_the_cpus() -> None:
    nominal = rows(5000, 24)
    assert torch.equal(distinct_rows(nominal.to(GPU)).cpu(), distinct_rows(nominal))
    assert torch.equal(greedy_coreset(nominal.to(GPU), 700).cpu(), greedy_coreset(nominal, 700))


def test_neighbours_equal_the_cpus() -> None:
    nominal, queries = rows(3000, 24), rows(500, 24, seed=1)
    for k in (1, 3):
        found, wanted = nearest_rows(queries.to(GPU), nominal.to(GPU), k), nearest_rows(queries, nominal, k)
        assert torch.equal(found[1].cpu(), wanted[1])
        assert torch.allclose(found[0].cpu(), wanted[0], rtol=1e-12)


def test_projections_and_scores_are_close_to_the_cpus() -> None:
    wide = rows(400, 900)
    assert torch.allclose(projected(wide.to(GPU), 0).cpu(), projected(wide, 0), atol=1e-4)
    bank = fit_bank(rows(3000, 24), 200, 0)
    patches = rows(784, 24, seed=2)
    score = bank.image_score(patches, *bank.distances(patches))
    moved = bank.to(GPU)
    again = moved.image_score(patches.to(GPU), *moved.distances(patches.to(GPU)))
    assert abs(float(again) - float(score)) <= 1e-6 * float(score)
