"""Does a cloud lie on its image? Edges of height compared with edges of luminance, over several samples of a class.

Pure arrays. The cloud's edges are moved, scaled, mirrored and turned; each way is scored by the correlation with the
image's edges. One sample says little: texture has edges without a step, and a pattern may fit itself anew when it is
moved. What is wrong with a camera is the same for every sample, so correlations are averaged, and a finding is
believed only where two halves of the samples find it independently. A fixed scene repeats its chance resemblances in
every sample: a fit must also stand out from those of all other shifts. Where none does, nothing is said.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from PIL import Image
from scipy import fft, ndimage

from datasets.frames import valid_points
from datasets.raw_scans import background_plane

SIDE = 240  # longer side in pixels at which edges are compared
MAX_SHIFT = 0.25  # of the longer side, either way
MIN_SAMPLES = 4

SCALES = (4 / 3) ** (np.arange(-4, 5) / 4)  # of each axis: 3/4 … 4/3
TURNS = ("as it is", "mirrored left to right", "mirrored top to bottom", "turned by 180°")
SQUARE_TURNS = (
    "turned by 90° to the left",
    "turned by 90° to the right",
    "transposed",
    "transposed and turned by 180°",
)

_STEP = 0.003  # metres between neighbours at `SIDE`: larger steps of height count as this
_SMALL_HOLE = 5  # pixels at `SIDE`; smaller holes in the object are no edges
_BLUR, _WIDE = 1.5, 8.0  # pixels at `SIDE`: finest and coarsest structure that is compared
_TOLERANCE = 2  # pixels at `SIDE`: a smaller shift is none
_GAIN = 1.3  # the better way must fit so many times as well as the identity
_FIT = 0.08  # a correlation below is none
_CLEAR = 5.0  # times the spread over other shifts: so much stands out at a given shift
_CLEARER = 10.0  # and so much where the best of all ways was sought,
_STRONG = 0.2  # unless it correlates so much
_VAGUE = 0.05  # of the longer side: a cloud that may lie so far off without fitting worse cannot be judged
_SIMPLER = 0.8  # a shift alone that fits so well compared with the best way is taken instead


@dataclass(frozen=True)
class Alignment:
    """How the cloud lies on the image.

    Attributes:
        samples: how many were compared.
        identity: correlation in [-1, 1] of the edges as they lie.
        best: the highest correlation found.
        turn: one of TURNS and SQUARE_TURNS: what was done to the cloud for it.
        scale: factors in x and y by which the cloud was stretched about the middle for it.
        shift: pixels to the right and down, as a share of the longer side, by which the cloud was moved for it.
        within: how far the shifts that fit nearly as well as the best reach, as a share of the longer side.
        aligned: False where `best` is believed to be the truth; None where it cannot be judged.
        reason: why it cannot be judged, "" where it can.
    """

    samples: int
    identity: float
    best: float
    turn: str
    scale: tuple[float, float]
    shift: tuple[float, float]
    within: float
    aligned: bool | None
    reason: str = ""


def edge_maps(rgb: np.ndarray, xyz: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Edges of the luminance and of the height, (h', w') float32 each, longer side `SIDE`, of mean 0 and norm 1.

    Args:
        rgb: (h, w, 3) uint8.
        xyz: (h, w, 3) metres, on the same frame; invalid points (0, 0, 0).
    """
    height, width = rgb.shape[:2]
    size = tuple(max(2, round(n * SIDE / max(height, width))) for n in (width, height))
    grey = np.asarray(Image.fromarray(rgb).convert("L").resize(size, Image.Resampling.BOX), np.float32)
    rise = np.asarray(Image.fromarray(heights(xyz)).resize(size, Image.Resampling.BOX))
    rise = ndimage.grey_closing(rise, size=_SMALL_HOLE)
    return _band(_contrast(_gradient(grey))), _band(np.minimum(_gradient(rise), _STEP))


