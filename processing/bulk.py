"""Bulk work over the samples of a dataset: one process a core, what is finished is kept, a summary at the end."""

import shlex
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, TypeVar

import numpy as np
from tqdm import tqdm

from processing.manifest import Preprocessing, write_manifest
from utils.errors import UserError
from utils.files import remove_leftovers
from utils.parallel import available_cores, run_parallel


class Wanted(Protocol):
    """One sample to make: the path of its cloud relative to the target, and whether it is there already."""

    @property
    def name(self) -> str: ...
    def finished_share(self) -> float | None:
        """Share of valid points if the target already holds this sample, made of the same files in the same way."""


Job = TypeVar("Job", bound=Wanted)


@dataclass(frozen=True)
class Outcome:
    """What became of a sample: the share of valid points in [0, 1], or the problem in words."""

    name: str
    share: float | None
    problem: str | None


@dataclass(frozen=True)
class Done:
    """What a run over all samples has done.

    listed: share of valid points by name, as the manifest lists it; None for samples that are not finished.
    processed: how many samples are new.
    """

    listed: Mapping[str, float | None]
    processed: int


def process(
    function: Callable[[Job], Outcome],
    jobs: Sequence[Job],
    target: Path,
    done: Preprocessing,
    workers: int,
    problems: list[str],
    others: Mapping[str, float | None] | None = None,
) -> Done:
    """Make the samples that are not finished, and keep the manifest. To be called with the target locked.

    Args:
        function: makes one sample.
        jobs: all samples of this call.
        target: root of the dataset to write.
        done: what is done to them.
        workers: processes.
        problems: takes what is wrong with samples.
        others: what the manifest lists besides, from earlier calls.

    Raises:
        UserError: `target` cannot be written, or a worker died.
    """
    with ThreadPoolExecutor(available_cores()) as pool:  # files are hashed, which needs no Python
        found = zip(jobs, pool.map(lambda job: job.finished_share(), jobs), strict=True)
        shares = {job.name: share for job, share in found if share is not None}
    pending = [job for job in jobs if job.name not in shares]

    def listed() -> dict[str, float | None]:
        return {**(others or {}), **{job.name: shares.get(job.name) for job in jobs}}

    remove_leftovers(target)
    if pending:
        write_manifest(target, done, False, listed())
    before = len(shares)
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
    complete = not problems and None not in listed().values()
    write_manifest(target, done, complete, listed())
    return Done(listed(), len(shares) - before)


def without_source(target: Path, jobs: Sequence[Wanted], folders: str = "*/*/*") -> list[str]:
    """A message on the clouds that belong to no job, since their source was moved or removed; none where all do.

    Args:
        target: root of the dataset.
        jobs: all samples of this call.
        folders: pattern of the class/split/defect folders that the jobs fill.
    """
    names = {job.name for job in jobs}
    there = sorted(path.relative_to(target).as_posix() for path in target.glob(f"{folders}/xyz/[!.]*.tif*"))
    gone = [name for name in there if name not in names]
    told = ", ".join(gone[:5] + ["…"] * (len(gone) > 5))
    advice = "Remove their files, or the whole folder to make it anew."
    return [f"{target}: {len(gone)} samples have no source any more: {told}. {advice}"] if gone else []


def summary(target: Path, done: Done, class_name: str, problems: list[str], options: str = "") -> str:
    """What was done, and the next command.

    Args:
        target: where the samples are.
        done: of `process`.
        class_name: of the next command.
        problems: what is wrong with the other samples.
        options: of the next command, beyond dataset and class.

    Raises:
        UserError: something could not be processed.
    """
    shares = {name: share for name, share in done.listed.items() if share is not None}
    if problems:
        listed = "\n  ".join(problems[:20] + ["…"] * (len(problems) > 20))
        raise UserError(
            f"{len(problems)} samples could not be processed, {len(shares)} are finished in {target}:\n  {listed}\n"
            "Repair or remove them and run the same command again."
        )
    lowest = min(shares, key=shares.__getitem__)
    words = ["--dataset_path", str(target), "--class_name", class_name]
    return (
        f"{target}: {done.processed} samples processed, {len(shares) - done.processed} were finished before.\n"
        f"Valid points: {np.median(list(shares.values())):.1%} (median); fewest {shares[lowest]:.1%} in {lowest}.\n"
        f"Next: python cfm_training.py {shlex.join(words)}{options}"
    )
