"""What a command line sets for its own process. Nothing of it happens when a module is imported: see `apply`."""

import ctypes
import os
import sys
from collections.abc import Callable
from functools import cache

M_TRIM_THRESHOLD, M_TOP_PAD, M_MMAP_THRESHOLD = -1, -2, -3  # of mallopt, glibc's <malloc.h>


@cache
def apply() -> None:
    """Set how threads wait, what becomes of freed memory, the threads of forked processes, and privacy, once.

    To be called by scripts and in worker processes, before torch is loaded, which reads the variables then. Threads
    that wait spin for some microseconds, then sleep. Spinning on, they slow training down up to fiftyfold as soon as
    another program wants a core; sleeping at once, networks with many small operations by half. ONNX Runtime 1.29 and
    newer would send usage data and keep an identifier in the user's home.
    """
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    os.environ.setdefault("GOMP_SPINCOUNT", "10000")
    os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
    keep_freed_memory()
    if hasattr(os, "register_at_fork"):  # without it, the first product in the child may wait for ever
        os.register_at_fork(after_in_child=use_one_thread)


def keep_freed_memory() -> None:
    """Let the C library keep what torch frees for its next tensors.

    Getting pages from the system and clearing them anew for every activation takes up to a tenth of the time on a CPU.
    Does something with glibc only.
    """
    if mallopt := _of_glibc("mallopt"):
        mallopt(M_MMAP_THRESHOLD, 32 << 20)  # the most that it takes
        mallopt(M_TRIM_THRESHOLD, 1 << 30)
        mallopt(M_TOP_PAD, 64 << 20)


def return_freed_memory() -> None:
    """Return to the system what the C library kept: between two stages of a command of which each needs much."""
    if trim := _of_glibc("malloc_trim"):
        trim(0)


def _of_glibc(name: str) -> Callable[..., int] | None:
    """A function of the C library; None where that is another one."""
    return getattr(ctypes.CDLL(None), name, None) if sys.platform == "linux" else None


def use_one_thread() -> None:
    """Keep torch, where it is loaded, from asking for threads: those of a forked process's parent are not there."""
    if torch := sys.modules.get("torch"):
        torch.set_num_threads(1)