def heights(xyz: np.ndarray) -> np.ndarray:
    """(h, w) float32 ≥ 0, metres above the background; 0 where nothing was measured.

    The background of a raw scan is its plane; otherwise it was removed, and a plane 1 cm behind the farthest points
    stands for it.
    """
    valid = valid_points(xyz)
    if not valid.any():
        return np.zeros(valid.shape, np.float32)
    plane = background_plane(xyz)
    if plane is None:
        above = np.percentile(xyz[valid][:, 2].astype(np.float64), 99) + 0.01 - xyz[..., 2]
    else:
        above = xyz @ plane[:3] + plane[3]
    return np.where(valid, np.maximum(above, 0), 0).astype(np.float32)


def align(pairs: Sequence[tuple[np.ndarray, np.ndarray]]) -> Alignment:
    """The way in which the clouds' edges fit the images' best.

    Args:
        pairs: of `edge_maps`, at least MIN_SAMPLES, all of one shape.
    """
    shape = pairs[0][0].shape
    ways = _ways(shape[0] == shape[1])
    reach = int(MAX_SHIFT * SIDE)
    canvas = [fft.next_fast_len(n + reach, real=True) for n in shape]
    images = [fft.rfft2(image, canvas) for image, _ in pairs]
    alike = {(turn, y) for turn, _, y in ways}  # many differ in x only
    stretched = {(turn, y): [_stretch(_turned(depth, turn), 0, y) for _, depth in pairs] for turn, y in alike}
    surfaces = np.stack([_correlations(images, stretched[turn, y], x, canvas, reach) for turn, x, y in ways])
    mean = surfaces.mean(axis=1)
    found = _best(mean)
    shifted = _best(mean[:1])
    if mean[shifted] >= _SIMPLER * mean[found]:
        found = shifted
    way, row, column = found
    turn, scale_x, scale_y = ways[way]
    shift = ((column - reach) / SIDE, (row - reach) / SIDE)
    best, identity = float(mean[found]), _identity(mean, reach)
    within = _reach_of_fit(mean[0], reach) / SIDE
    near = way == 0 and max(abs(row - reach), abs(column - reach)) <= _TOLERANCE
    here = [_identity(surfaces[:, half], reach) for half in (0, 1)]
    both = all(surfaces[:, half][_best(surfaces[:, 1 - half])] > max(_GAIN * here[half], _FIT) for half in (0, 1))
    clear = best >= _STRONG or _clearness(mean[way], row, column) >= _CLEARER
    aligned, reason = None, ""
    if not near and both and clear and best > _GAIN * identity:
        aligned = False
    elif identity >= max(_FIT, best / _GAIN) and within > _VAGUE:
        reason = f"soft or repeated edges fit as well when moved by up to {within:.0%} of the image"
    elif identity < max(_FIT, best / _GAIN) or _clearness(mean[0], reach, reach) < _CLEAR:
        reason = f"edges of height and of colour have little in common (correlation {identity:.2f})"
    else:
        aligned = True
    return Alignment(len(pairs), identity, best, turn, (scale_x, scale_y), shift, within, aligned, reason)


def _ways(square: bool) -> list[tuple[str, float, float]]:
    """Turn and scales of x and y, the identity first."""
    scaled = [(TURNS[0], float(x), float(y)) for x in SCALES for y in SCALES]
    scaled.sort(key=lambda way: way[1:] != (1.0, 1.0))
    return scaled + [(turn, 1.0, 1.0) for turn in TURNS[1:] + (SQUARE_TURNS if square else ())]


