"""The training loop: seeded batches, one log entry an epoch, exact resume; the same for every method."""

import math
import time
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor
from tqdm import tqdm

from utils.errors import UserError


def epoch_generator(seed: int, epoch: int) -> torch.Generator:
    """The source of all randomness of an epoch; it depends on (seed, epoch) alone, so a resumed run sees the same."""
    return torch.Generator().manual_seed((seed * 1_000_003 + epoch) % (1 << 63))


def train_epochs(
    step: Callable[[list[int], torch.Generator], Mapping[str, Tensor]],
    n_samples: int,
    epochs: range,
    batch_size: int,
    seed: int,
    after_epoch: Callable[[dict[str, Any]], None],
) -> None:
    """Run the epochs.

    Args:
        step: takes the indices of a batch and the epoch's generator (on the CPU), updates the model, returns named
            losses (scalars, on any device; they are read once an epoch).
        n_samples: number of training samples.
        epochs: those still to run, counted from 0.
        batch_size: samples a step; the last of an epoch may have fewer.
        seed: of the order of the samples and of what the steps draw.
        after_epoch: called with the log entry of each epoch: `epoch` (counted from 1), the losses averaged over the
            samples, `seconds`.

    Raises:
        UserError: a loss is not finite. `after_epoch` is not called for that epoch.
    """
    with tqdm(epochs, desc="training", unit="epoch", initial=epochs.start, total=epochs.stop) as progress:
        for epoch in progress:
            start = time.perf_counter()
            totals: dict[str, Tensor] = {}
            generator = epoch_generator(seed, epoch)
            for batch in torch.randperm(n_samples, generator=generator).split(batch_size):
                for name, loss in step(batch.tolist(), generator).items():
                    totals[name] = totals.get(name, torch.zeros_like(loss)) + loss * len(batch)
            losses = {name: float(total) / n_samples for name, total in totals.items()}
            if not all(math.isfinite(loss) for loss in losses.values()):
                raise UserError(
                    f"training stopped in epoch {epoch + 1}: the loss is not finite ({losses}). "
                    "Nothing of this epoch was saved. Look for broken samples, or train with --precision fp32."
                )
            progress.set_postfix({name: f"{loss:.4f}" for name, loss in losses.items()})
            after_epoch({"epoch": epoch + 1, **losses, "seconds": round(time.perf_counter() - start, 3)})
