"""Methods and extractors. Symbols in every docstring below this folder:

B batch, H = W side of the pixel grid (224), N valid points, G groups of points (1024), M points in a group (128),
T RGB tokens (784), D width of a feature, P foreground pixels.

`load_detector` gives a trained detector for single parts: see `inspection.detector`.
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from inspection.detector import load_detector

__all__ = ["load_detector"]


def __getattr__(name: str) -> Any:
    """Import `load_detector` when it is asked for: it stands above this package."""
    if name != "load_detector":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from inspection.detector import load_detector

    return load_detector
