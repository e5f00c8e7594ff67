"""Parametric objects for generated scenes: height and colour on a grid, tied together by one rule per class.

Every builder draws one instance of its class: size, number and phase of the pattern, low-frequency deformation and hue
vary; the rule that says which part of the shape carries which colour does not. Lengths are metres, colours are
reflectances in [0,1]. The object frame lies in the ground plane: x right, y down, height towards the camera.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.floating[Any]]

_MILLIMETRE = 1e-3
_PITCH_LIMIT = 0.15 * _MILLIMETRE
_UNEVENNESS = 0.12 * _MILLIMETRE  # deviation of the height
_CLOUDS = 0.06  # deviation of the tone
_PORES = 120  # in the square around the object
_PORE_DEPTH = 0.5 * _MILLIMETRE


@dataclass(frozen=True)
class Shape:
    """One object instance, sampled on a square grid of n x n cells centred on the object.

    Attributes:
        pitch: side of a grid cell in metres.
        height: (n,n) height above the ground plane in metres; 0 outside the object.
        albedo: (n,n,3) reflectance in [0,1].
        misplaced: (n,n,3) reflectance of the same palette with the pattern moved off the relief that should carry it.
        gloss: strength of the specular highlight in [0,1].
    """

    pitch: float
    height: Array
    albedo: Array
    misplaced: Array
    gloss: float

    @property
    def footprint(self) -> NDArray[np.bool_]:
        """(n,n) True where the object covers the plane."""
        return self.height > 0

    def coordinates(self) -> tuple[Array, Array]:
        """x (1,n) and y (n,1) of the cell centres in metres."""
        return grid_axes(len(self.height), self.pitch)


@dataclass(frozen=True)
class ObjectClass:
    """How a class is drawn and framed.

    Attributes:
        build: draws one instance: (x (1,n), y (n,1) in metres, pitch, generator) -> Shape.
        radius: metres; no instance reaches farther from its centre.
        play: metres; how far the centre may lie from the middle of the view, either way.
        aspect: image (width, height) relative to the longer side.
    """

    build: Callable[[Array, Array, float, np.random.Generator], Shape]
    radius: float
    play: float = 0.015
    aspect: tuple[float, float] = (1.0, 1.0)


def grid_axes(cells: int, pitch: float) -> tuple[Array, Array]:
    """x (1,cells) and y (cells,1) of cell centres in metres, 0 in the middle of the grid."""
    axis = ((np.arange(cells) - (cells - 1) / 2) * pitch).astype(np.float32)
    return axis[None, :], axis[:, None]


def smoothstep(value: Array, low: float, high: float) -> Array:
    """0 below `low`, 1 above `high`, a cubic ramp in between; `low` > `high` gives a falling ramp."""
    ramp = np.clip((value - low) / (high - low), 0, 1)
    return ramp * ramp * (3 - 2 * ramp)


def waves(x: Array, y: Array, wavelength: float, rng: np.random.Generator, terms: int = 5) -> Array:
    """Smooth random field of unit variance: plane waves of random direction with wavelengths around `wavelength`."""
    field = np.zeros(np.broadcast_shapes(x.shape, y.shape), np.float32)
    for angle, phase, stretch in rng.uniform((0, 0, 0.7), (np.pi, 2 * np.pi, 1.4), (terms, 3)):
        wavenumber = 2 * np.pi / (wavelength * stretch)
        field += np.cos(wavenumber * (np.cos(angle) * x + np.sin(angle) * y) + phase, dtype=np.float32)
    return field * np.float32(np.sqrt(2 / terms))


def mix(first: Array, second: Array, weight: Array) -> Array:
    """(…,3) colour between `first` (weight 0) and `second` (weight 1); `weight` is (…)."""
    return first + (second - first) * weight[..., None]


def _dome(edge_distance: Array, radius: float) -> Array:
    """Quarter-circle profile: 0 at the object's edge, 1 from `radius` metres inside it."""
    inside = np.clip(edge_distance / radius, 0, 1)
    return np.sqrt(inside * (2 - inside))


def _stripes(phase: Array, sharpness: float = 2.0) -> Array:
    """Periodic pattern in [0,1] with flat tops and floors; 1 where `phase` is a multiple of 2 pi."""
    return (0.5 + 0.5 * np.tanh(sharpness * np.cos(phase)) / np.tanh(sharpness)).astype(np.float32)


