"""The training loop: seeded batches, one log entry an epoch, exact resume; the same for every method."""

import json
import math
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any, ClassVar, Protocol

import torch
from torch import Tensor
from tqdm import tqdm

from utils.checkpoint import CheckpointName, load_settings, load_state, save_checkpoint, save_state
from utils.errors import UserError
from utils.run_record import append_json_line, truncate_json_lines

SAVE_SECONDS = 20.0


class RunConfig(Protocol):
    """What the loop needs of a method's frozen dataclass of settings, which decides the trained weights."""

    __dataclass_fields__: ClassVar[dict[str, Any]]

    @property
    def epochs(self) -> int: ...
    @property
    def batch_size(self) -> int: ...
    @property
    def seed(self) -> int: ...


class Learner(Protocol):
    """What is trained: model, optimiser and whatever else changes from step to step."""

    def step(self, batch: list[int], generator: torch.Generator) -> Mapping[str, Tensor]:
        """Update the model on a batch; see `train_epochs`."""

    def after_epoch(self) -> Mapping[str, float]:
        """Called when an epoch is over; what it returns joins the epoch's log entry."""

    def state_dict(self) -> dict[str, Any]:
        """Tensors and plain values from which the run can go on exactly."""

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take such a state back."""


def train_run(
    learner: Learner,
    n_samples: int,
    config: RunConfig,
    name: CheckpointName,
    part: str,
    resume: bool,
    report: Callable[[dict[str, Any]], None],
    save_seconds: float,
) -> None:
    """Train for all epochs of a run; write its log, and from time to time the state to resume from.

    Args:
        learner: in its first state.
        n_samples: number of training samples.
        config: of the run.
        name: where its files go.
        part: of the settings' file name; the log lies beside it.
        resume: go on from the run's last saved epoch, if there is one. The result is that of an uninterrupted run.
        report: called with the log entry of each epoch.
        save_seconds: least time between two saved states.

    Raises:
        UserError: a loss is not finite, or the saved state belongs to a run with another configuration.
    """
    state_path, log_path = resume_path(name, part), name.path(part, ".jsonl")
    start = _restore(state_path, config, learner) if resume and state_path.exists() else 0
    if start:
        truncate_json_lines(log_path, start)
    else:
        state_path.unlink(missing_ok=True)
        log_path.unlink(missing_ok=True)
    last_saved = time.monotonic()

    def after_epoch(entry: dict[str, Any]) -> None:
        nonlocal last_saved
        added = learner.after_epoch()
        check_finite(entry["epoch"], added)
        entry |= added
        append_json_line(log_path, entry)
        report(entry)
        if time.monotonic() - last_saved >= save_seconds:
            save_state(state_path, {"epoch": entry["epoch"], "config": _canonical(config), **learner.state_dict()})
            last_saved = time.monotonic()

    train_epochs(learner.step, n_samples, range(start, config.epochs), config.batch_size, config.seed, after_epoch)


def resume_path(name: CheckpointName, part: str) -> Path:
    """Where the state to resume from lies while a run is under way."""
    return name.path(f"{part}_resume")


def save_run(
    name: CheckpointName,
    method: str,
    states: Mapping[str, Mapping[str, Tensor]],
    config: RunConfig,
    record: Mapping[str, Any],
    suffix: str,
) -> None:
    """Write the finished run's checkpoint and remove its resume state.

    Args:
        name, states, suffix: see `save_checkpoint`.
        method: its name, the settings' part.
        config: of the run.
        record: what else to keep in the JSON (versions, commit, timing).
    """
    save_checkpoint(name, method, states, {"method": method, "config": asdict(config), **record}, suffix)
    resume_path(name, method).unlink(missing_ok=True)


def is_finished(name: CheckpointName, part: str, weights: Path, config: RunConfig, resume: bool) -> bool:
    """Whether the run's checkpoint is there and was made with this configuration.

    Args:
        name: of the run.
        part: of its settings' name.
        weights: a file of its weights.
        config: of the run to be.
        resume: a run that is under way is to go on, whatever is finished: it was to replace that.

    Raises:
        UserError: a checkpoint is there that was made with another configuration, by others, or is damaged.
    """
    if resume and resume_path(name, part).exists():
        return False
    replace = "Name another --checkpoint_savepath to keep it, or replace it by --overwrite."
    try:
        settings = load_settings(name, part)
    except UserError as error:
        raise UserError(f"{error} To train again in its place, add --overwrite.") from error
    if settings is None:
        if weights.exists() and not name.path(part, ".jsonl").exists():
            raise UserError(f"{weights}: is there already, and was not trained by this program. {replace}")
        return False
    if found := _differences(settings["config"], json.loads(_canonical(config))):
        raise UserError(f"{name.path(part, '.json')}: this finished run was made otherwise ({found}). {replace}")
    return True


def _differences(made: Any, wanted: Any, key: str = "") -> str:
    """What differs between two configurations, in words; empty where nothing does."""
    if isinstance(made, Mapping) and isinstance(wanted, Mapping):
        keys = sorted(made.keys() | wanted.keys())
        found = (_differences(made.get(k), wanted.get(k), f"{key}.{k}" if key else k) for k in keys)
        return "; ".join(filter(None, found))
    if made == wanted:
        return ""
    if "sha256" in key:
        return f"{key}: of other files"
    return f"{key}: {made!r:.60}, now {wanted!r:.60}"


def _canonical(config: RunConfig) -> str:
    """The configuration as text that compares."""
    return json.dumps(asdict(config), sort_keys=True)


def _restore(path: Path, config: RunConfig, learner: Learner) -> int:
    """Load a saved state into the learner; returns the number of finished epochs."""
    state = load_state(path)
    if state.get("config") != _canonical(config):
        raise UserError(
            f"{path}: belongs to a run with another configuration.\nsaved: {state.get('config')}\n"
            f"now:   {_canonical(config)}\nRepeat the run's options, or start again without --resume."
        )
    learner.load_state_dict(state)
    return int(state["epoch"])


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
            check_finite(epoch + 1, losses)
            progress.set_postfix({name: f"{loss:.4f}" for name, loss in losses.items()})
            after_epoch({"epoch": epoch + 1, **losses, "seconds": round(time.perf_counter() - start, 3)})


def check_finite(epoch: int, losses: Mapping[str, float]) -> None:
    """Raises UserError where a loss is NaN or infinite; `epoch` is counted from 1."""
    if not all(math.isfinite(loss) for loss in losses.values()):
        raise UserError(
            f"training stopped in epoch {epoch}: the loss is not finite ({dict(losses)}). "
            "Nothing of this epoch was saved. Look for broken samples, or train with --precision fp32."
        )
