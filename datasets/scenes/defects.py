"""Defects of generated scenes: what each kind changes in the height and colour of an object.

Geometry only: dent, bump, cut. Colour only: stain. Both: contamination, hole. Relation only: paint, where shape and
palette are each normal but the paint no longer sits on the relief that should carry it.
"""

from collections.abc import Callable
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from datasets.scenes.shapes import Array, Shape, mix, smoothstep, waves

MIN_HEIGHT = 0.0075
"""Metres above the ground plane that stay under every defect, so that plane removal (5 mm) does not eat its floor."""

HEIGHT_CHANGE = 0.00015
COLOUR_CHANGE = 0.05

_CANDIDATES = 24
_GREASE = np.array([0.9, 1.0, 1.15], np.float32)  # how much of red, green and blue it takes
_FOREIGN_BODIES = np.array([[0.30, 0.62, 0.86], [0.86, 0.86, 0.90], [0.42, 0.72, 0.28], [0.60, 0.26, 0.62]], np.float32)


def apply_defect(shape: Shape, defect: str, rng: np.random.Generator) -> Shape:
    """A copy of `shape` with one defect (a key of DEFECTS) somewhere inside its footprint."""
    return DEFECTS[defect](shape, rng)


def changed_cells(before: Shape, after: Shape) -> NDArray[np.bool_]:
    """(n,n) True where the height changed by more than 0.15 mm or any colour channel by more than 0.05."""
    height = np.abs(after.height - before.height) > HEIGHT_CHANGE
    return height | (np.abs(after.albedo - before.albedo).max(axis=-1) > COLOUR_CHANGE)


def _centres(shape: Shape, margin: float, rng: np.random.Generator) -> Array:
    """Candidate centres (k,2) as x, y in metres, `margin` metres or, failing that, as deep as possible inside it."""
    usable = shape.height >= MIN_HEIGHT + 0.002
    depth = ndimage.distance_transform_edt(usable) * shape.pitch
    rows, columns = np.nonzero(depth >= min(1.1 * margin, 0.9 * float(depth.max())))
    chosen = rng.integers(len(rows), size=_CANDIDATES)
    x, y = shape.coordinates()
    return np.stack([x[0, columns[chosen]], y[rows[chosen], 0]], axis=1)


def _blob(shape: Shape, centre: Array, radius: float, rng: np.random.Generator) -> Array:
    """(n,n) distance from `centre` relative to an irregular, slightly oval outline of mean `radius`: 1 on it."""
    x, y = shape.coordinates()
    dx, dy = x - centre[0], y - centre[1]
    angle = np.arctan2(dy, dx)
    two, three, five = rng.uniform(0, 2 * np.pi, 3)
    outline = 1 + 0.16 * np.cos(2 * angle + two) + 0.07 * np.cos(3 * angle + three) + 0.04 * np.cos(5 * angle + five)
    return (np.hypot(dx, dy) / (radius * outline)).astype(np.float32)


def _contrasting(colours: Array, covered: Array, rng: np.random.Generator) -> Array:
    """One of the two of `colours` (m,3) that differ most from the cells `covered` (k,3) in their median."""
    contrast = np.median(np.abs(colours[:, None] - covered).max(axis=-1), axis=1)
    return colours[np.argsort(contrast)[-2:][rng.integers(2)]]


def _lowered(shape: Shape, amount: Array) -> Array:
    """Height after taking `amount` metres (>= 0) off, but never below the floor kept above the ground plane."""
    floor = np.minimum(shape.height, MIN_HEIGHT)
    return np.maximum(shape.height - amount, floor).astype(np.float32)


def dent(shape: Shape, rng: np.random.Generator) -> Shape:
    """A smooth hollow, 1.4 to 3 mm deep; the colour is untouched."""
    radius = rng.uniform(0.0036, 0.0058)
    distance = _blob(shape, _centres(shape, radius, rng)[0], radius, rng)
    profile = np.clip(1 - distance**2, 0, 1) ** 1.3
    return replace(shape, height=_lowered(shape, rng.uniform(0.0014, 0.0030) * profile))


def bump(shape: Shape, rng: np.random.Generator) -> Shape:
    """A smooth swelling, 1.4 to 3 mm high; the colour is untouched."""
    radius = rng.uniform(0.0036, 0.0058)
    distance = _blob(shape, _centres(shape, radius, rng)[0], radius, rng)
    profile = np.clip(1 - distance**2, 0, 1) ** 1.3
    return replace(shape, height=(shape.height + rng.uniform(0.0014, 0.0030) * profile).astype(np.float32))