def _correlations(
    images: Sequence[np.ndarray], stretched: Sequence[np.ndarray], x: float, canvas: list[int], reach: int
) -> np.ndarray:
    """(2, 2·reach + 1, 2·reach + 1) mean correlation of the even and the odd samples over the shifts (down, right).

    Args:
        images: transforms of the images' edges.
        stretched: the clouds' edges, turned and stretched in y. x: by how much they are still to be stretched in x.
        canvas: rows and columns of the transforms. reach: the largest shift.
    """
    sums = np.zeros((2, *images[0].shape), np.complex64)
    for index, (image, depth) in enumerate(zip(images, stretched, strict=True)):
        moved = _stretch(depth, 1, x)
        norm = float(np.linalg.norm(moved)) or 1.0
        # What rfft2 does, less the rows that are but padding.
        spectrum = fft.fft(fft.rfft(moved / norm, canvas[1], axis=1), canvas[0], axis=0)
        sums[index % 2] += image * np.conj(spectrum)
    counts = np.array([len(images) - len(images) // 2, len(images) // 2])
    window = np.arange(-reach, reach + 1)
    # And what irfft2 does, in its order, of the rows that are looked at.
    rows = fft.ifft(sums, axis=1, norm="forward")[:, window]
    surface = fft.irfft(rows, canvas[1], axis=2, norm="forward")[:, :, window] * np.float32(1 / (canvas[0] * canvas[1]))
    return (surface / counts[:, None, None]).astype(np.float32)


def _turned(array: np.ndarray, turn: str) -> np.ndarray:
    if turn in TURNS:
        rows, columns = [(1, 1), (1, -1), (-1, 1), (-1, -1)][TURNS.index(turn)]
        return array[::rows, ::columns]
    left = np.rot90(array, 1)
    return {0: left, 1: np.rot90(array, 3), 2: array.T, 3: np.rot90(array.T, 2)}[SQUARE_TURNS.index(turn)]


def _stretch(array: np.ndarray, axis: int, factor: float) -> np.ndarray:
    """(h, w) → (h, w), stretched by the factor along the axis about its middle, linearly interpolated, 0 outside."""
    if factor == 1:
        return array
    n = array.shape[axis]
    source = (np.arange(n) - (n - 1) / 2) / factor + (n - 1) / 2
    low = np.floor(source).astype(int)
    weight = (source - low).astype(np.float32)
    inside = (low >= 0) & (low < n - 1)
    low = np.clip(low, 0, n - 2)
    weights = [np.where(inside, 1 - weight, 0), np.where(inside, weight, 0)]
    shaped = [w[:, None] if axis == 0 else w[None, :] for w in weights]
    return array.take(low, axis) * shaped[0] + array.take(low + 1, axis) * shaped[1]


def _best(surfaces: np.ndarray) -> tuple[int, int, int]:
    """Way, row and column of the highest correlation."""
    way, row, column = np.unravel_index(int(np.argmax(surfaces)), surfaces.shape)
    return int(way), int(row), int(column)


def _clearness(surface: np.ndarray, row: int, column: int) -> float:
    """The highest correlation around a shift, as a multiple of the spread over shifts that are farther away."""
    rows, columns = np.ogrid[: surface.shape[0], : surface.shape[1]]
    distance = np.hypot(rows - row, columns - column)
    return float(surface[distance <= 2 * _TOLERANCE].max() / max(surface[distance > _WIDE].std(), 1e-9))


def _reach_of_fit(surface: np.ndarray, reach: int) -> float:
    """How many pixels the shifts that fit nearly as well as the best reach from where the cloud lies."""
    rows, columns = np.nonzero(surface >= surface.max() / _GAIN)
    return float(np.hypot(rows - reach, columns - reach).max())


def _identity(surfaces: np.ndarray, reach: int) -> float:
    """The highest correlation of what counts as aligned."""
    middle = slice(reach - _TOLERANCE, reach + _TOLERANCE + 1)
    return float(surfaces[0, middle, middle].max())


def _gradient(array: np.ndarray) -> np.ndarray:
    return np.hypot(ndimage.sobel(array, 0), ndimage.sobel(array, 1)) / 8


def _contrast(edges: np.ndarray) -> np.ndarray:
    """Edges relative to those around them, so that a faint outline counts beside a strong pattern."""
    return edges / (ndimage.gaussian_filter(edges, _WIDE) + np.median(edges) + 1)


def _band(edges: np.ndarray) -> np.ndarray:
    """Edges without the finest and the coarsest structure, mean 0, norm 1."""
    band = ndimage.gaussian_filter(edges, _BLUR) - ndimage.gaussian_filter(edges, _WIDE)
    band -= band.mean()
    return (band / (float(np.linalg.norm(band)) or 1.0)).astype(np.float32)
