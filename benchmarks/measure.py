"""Measure one case: in a process of its own, after a warm-up, the median of several repetitions, and its memory."""

import importlib
import multiprocessing
import resource
import statistics
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from utils import process_settings

Result = TypeVar("Result")


@dataclass(frozen=True)
class Setting:
    """What all cases of a run share: `device` is auto, cpu or cuda; `folder` holds the run's generated files."""

    device: str
    folder: Path


@dataclass(frozen=True)
class Work:
    """What a case times.

    Attributes:
        step: repeated and timed.
        images: handled by one step; seconds are divided by it.
        device: `cpu` or `cuda`; of a GPU the end of its work is waited for.
        figures: called once after the timing; what else is to be told, as JSON values.
    """

    step: Callable[[], object]
    images: int = 1
    device: str = "cpu"
    figures: Callable[[], dict[str, Any]] = dict


@dataclass(frozen=True)
class Case:
    """One row of the result.

    Attributes:
        function: `module.name` below `benchmarks`: takes the Setting and `arguments`, returns the Work.
        arguments: of the function.
        repetitions: timed ones.
        baseline: the row whose seconds are divided by this row's; empty for none.
        warm_up: whether an untimed step comes first.
        full: measured with --full only.
    """

    function: str
    arguments: tuple[Any, ...] = ()
    repetitions: int = 5
    baseline: str = ""
    warm_up: bool = True
    full: bool = False


def measure(case: Case, setting: Setting) -> dict[str, Any]:
    """The figures of one case; to be called in a fresh process, since memory peaks are those of the process.

    Returns:
        `seconds` (median) and `fastest`, an image; `images` a step; `repetitions`; `device`; `peak_gib` of memory,
        imports and making the inputs included, of this process or the largest that it started; `gpu_gib` of the timed
        steps, None on a CPU; `baseline`; `figures`.
    """
    work: Work = call(case.function, setting, *case.arguments)
    if case.warm_up:
        timed(work)
    if work.device == "cuda":
        reset_gpu_peak()
    seconds = [timed(work) / work.images for _ in range(case.repetitions)]
    peaks = [resource.getrusage(who).ru_maxrss for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return {
        "seconds": statistics.median(seconds),
        "fastest": min(seconds),
        "images": work.images,
        "repetitions": case.repetitions,
        "device": work.device,
        "peak_gib": round(max(peaks) / 2**20, 2),  # Linux counts in KiB
        "gpu_gib": gpu_peak_gib() if work.device == "cuda" else None,
        "baseline": case.baseline,
        "figures": work.figures(),
    }


def call(name: str, *arguments: Any) -> Any:
    """Call `module.name` below `benchmarks`. Imported here, so that the process that starts the others stays small."""
    module, name = name.rsplit(".", 1)
    return getattr(importlib.import_module(f"benchmarks.{module}"), name)(*arguments)


def timed(work: Work) -> float:
    """Seconds of one step, a GPU's work included."""
    synchronise(work.device)
    start = time.perf_counter()
    work.step()
    synchronise(work.device)
    return time.perf_counter() - start


def synchronise(device: str) -> None:
    """Wait for a GPU to finish."""
    if device == "cuda":
        import torch

        torch.cuda.synchronize()


def reset_gpu_peak() -> None:
    """Forget what making the inputs took of the GPU's memory."""
    import torch

    torch.cuda.reset_peak_memory_stats()


def gpu_peak_gib() -> float:
    """Largest amount of GPU memory that torch's tensors took, in GiB."""
    import torch

    return round(torch.cuda.max_memory_allocated() / 2**30, 2)


def in_fresh_process(function: Callable[..., Result], *arguments: Any) -> Result:
    """`function(*arguments)` in a new process."""
    spawn = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(1, mp_context=spawn, initializer=process_settings.apply) as pool:
        return pool.submit(function, *arguments).result()
