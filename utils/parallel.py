"""Many jobs over processes: a dead worker is an error, never a hang, and no worker outlives its parent."""

import multiprocessing
import os
import signal
import threading
from collections.abc import Callable, Generator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from typing import TypeVar

from utils import process_settings
from utils.errors import UserError

Job = TypeVar("Job")
Result = TypeVar("Result")


def available_cores() -> int:
    """Number of CPU cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def run_parallel(function: Callable[[Job], Result], jobs: Sequence[Job], workers: int) -> Generator[Result, None, None]:
    """Yield `function(job)` of all jobs as they finish, in no particular order.

    Args:
        function: a module's function; job and result must pickle. What it raises is raised here, and jobs that have not
            begun are dropped.
        jobs: one argument each.
        workers: processes; 1 runs the jobs in this process, in order.

    Raises:
        UserError: a worker process died.
    """
    if workers == 1 or len(jobs) < 2:
        yield from map(function, jobs)
        return
    os.environ.setdefault("OMP_NUM_THREADS", "1")  # inherited by the workers: one thread each
    spawn = multiprocessing.get_context("spawn")  # a fork would inherit locks of threads that it does not have
    pool = ProcessPoolExecutor(min(workers, len(jobs)), mp_context=spawn, initializer=_begin_worker)
    try:
        for future in as_completed([pool.submit(function, job) for job in jobs]):
            yield future.result()
    except BrokenProcessPool as error:
        raise UserError(
            "a worker process died, most often because memory ran out. What is finished is kept: run the same command "
            f"again with fewer workers than {workers}."
        ) from error
    finally:
        pool.shutdown(cancel_futures=True)


def _begin_worker() -> None:
    """In a worker: leave Ctrl-C to the parent, and end when the parent ends, even if it was killed."""
    process_settings.apply()
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_exit_after_parent, daemon=True).start()


def _exit_after_parent() -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)
