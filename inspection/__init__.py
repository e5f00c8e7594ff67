"""One part in, one answer out: a trained detector for single parts, with a decision and where the defects are.

`load_detector` is the Python API: see `inspection.detector`.
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from inspection.detector import load_detector

__all__ = ["load_detector"]


def __getattr__(name: str) -> Any:
    """Import `load_detector` when it is asked for: command lines that say no more than their help need no torch."""
    if name != "load_detector":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from inspection.detector import load_detector

    return load_detector
