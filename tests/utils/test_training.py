"""utils/training.py: which samples a step sees, and what the log says. Runs and their files: tests of the methods."""

import math
from itertools import chain
from typing import Any

import pytest
import torch

from utils.errors import UserError
from utils.training import train_epochs

SAMPLES, SIZE = 7, 3


def batches(seed: int, epochs: range) -> list[list[list[int]]]:
    """Of each epoch the batches, as they come."""
    seen: list[list[list[int]]] = [[]]

    def step(batch: list[int], generator: torch.Generator) -> dict[str, torch.Tensor]:
        seen[-1].append(batch)
        return {"loss": torch.tensor(0.0)}

    train_epochs(step, SAMPLES, epochs, SIZE, seed, lambda entry: seen.append([]))
    return seen[:-1]


def test_each_epoch_sees_every_sample_once_in_an_order_of_its_own() -> None:
    found = batches(0, range(4))
    assert [[len(batch) for batch in epoch] for epoch in found] == [[3, 3, 1]] * 4
    orders = [[*chain.from_iterable(epoch)] for epoch in found]
    assert all(sorted(order) == list(range(SAMPLES)) for order in orders)
    assert len({tuple(order) for order in orders}) == 4
    assert batches(0, range(4)) == found
    assert batches(0, range(2, 4)) == found[2:]  # a resumed run sees the same
    assert batches(1, range(4)) != found


def test_losses_are_means_over_the_samples() -> None:
    entries: list[dict[str, Any]] = []
    train_epochs(lambda batch, _: {"loss": torch.tensor(float(max(batch)))}, 4, range(1, 3), 3, 0, entries.append)
    for entry in entries:
        assert entry["loss"] in ((3 * 3 + last) / 4 for last in range(3)) or entry["loss"] == (3 * 2 + 3) / 4
    assert [entry["epoch"] for entry in entries] == [2, 3]


def test_a_loss_that_is_not_finite_ends_the_run_before_its_epoch_is_logged() -> None:
    entries: list[dict[str, Any]] = []

    def step(batch: list[int], _: torch.Generator) -> dict[str, torch.Tensor]:
        return {"loss": torch.tensor(math.nan if entries else 1.0)}

    with pytest.raises(UserError, match=r"stopped in epoch 2: the loss is not finite \({'loss': nan}\)"):
        train_epochs(step, 2, range(3), 1, 0, entries.append)
    assert [entry["epoch"] for entry in entries] == [1]
