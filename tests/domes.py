"""Small domes as samples and as a dataset: what contracts are tried on."""

from pathlib import Path

import numpy as np
import tifffile
from PIL import Image

SIDE = 96


def dome(seed: int, dent: float = 0.0) -> tuple[np.ndarray, np.ndarray]:
    """(SIDE, SIDE, 3) uint8 image and float32 cloud of a ribbed dome, metres; invalid points are (0, 0, 0).

    Args:
        dent: metres, around pixel (40, 52), where the image is then red.
    """
    generator = np.random.default_rng(seed)
    v, u = np.mgrid[0:SIDE, 0:SIDE].astype(np.float64)
    radius = (u - 48 - generator.random()) ** 2 + (v - 46 - generator.random()) ** 2
    ribs, spot = np.sin((u - 48) / 4), np.exp(-((u - 52) ** 2 + (v - 40) ** 2) / (2 * 4**2))
    z = 0.5 + 2e-6 * radius - 0.0004 * ribs + dent * spot + 2e-5 * generator.standard_normal(u.shape)
    xyz = np.stack([(u - 48) * z / 800, (v - 48) * z / 800, z], axis=-1) * (radius < 34**2)[..., None]
    red = 150 * spot * (dent != 0)
    rgb = np.stack([120 + 60 * ribs + red, 90 + 30 * ribs - red, 60 + v / 3], axis=-1)
    rgb = rgb + 3 * generator.standard_normal(rgb.shape)
    return rgb.clip(0, 255).astype(np.uint8), xyz.astype(np.float32)


def write_domes(root: Path) -> Path:
    """The class `dome` of a dataset: 4 to train on, 3 to validate, 3 good and 3 dented ones to test. Returns root."""
    seeds = iter(range(100))
    for folder, count, dent in (
        ("train/good", 4, 0.0),
        ("validation/good", 3, 0.0),
        ("test/good", 3, 0.0),
        ("test/dent", 3, 0.004),
    ):
        for stem in (f"{i:03d}" for i in range(count)):
            image, xyz = dome(next(seeds), dent)
            where = root / "dome" / folder
            for kind in ("rgb", "xyz", *["gt"] * bool(dent)):
                (where / kind).mkdir(parents=True, exist_ok=True)
            Image.fromarray(image).save(where / f"rgb/{stem}.png")
            tifffile.imwrite(where / f"xyz/{stem}.tiff", xyz, photometric="rgb")
            if dent:
                v, u = np.mgrid[0:SIDE, 0:SIDE]
                mask = np.hypot(u - 52, v - 40) < 8
                Image.fromarray(255 * mask.astype(np.uint8)).save(where / f"gt/{stem}.png")
    return root