def _palette(rng: np.random.Generator, *colours: tuple[float, float, float]) -> list[Array]:
    """The class's colours with the instance's jitter: one common exposure, and a small shift per channel."""
    exposure = rng.uniform(0.94, 1.04)
    return [(np.array(colour) * exposure * rng.uniform(0.96, 1.04, 3)).astype(np.float32) for colour in colours]


def _scatter(count: int, radius: float, spacing: float, rng: np.random.Generator, taken: Array) -> Array:
    """Up to `count` points (m,2) in a disc, at least `spacing` from each other and from the points `taken` (k,2)."""
    points = np.asarray(taken, np.float32).reshape(-1, 2)
    for radial, angle in rng.uniform((0, 0), (1, 2 * np.pi), (40 * count, 2)):
        candidate = radius * np.sqrt(radial) * np.array([np.cos(angle), np.sin(angle)])
        if len(points) - len(taken) < count and np.all(((points - candidate) ** 2).sum(axis=1) >= spacing**2):
            points = np.vstack([points, candidate[None]])
    return points[len(taken) :].astype(np.float32)


def biscuit(x: Array, y: Array, pitch: float, rng: np.random.Generator) -> Shape:
    """Square biscuit with embossed wavy ridges; the ridges carry the icing."""
    half = rng.uniform(0.035, 0.039)
    power = rng.uniform(4.0, 5.0)
    outline = (np.abs(x / half) ** power + np.abs(y / half) ** power) ** np.float32(1 / power)
    edge = half * (1 - outline) + 0.0006 * waves(x, y, 0.03, rng)
    wavelength = rng.uniform(0.0105, 0.0125)
    wobble = rng.uniform(0.2, 0.8) * np.sin(2 * np.pi * y / rng.uniform(0.035, 0.05) + rng.uniform(0, 2 * np.pi))
    ridges = _stripes(2 * np.pi * x / wavelength + wobble + rng.uniform(0, 2 * np.pi))
    panel = smoothstep(edge, 0.004, 0.006)
    thickness = rng.uniform(0.013, 0.016)
    height = thickness * _dome(edge, 0.006) + 0.0022 * ridges * panel + 0.0003 * waves(x, y, 0.03, rng) * (edge > 0)
    dough, icing = _palette(rng, (0.78, 0.56, 0.30), (0.72, 0.16, 0.20))
    baked = dough * (1 - 0.10 * smoothstep(edge, 0.008, 0.0))[..., None]
    return Shape(
        pitch,
        np.where(edge > 0, np.maximum(height, 0), 0).astype(np.float32),
        mix(baked, icing, ridges * panel),
        mix(baked, icing, (1 - ridges) * panel),
        gloss=0.40,
    )


def chip_cookie(x: Array, y: Array, pitch: float, rng: np.random.Generator) -> Shape:
    """Round cookie; every bump is a dark chip, and the dough is paler where it has risen."""
    radius = rng.uniform(0.036, 0.042)
    centre_distance = np.hypot(x, y)
    edge = radius + 0.0009 * waves(x, y, 0.035, rng) - centre_distance
    risen = waves(x, y, 0.018, rng)
    thickness = rng.uniform(0.012, 0.015)
    height = thickness * _dome(edge, 0.010) + 0.002 * smoothstep(edge, 0, radius) + 0.0004 * risen * (edge > 0)
    chips = _scatter(int(rng.integers(12, 17)), 0.8 * radius, 0.0125, rng, np.zeros((0, 2), np.float32))
    strays = _scatter(len(chips), 0.8 * radius, 0.0100, rng, chips)
    sizes = rng.uniform(0.0042, 0.0056, len(chips))
    relief = np.zeros_like(edge)
    chip_cover = np.zeros_like(edge)
    stray_cover = np.zeros_like(edge)
    for (chip_x, chip_y), size in zip(chips, sizes, strict=True):
        distance = np.hypot(x - chip_x, y - chip_y)
        relief = np.maximum(relief, np.sqrt(np.clip(1 - (distance / size) ** 2, 0, 1)))
        chip_cover = np.maximum(chip_cover, smoothstep(distance, size + 0.0003, size - 0.0003))
    for (stray_x, stray_y), size in zip(strays, sizes, strict=False):
        distance = np.hypot(x - stray_x, y - stray_y)
        stray_cover = np.maximum(stray_cover, smoothstep(distance, size + 0.0003, size - 0.0003))
    dough, chip = _palette(rng, (0.80, 0.60, 0.36), (0.24, 0.13, 0.08))
    crumb = dough * np.clip(0.95 + 0.05 * risen, 0.8, 1.1)[..., None]
    return Shape(
        pitch,
        np.where(edge > 0, np.maximum(height + 0.0030 * relief, 0), 0).astype(np.float32),
        mix(crumb, chip, chip_cover),
        mix(crumb, chip, stray_cover),
        gloss=0.25,
    )


