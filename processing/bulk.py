"""Bulk work over the samples of a dataset: one process a core, what is finished is kept, a summary at the end."""

from collections.abc import Callable, Sequence
from contextlib import closing
from pathlib import Path
from typing import Protocol, TypeVar

import numpy as np
from tqdm import tqdm

from utils.errors import UserError
from utils.parallel import run_parallel

Job = TypeVar("Job")


class Outcome(Protocol):
    """What became of one sample: its share of valid points in [0, 1], or None; and what is wrong with it, or None."""

    @property
    def name(self) -> str: ...
    @property
    def share(self) -> float | None: ...
    @property
    def problem(self) -> str | None: ...


def process(
    function: Callable[[Job], Outcome],
    pending: Sequence[Job],
    workers: int,
    target: Path,
    shares: dict[str, float],
    problems: list[str],
) -> None:
    """Process the pending samples and enter their outcomes into `shares` and `problems`.

    Raises:
        UserError: `target` cannot be written, or a worker died.
    """
    try:
        with closing(run_parallel(function, pending, workers)) as finished:
            for outcome in tqdm(finished, total=len(pending), desc=target.name, unit="sample", disable=not pending):
                if outcome.share is not None:
                    shares[outcome.name] = outcome.share
                if outcome.problem is not None:
                    problems.append(outcome.problem)
    except OSError as error:
        raise UserError(
            f"{target}: cannot write ({error}). Free space or fix the permissions; what is finished is kept: run the "
            "same command again."
        ) from error


def summary(target: Path, shares: dict[str, float], processed: int, problems: list[str], options: str = "") -> str:
    """What was done, and the next command.

    Args:
        target: where the samples are. shares: of all finished samples. processed: how many of them are new.
        problems: what is wrong with the others. options: of the next command, beyond dataset and class.

    Raises:
        UserError: something could not be processed.
    """
    if problems:
        listed = "\n  ".join(problems[:20] + ["…"] * (len(problems) > 20))
        raise UserError(
            f"{len(problems)} samples could not be processed, {len(shares)} are finished in {target}:\n  {listed}\n"
            "Repair or remove them and run the same command again."
        )
    lowest = min(shares, key=shares.__getitem__)
    name = min(shares).split("/")[0]
    return (
        f"{target}: {processed} samples processed, {len(shares) - processed} were finished before.\n"
        f"Valid points: {np.median(list(shares.values())):.1%} (median); fewest {shares[lowest]:.1%} in {lowest}.\n"
        f"Next: python cfm_training.py --dataset_path {target} --class_name {name}{options}"
    )