def cut(shape: Shape, rng: np.random.Generator) -> Shape:
    """A slightly curved groove, 12 to 20 mm long, 2 to 3 mm wide, 0.6 to 1.4 mm deep; the colour is untouched."""
    half_length, half_width = rng.uniform(0.006, 0.010), rng.uniform(0.0010, 0.0015)
    centre = _centres(shape, 0.009, rng)[0]
    angle, curve = rng.uniform(0, np.pi), rng.uniform(-8, 8)
    x, y = shape.coordinates()
    dx, dy = x - centre[0], y - centre[1]
    along = np.cos(angle) * dx + np.sin(angle) * dy
    across = np.cos(angle) * dy - np.sin(angle) * dx - curve * along**2
    taper = np.sqrt(np.clip(1 - (along / half_length) ** 2, 0, 1))
    profile = smoothstep(np.abs(across), half_width, 0.2 * half_width) * np.minimum(1.5 * taper, 1)
    return replace(shape, height=_lowered(shape, rng.uniform(0.0006, 0.0014) * profile))


def stain(shape: Shape, rng: np.random.Generator) -> Shape:
    """Grease: an irregular spot where the colour is darker by 45 to 75 %; the shape is untouched."""
    radius = rng.uniform(0.0034, 0.0060)
    distance = _blob(shape, _centres(shape, radius, rng)[0], radius, rng)
    cover = rng.uniform(0.45, 0.75) * smoothstep(distance, 1.05, 0.85)
    return replace(shape, albedo=(shape.albedo * (1 - cover[..., None] * _GREASE)).astype(np.float32))


def contamination(shape: Shape, rng: np.random.Generator) -> Shape:
    """A foreign lump that sticks on the surface: 0.6 to 1.6 mm high, in a colour of its own."""
    radius = rng.uniform(0.0031, 0.0050)
    distance = _blob(shape, _centres(shape, radius, rng)[0], radius, rng)
    cover = rng.uniform(0.4, 0.9) * smoothstep(distance, 1.04, 0.90)
    lump = np.sqrt(np.clip(1 - distance**2, 0, 1)) * (1 + 0.08 * waves(*shape.coordinates(), 0.006, rng))
    return replace(
        shape,
        height=(shape.height + rng.uniform(0.0006, 0.0016) * np.maximum(lump, 0)).astype(np.float32),
        albedo=mix(shape.albedo, _contrasting(_FOREIGN_BODIES, shape.albedo[distance < 1], rng), cover),
    )


def hole(shape: Shape, rng: np.random.Generator) -> Shape:
    """A pit with steep walls, 1 to 3 mm deep where the object is thick enough, dark inside."""
    radius = rng.uniform(0.0031, 0.0042)
    distance = _blob(shape, _centres(shape, radius + 0.002, rng)[0], radius, rng)
    profile = smoothstep(distance, 1.05, 0.75)
    inside = np.array([0.20, 0.15, 0.12], np.float32)
    return replace(
        shape,
        height=_lowered(shape, rng.uniform(0.0010, 0.0030) * profile),
        albedo=mix(shape.albedo, inside, rng.uniform(0.2, 0.6) * smoothstep(distance, 1.08, 0.92)),
    )


def paint(shape: Shape, rng: np.random.Generator) -> Shape:
    """The class's paint pattern moved off its relief within a patch; the shape is untouched.

    Of the candidate places, the one where the pattern differs most is taken.
    """
    radius = rng.uniform(0.0045, 0.0070)
    difference = np.abs(shape.misplaced - shape.albedo).max(axis=-1) > COLOUR_CHANGE
    centres = _centres(shape, 0.75 * radius, rng)
    share = ndimage.uniform_filter(difference.astype(np.float32), round(1.6 * radius / shape.pitch))
    x, y = shape.coordinates()
    columns = np.searchsorted(x[0], centres[:, 0])
    rows = np.searchsorted(y[:, 0], centres[:, 1])
    best = int(np.argmax(share[rows, columns]))
    cover = _whole_elements(smoothstep(_blob(shape, centres[best], radius, rng), 1.03, 0.97), difference)
    return replace(shape, albedo=mix(shape.albedo, shape.misplaced, cover))


def _whole_elements(cover: Array, difference: NDArray[np.bool_]) -> Array:
    """`cover` (n,n) with small pattern elements taken whole or not at all, so that none is cut through by its edge.

    Elements are the connected parts of `difference` (n,n); small means less than 0.4 of the covered area. An element is
    taken when at least 0.4 of it is covered.
    """
    elements, count = ndimage.label(difference)
    area = np.bincount(elements.ravel(), minlength=count + 1)
    share = np.bincount(elements.ravel(), weights=cover.ravel(), minlength=count + 1) / np.maximum(area, 1)
    small = area < 0.4 * float(cover.sum())
    small[0] = False
    return np.where(small[elements], share[elements] >= 0.4, cover).astype(np.float32)


DEFECTS: dict[str, Callable[[Shape, np.random.Generator], Shape]] = {
    "bump": bump,
    "contamination": contamination,
    "cut": cut,
    "dent": dent,
    "hole": hole,
    "paint": paint,
    "stain": stain,
}
"""Defect name -> what it does to a shape."""

GEOMETRY_ONLY = ("bump", "cut", "dent")
COLOUR_ONLY = ("paint", "stain")
