"""Where the CPU waits for a GPU."""

import warnings
from collections.abc import Iterator
from contextlib import contextmanager

import torch


@contextmanager
def waits(device: torch.device) -> Iterator[list[str]]:
    """Fills a list with the lines, `file:number`, that wait for the GPU inside; it stays empty on a CPU."""
    found: list[str] = []
    if device.type == "cpu":
        yield found
        return
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        torch.cuda.set_sync_debug_mode("warn")
        try:
            yield found
        finally:
            torch.cuda.set_sync_debug_mode("default")
    found += [f"{warning.filename}:{warning.lineno}" for warning in caught if "synchronizing" in str(warning.message)]