def loaf(x: Array, y: Array, pitch: float, rng: np.random.Generator) -> Shape:
    """Long loaf: the crest is baked darker than the flanks, the slashes across it stay pale."""
    half_width, half_length = rng.uniform(0.022, 0.025), rng.uniform(0.040, 0.046)
    bend = rng.uniform(-0.002, 0.002)
    across = (x - bend * np.cos(np.pi * y / half_length)) / half_width
    inside = 1 - np.abs(across) ** 2.2 - np.abs(y / half_length) ** 2.6 + 0.02 * waves(x, y, 0.03, rng)
    thickness = rng.uniform(0.023, 0.028)
    profile = np.sqrt(np.clip(inside, 0, 1)) * (inside > 0)
    spacing, slant = rng.uniform(0.0145, 0.0175), rng.uniform(0.45, 0.7) * rng.choice([-1, 1])
    phase = 2 * np.pi * (y + slant * x) / spacing + rng.uniform(0, 2 * np.pi)
    on_top = smoothstep(profile, 0.62, 0.80)
    slash = _stripes(phase, 1.5) ** 2
    shifted = _stripes(phase + np.pi, 1.5) ** 2
    height = thickness * profile - 0.0026 * slash * on_top + 0.0003 * waves(x, y, 0.02, rng) * (inside > 0)
    flank, crest, inner = _palette(rng, (0.82, 0.60, 0.34), (0.46, 0.24, 0.10), (0.92, 0.82, 0.62))
    bake = smoothstep(profile, 0.35, 0.95)
    crust = mix(flank, crest, bake)
    return Shape(
        pitch,
        np.where(inside > 0, np.maximum(height, 0), 0).astype(np.float32),
        mix(crust, inner, slash * on_top),
        mix(crust, inner, shifted * on_top),
        gloss=0.40,
    )


def cap(x: Array, y: Array, pitch: float, rng: np.random.Generator) -> Shape:
    """Round cap: a raised, knurled rim in the dark colour around a floor whose radial grooves are coloured."""
    radius = rng.uniform(0.038, 0.043)
    centre_distance, angle = np.hypot(x, y), np.arctan2(y, x)
    knurls = int(rng.integers(30, 40))
    edge = radius * (1 + 0.008 * np.cos(knurls * angle)) - centre_distance
    relative = centre_distance / radius
    rim = smoothstep(relative, 0.74, 0.80)
    grooves = int(rng.integers(8, 12))
    phase = grooves * angle + rng.uniform(0, 2 * np.pi)
    ring = smoothstep(relative, 0.24, 0.30) * smoothstep(relative, 0.70, 0.64)
    groove = _stripes(phase) * ring
    wall, step = rng.uniform(0.017, 0.021), rng.uniform(0.004, 0.005)
    dish = 0.0012 * (1 - relative**2)
    height = wall * _dome(edge, 0.004) - (step - dish) * (1 - rim) - 0.0018 * groove
    height += 0.0002 * waves(x, y, 0.03, rng)
    rim_colour, floor, paint = _palette(rng, (0.16, 0.25, 0.50), (0.84, 0.81, 0.72), (0.10, 0.50, 0.46))
    base = mix(floor, rim_colour, rim)
    return Shape(
        pitch,
        np.where(edge > 0, np.maximum(height, 0), 0).astype(np.float32),
        mix(base, paint, groove),
        mix(base, paint, (_stripes(phase + np.pi)) * ring),
        gloss=0.50,
    )


