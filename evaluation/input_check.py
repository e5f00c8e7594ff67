"""Measures of a part's input, of which good parts have much the same: what was measured of it, its light, its place.

All are taken on the detector's grid, S×S, and do not depend on how the part is turned about the optical axis.
"""

import numpy as np
from scipy import fft, ndimage

from datasets.measures import exposure
from datasets.sample import Sample, tensor_to_image
from datasets.surface import pixel_areas

SHIFT = 0.1  # of the side: how far the image is looked for beside the cloud
FILTERS = 9  # pixels beyond that which the blur of the outline, and blur and slopes of the image look at
GAP = 0.045  # of the side: gaps in the outline of up to twice this width count as unmeasured


def measure(sample: Sample) -> dict[str, float]:
    """The measures of `evaluation.input_limits.MEASURES`, by name, of a sample with at least one valid point.

    points: share of valid pixels in the frame. area: of the measured surface, in square metres. reach: distance from
    the centroid that 99 % of the points do not exceed, in metres. gaps: invalid pixels that a closing of the valid ones
    covers, as a share of these; hole: those of the largest spot that valid ones enclose. exposure: mean colour on
    valid pixels, 0 to 255. right, down: by how much of the side the image's edges lie beside the outline of the cloud.
    """
    valid = sample.valid.numpy()
    rgb = tensor_to_image(sample.rgb)
    (box,) = ndimage.find_objects(valid.view(np.int8))  # outside of it there is nothing to measure
    right, down = _shift(rgb, valid, box)
    inside = valid[box]
    xyz = np.ascontiguousarray(sample.xyz.permute(1, 2, 0).numpy()[box])
    points = xyz[inside].astype(np.float64)
    areas = pixel_areas(xyz)
    return {
        "points": len(points) / valid.size,
        "area": float(np.nansum(areas)),
        "reach": float(np.quantile(np.linalg.norm(points - points.mean(axis=0), axis=1), 0.99)),
        "gaps": _gaps(inside, max(1, round(GAP * len(valid)))) / len(points),
        "hole": int(_holes(inside)[1].max()) / len(points),
        "exposure": exposure(rgb, valid),
        "right": right,
        "down": down,
    }


def _gaps(valid: np.ndarray, radius: int) -> int:
    """False pixels that a closing by a disc of this radius covers."""
    around = np.pad(valid, 2 * radius)
    grown = ndimage.distance_transform_edt(~around) <= radius
    closed = ndimage.distance_transform_edt(grown) > radius
    return int(np.count_nonzero(closed & ~around))


def _holes(valid: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Connected gaps (4 neighbours) that True pixels enclose: the number of each pixel's gap, and the pixels of each;
    0 of what is no gap or reaches the border."""
    labels, count = ndimage.label(~valid)
    sizes = np.bincount(labels.ravel(), minlength=count + 1)
    border = np.concatenate([labels[0], labels[-1], labels[:, 0], labels[:, -1]])
    sizes[border] = 0  # these are outside
    sizes[0] = 0
    return labels, sizes


def _shift(rgb: np.ndarray, valid: np.ndarray, box: tuple[slice, slice]) -> tuple[float, float]:
    """Columns to the right and rows downwards, as shares of the side, by which the strength of the image's edges fits
    the outline of the filled mask best; at most SHIFT. box: of the mask."""
    side = len(valid)
    reach = max(1, round(SHIFT * side))
    around = tuple(slice(max(0, b.start - reach - FILTERS), b.stop + reach + FILTERS) for b in box)
    labels, sizes = _holes(valid[around])
    filled = valid[around] | (sizes > 0)[labels]
    outline = ndimage.gaussian_filter((filled ^ ndimage.binary_erosion(filled)).astype(np.float32), 1)
    red, green, blue = np.moveaxis(rgb[around].astype(np.float32), 2, 0)
    smooth = ndimage.gaussian_filter((red + green + blue) / 3, 1)
    edges = np.hypot(ndimage.sobel(smooth, 0), ndimage.sobel(smooth, 1))
    shape = [fft.next_fast_len(length + reach, real=True) for length in edges.shape]
    product = fft.rfft2(edges, shape) * fft.rfft2(outline, shape).conj()
    fits = fft.irfft2(product, shape)
    moves = np.arange(-reach, reach + 1)
    near = fits[np.ix_(moves, moves)]
    row, column = np.unravel_index(near.argmax(), near.shape)
    return float(moves[column]) / side, float(moves[row]) / side
