"""What a result file says of itself: its format, and the protocol that decides its figures."""

from typing import Any

FORMAT = 1
"""Raised when a reader of result files must change. Files from before it was written have none and are read too."""
PROTOCOL_VERSION = 1
"""Raised when a figure of the same maps and labels would change."""
PROTOCOL_SETTINGS = ("version", "grid", "maps")
"""Entries of `protocol` that set runs apart; the others change with the version alone."""
AUPRO_LIMITS = (0.3, 0.1, 0.05, 0.01)
AUPRO_THRESHOLDS = 99


def protocol(shape: tuple[int, ...], maps: str) -> dict[str, Any]:
    """The protocol as JSON values.

    Args:
        shape: (H, W) of the grid, in pixels.
        maps: name of the class in `models.anomaly_map` that normalises the map for AUPRO and P-AUROC and takes the
            image score from it; empty where it is not known.
    """
    return {
        "version": PROTOCOL_VERSION,
        "grid": "×".join(map(str, shape)),
        "maps": maps,
        "aupro_limits": list(AUPRO_LIMITS),
        "aupro_thresholds": AUPRO_THRESHOLDS,
        "resizing": "none: maps and masks are compared on the grid",
        "interval": "95 %, stratified percentile bootstrap over images, 1000 draws, seed 0",
    }
