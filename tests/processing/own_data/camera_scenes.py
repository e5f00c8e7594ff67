"""What depth cameras deliver, generated: a part on a table, a floor farther away, a robot's arm at the frame's edge."""

from dataclasses import dataclass

import numpy as np

HEIGHT, WIDTH, FOCAL = 240, 320, 525.0  # the middle of a frame of 640×480
CX, CY = 159.5, 119.5


@dataclass(frozen=True)
class Shot:
    """One exposure: (h, w) depth in metres without noise, (h, w, 3) uint8 RGB, (h, w) bool masks of things."""

    depth: np.ndarray
    rgb: np.ndarray
    part: np.ndarray
    arm: np.ndarray


def shoot(seed: int, tilt: float = 0.0, table: float = 1.0, arm: bool = False) -> Shot:
    """A part, a dome 2 cm high and 8 cm wide, on a table 0.8 m away; the floor is 0.5 m behind.

    Args:
        seed: of the part's place.
        tilt: of the table about the image's rows, in radians.
        table: its width and height as a share of the frame's.
        arm: whether an arm, 14 cm nearer than the table, comes into the frame from the right.
    """
    rng = np.random.default_rng(seed)
    v, u = np.mgrid[:HEIGHT, :WIDTH]
    a, b = (u - CX) / FOCAL, (v - CY) / FOCAL
    on_table = (np.abs(u - CX) <= table * WIDTH / 2) & (np.abs(v - CY) <= table * HEIGHT / 2)
    depth = np.where(on_table, 0.8 / (1 + np.tan(tilt) * b), 1.3)
    x, y = rng.uniform(-0.03, 0.03, 2)
    z = 0.83 - np.tan(tilt) * y  # of a ball of 5 cm radius, of which 2 cm stand out
    square, product = a**2 + b**2 + 1, a * x + b * y + z
    root = product**2 - square * (x**2 + y**2 + z**2 - 0.05**2)  # where the ray meets the ball
    ball = (product - np.sqrt(np.maximum(root, 0))) / square
    part = (root > 0) & (ball < depth)
    depth = np.where(part, ball, depth)
    across = (v - 60 - 5 * np.sin(seed)) / 32
    reaching = arm & (np.abs(across) < 1) & (u > 190)
    depth = np.where(reaching, 0.66 - 0.03 * np.sqrt(np.maximum(1 - across**2, 0)), depth)
    colours = np.where(on_table, 90, 40)[..., None] * np.array([1.0, 1.1, 0.9])
    colours = np.where(part[..., None], [200.0, 60, 30], colours)
    colours = np.where(reaching[..., None], [230.0, 140, 20], colours)
    rgb = np.clip(colours + rng.normal(0, 4, colours.shape), 0, 255).astype(np.uint8)
    return Shot(depth, rgb, part & ~reaching, reaching)


def points(depth: np.ndarray) -> np.ndarray:
    """(h, w, 3) float32 of a depth image in the same unit."""
    v, u = np.mgrid[:HEIGHT, :WIDTH]
    return np.stack([(u - CX) * depth / FOCAL, (v - CY) * depth / FOCAL, depth], axis=-1).astype(np.float32)


def noisy(depth: np.ndarray, seed: int, step: float) -> np.ndarray:
    """Depth in metres with the noise of structured light, 1 mm at 0.8 m growing with its square, in steps."""
    rng = np.random.default_rng(seed)
    return np.rint((depth + rng.normal(0, 1, depth.shape) * 1e-3 * (depth / 0.8) ** 2) / step) * step