def gear(x: Array, y: Array, pitch: float, rng: np.random.Generator) -> Shape:
    """Moulded gear with a bore: the raised pads and the hub collar are painted, the body is grey."""
    radius = rng.uniform(0.039, 0.044)
    centre_distance, angle = np.hypot(x, y), np.arctan2(y, x)
    teeth = int(rng.integers(16, 21))
    start = rng.uniform(0, 2 * np.pi)
    outer = radius * (0.95 + 0.10 * (_stripes(teeth * angle + start) - 0.5)) - centre_distance
    bore = centre_distance - rng.uniform(0.0065, 0.0080)
    edge = np.minimum(outer, bore)
    relative = centre_distance / radius
    pads = int(rng.integers(9, 12))
    phase = pads * angle + start
    ring = smoothstep(relative, 0.46, 0.52) * smoothstep(relative, 0.84, 0.78)
    collar = smoothstep(relative, 0.37, 0.33)
    pad = np.maximum(_stripes(phase) * ring, collar)
    thickness = rng.uniform(0.012, 0.015)
    height = thickness * _dome(edge, 0.002) + 0.0024 * pad * (edge > 0) + 0.00015 * waves(x, y, 0.03, rng)
    body, paint = _palette(rng, (0.50, 0.53, 0.57), (0.88, 0.50, 0.10))
    return Shape(
        pitch,
        np.where(edge > 0, np.maximum(height, 0), 0).astype(np.float32),
        mix(body, paint, pad),
        mix(body, paint, np.maximum(_stripes(phase + np.pi) * ring, collar)),
        gloss=0.50,
    )


OBJECT_CLASSES: dict[str, ObjectClass] = {
    "biscuit": ObjectClass(biscuit, radius=0.049),
    "cap": ObjectClass(cap, radius=0.045),
    "chip_cookie": ObjectClass(chip_cookie, radius=0.046),
    "gear": ObjectClass(gear, radius=0.046),
    "loaf": ObjectClass(loaf, radius=0.050, play=0.010, aspect=(0.75, 1.0)),
}
"""Class name -> how it is drawn. `loaf` images are portrait, 3:4."""


def draw_shape(class_name: str, pitch: float, rng: np.random.Generator) -> Shape:
    """One instance of a class on a grid of about `pitch` metres, with the fine grain of its surface colour."""
    kind = OBJECT_CLASSES[class_name]
    pitch = max(pitch, _PITCH_LIMIT)
    cells = 2 * int(np.ceil(kind.radius / pitch)) + 5
    shape = kind.build(*grid_axes(cells, pitch), pitch, rng)
    coarse = rng.normal(1, 0.03, (128, 128)).astype(np.float32)
    rows = (np.arange(cells) * pitch / (0.8 * _MILLIMETRE)).astype(int) % 128
    grain = coarse[rows[:, None], rows[None, :], None]
    relief, tone = _character(*shape.coordinates(), kind.radius, rng)
    return Shape(
        pitch,
        np.where(shape.height > 0, np.maximum(shape.height + relief, 1e-5), 0).astype(np.float32),
        np.clip(shape.albedo * grain * tone, 0.02, 0.98).astype(np.float32),
        np.clip(shape.misplaced * grain * tone, 0.02, 0.98).astype(np.float32),
        shape.gloss,
    )


def _character(x: Array, y: Array, radius: float, rng: np.random.Generator) -> tuple[Array, Array]:
    """What differs from good part to good part: height (n,n) to add, metres, and tone (n,n,3) to multiply colours by.

    Shallow unevenness and clouds of tone as baking or moulding leave them, and pores: dark pits, each smaller than any
    defect.
    """
    relief = _UNEVENNESS * waves(x, y, 0.011, rng)
    tone = 1 + _CLOUDS * waves(x, y, 0.012, rng)[..., None] * rng.uniform(0.6, 1.4, 3).astype(np.float32)
    for pore_x, pore_y, size in rng.uniform((-radius, -radius, 0.0005), (radius, radius, 0.0017), (_PORES, 3)):
        reach = (
            slice(*np.searchsorted(y[:, 0], (pore_y - size, pore_y + size))),
            slice(*np.searchsorted(x[0], (pore_x - size, pore_x + size))),
        )
        pit = np.clip(1 - ((x[:, reach[1]] - pore_x) ** 2 + (y[reach[0]] - pore_y) ** 2) / size**2, 0, 1)
        relief[reach] -= _PORE_DEPTH * pit
        tone[reach] *= 1 - 0.35 * pit[..., None]
    return relief, tone
