"""Which unit the coordinates of an organised cloud are in, judged by its distance and its size. Pure arrays."""

import math

import numpy as np

from datasets.frames import valid_points

MAX_SPREAD = 20_000  # points whose percentiles stand for all
MIN_POINTS = 200  # fewer are no evidence

_UNITS = ((0.001, "millimetres"), (0.0001, "tenths of a millimetre"), (0.01, "centimetres"))
_NEAR, _FAR = 0.15, 3.5  # metres from the camera, where units are told apart
_PLAUSIBLE = (0.005, 15.0)  # metres that are taken as they are: what is above might be centimetres


def unit_fault(xyz: np.ndarray) -> str | None:
    """What is wrong with a cloud's unit in words, with what was found; None where metres are plausible.

    Args:
        xyz: (h, w, 3); invalid points (0, 0, 0).
    """
    unit = likely_unit(xyz)
    if unit is None:
        return None
    factor, name = unit
    z = np.median(_spread(xyz)[:, 2])
    size = " × ".join(f"{100 * factor * d:.3g}" for d in extent(xyz))
    advice = "check the source" if math.isnan(factor) else f"times {factor:g} the points extend over {size} cm"
    return f"coordinates seem to be in {name} (z around {z:.3g}): {advice}"


def likely_unit(xyz: np.ndarray) -> tuple[float, str] | None:
    """(factor to metres, name) of the unit that a cloud seems to be in; None where metres are plausible.

    The distance from the camera decides, or the extent where that is larger: parts are recorded from 0.15 to 3.5 m.
    The factor is NaN where no usual unit fits. Fewer than MIN_POINTS points are not judged.

    Args:
        xyz: (h, w, 3); invalid points (0, 0, 0).
    """
    points = _spread(xyz)
    if len(points) < MIN_POINTS:
        return None
    size = max(float(np.abs(np.median(points[:, 2]))), *_extent(points))
    if _PLAUSIBLE[0] <= size <= _PLAUSIBLE[1]:
        return None
    if size < _PLAUSIBLE[0]:
        return 1000.0, "kilometres, as after dividing millimetres by 1000 twice"
    return next(((f, name) for f, name in _UNITS if _NEAR <= f * size < _FAR), (math.nan, "no usual unit"))


def extent(xyz: np.ndarray) -> tuple[float, float, float]:
    """Size of the valid points along x, y and z, without the outermost half a per cent at each end."""
    return _extent(_spread(xyz))


def _extent(points: np.ndarray) -> tuple[float, float, float]:
    if not len(points):
        return 0.0, 0.0, 0.0
    low, high = np.percentile(points, [0.5, 99.5], axis=0)
    x, y, z = (float(d) for d in high - low)
    return x, y, z


def _spread(xyz: np.ndarray) -> np.ndarray:
    """(N, 3) float64 valid points, evenly chosen where there are more than MAX_SPREAD."""
    flat = xyz.reshape(-1, 3)
    valid = np.flatnonzero(valid_points(flat))
    return flat[valid[:: len(valid) // MAX_SPREAD + 1]].astype(np.float64)
