"""Weights of the banks: the machine against a plain solver, z-scores by hand."""

import pytest
import torch
from sklearn.linear_model import SGDOneClassSVM
from torch import Tensor

from models.m3dm.decision import MAX_EPOCHS, NU, SEED, svm_direction, weigh

BANKS = ("rgb", "xyz", "fusion")


def nominal(count: int = 244) -> Tensor:
    """Score triples with means 3, .3 and 4."""
    generator = torch.Generator().manual_seed(0)
    means = torch.tensor([3.0, 0.3, 4.0])
    return means * (1 + 0.15 * torch.randn(count, 3, generator=generator))


def plain_machine(vectors: Tensor, nu: float = 0.5, steps: int = 3000) -> Tensor:
    """Full-batch subgradient descent on ½‖w‖² − ρ + mean(max(0, ρ − w·x))/ν; the best w on the way."""
    values = vectors.double()
    w, rho = values.mean(dim=0), torch.zeros((), dtype=torch.float64)
    best, least = w, float("inf")
    for step in range(1, steps + 1):
        slack = rho - values @ w
        value = float(w.square().sum() / 2 - rho + slack.clamp(min=0).mean() / nu)
        if value < least:
            best, least = w, value
        inside = (slack > 0).double()
        rate = 1 / (10 + step)
        w = w - rate * (w - (inside[:, None] * values).mean(dim=0) / nu)
        rho = rho - 10 * rate * (inside.mean() / nu - 1)
    return best


def test_direction_is_that_of_a_plain_solver() -> None:
    found, wanted = svm_direction(nominal()).double(), plain_machine(nominal())
    assert float(torch.nn.functional.cosine_similarity(found, wanted, dim=0)) > 0.9995


def test_scores_of_the_machine_are_a_product() -> None:
    """`score_samples` adds no offset: the weights are all of the model."""
    vectors = nominal()
    machine = SGDOneClassSVM(nu=NU, max_iter=MAX_EPOCHS, random_state=SEED).fit(vectors.double().numpy())
    product = vectors.double() @ svm_direction(vectors).double()
    torch.testing.assert_close(torch.from_numpy(machine.score_samples(vectors.double().numpy())), product)


def test_it_weighs_large_scores_more_and_the_release_scales_rgb_twice() -> None:
    means = torch.tensor([3.0, 0.3, 4.0])
    ratios = svm_direction(nominal()) / means
    assert float(ratios.max() / ratios.min()) < 1.5  # about in proportion to means that are thirteen apart
    factors = torch.tensor([0.1, 1.0, 1.0])  # before the machine, so that its weight is scaled as well
    wanted = svm_direction(nominal() * factors) * factors
    assert weigh(nominal(), BANKS, "svm").tolist() == pytest.approx(wanted.tolist())


def test_zscores_are_those_of_the_nominal_scores_but_for_what_all_share() -> None:
    scores = nominal()
    weights = weigh(scores, BANKS, "zscore")
    deviation, mean = scores.std(dim=0, unbiased=False), scores.mean(dim=0)
    wanted = ((scores - mean) / deviation).sum(dim=1)
    left = scores @ weights - wanted
    torch.testing.assert_close(left, left[:1].expand_as(left), rtol=1e-4, atol=1e-4)
    assert torch.equal((scores @ weights).argsort(), wanted.argsort())


def test_scores_that_never_vary_and_one_bank_have_finite_weights() -> None:
    assert weigh(torch.zeros(5, 3), BANKS, "zscore").isfinite().all()
    assert weigh(torch.zeros(5, 3), BANKS, "svm").isfinite().all()
    assert weigh(torch.rand(5, 1), ("xyz",), "svm").tolist() == [1.0]
