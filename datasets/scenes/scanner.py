"""A structured-light scanner: its projector is the lamp of the photograph, and its light decides what is measured.

One cause explains what real scans show. Where little of the projector's light comes back (black cloth, steep flanks, a
short exposure), depth is noisy and points are lost; where it dazzles (specular spots) or does not arrive (shadow),
nothing is measured. So exposure moves the brightness of the photograph and the valid share of the cloud together.
"""

import numpy as np
from scipy import ndimage

from datasets.scenes.light import Light
from datasets.scenes.shapes import Array, grid_axes, waves
from datasets.scenes.view import Camera, Mask, Surface

LAMP = 1.06
"""Diffuse strength of the projector's light at exposure 1."""

_BASELINE = 0.25  # metres from the camera to the projector, at +x
_AMBIENT = 0.10  # of the lamp's strength: what surfaces scatter on each other
_FAINT = 0.0243  # brightness at which half of the points are lost
_DAZZLING = 0.95  # brightness above which none is measured
_SPECKLE = 0.58  # deviation of the logarithm of the brightness that a point's code is read with
_BASE_NOISE = 0.045e-3  # metres along the ray, however bright
_FAINT_NOISE = 7.8e-6  # metres x brightness
_WINDOW = 1.0  # pixels: neighbouring points are matched in windows that overlap, and share their error
_FOLDS = 0.3e-3  # metres: deviation of the cloth from a plane
_RIM_SLOPE = 5.5


def draw_light(exposure: float, rng: np.random.Generator) -> Light:
    """The projector's light: from the right, fixed to the camera, its strength with the play from scan to scan."""
    direction = np.array([_BASELINE, -0.06, -0.62])
    strength = LAMP * exposure * np.exp(rng.normal(0, 0.035))
    return Light(direction / np.linalg.norm(direction), strength, _AMBIENT * strength, 1 + rng.normal(0, 0.008, 3))


def reached(depth: Array, camera: Camera) -> Mask:
    """Pixels that the projector at +x reaches.

    In its image a point lies at u - f * baseline / z. Something farther right in the camera's row hides it when it lies
    at the same place or to its left there.
    """
    projected = np.arange(camera.width) - camera.focal * _BASELINE / depth
    leftmost_to_the_right = np.minimum.accumulate(projected[:, ::-1], axis=1)[:, ::-1]
    return projected <= leftmost_to_the_right + 0.5


def folds(surface: Surface, camera: Camera, rng: np.random.Generator) -> Array:
    """(h,w) metres by which the cloth lies before or behind its plane, in soft folds; 0 on the object."""
    pixel = float(surface.depth.mean()) / camera.focal
    x, y = grid_axes(camera.width, pixel)[0], grid_axes(camera.height, pixel)[1]
    return np.where(surface.object_mask, 0, _FOLDS * waves(x, y, 0.09, rng))


def measure(depth: Array, brightness: Array, camera: Camera, rng: np.random.Generator) -> Array:
    """(h,w,3) float32 organised cloud in metres: noise along the ray, lost points (0,0,0).

    Args:
        depth: (h,w) metres along the optical axis.
        brightness: (h,w) of the projector's light that comes back, 1 = white in the photograph; 0 in its shadow.
        camera: intrinsics.
        rng: of noise and speckle.
    """
    rays = camera.rays()
    noise = ndimage.gaussian_filter(rng.standard_normal(depth.shape, dtype=np.float32), _WINDOW)
    noise *= 2 * np.sqrt(np.pi) * _WINDOW  # unit variance again
    spread = np.hypot(_BASE_NOISE, _FAINT_NOISE / np.maximum(brightness, _FAINT / 2))
    xyz = rays * (depth + noise * spread / np.linalg.norm(rays, axis=-1))[..., None]
    read = brightness * np.exp(_SPECKLE * _mosaic_noise(depth.shape, rng))
    lost = (read < _FAINT) | (brightness > _DAZZLING) | _rim(depth, camera)
    xyz[lost] = 0
    return xyz.astype(np.float32)


def _mosaic_noise(shape: tuple[int, ...], rng: np.random.Generator) -> Array:
    """(h,w) noise of unit variance that pixels two apart share: a colour's next sample in the sensor's mosaic."""
    white = rng.standard_normal((shape[0] + 4, shape[1] + 4), dtype=np.float32)
    cross = white[:-4, 2:-2] + white[4:, 2:-2] + white[2:-2, :-4] + white[2:-2, 4:]
    mixed: Array = (white[2:-2, 2:-2] + 0.35 * cross) / np.float32(np.sqrt(1 + 4 * 0.35**2))
    return mixed


def _rim(depth: Array, camera: Camera) -> Mask:
    """Pixels on both sides of a depth step (2.5 mm at 400 pixels), where a sensor mixes front and back."""
    jump = np.zeros(depth.shape, bool)
    step = _RIM_SLOPE * float(depth.mean()) / camera.focal
    steep_rows = np.abs(np.diff(depth, axis=0)) > step
    steep_columns = np.abs(np.diff(depth, axis=1)) > step
    jump[:-1] |= steep_rows
    jump[1:] |= steep_rows
    jump[:, :-1] |= steep_columns
    jump[:, 1:] |= steep_columns
    return jump
