"""Generated scenes as a depth camera stores them."""

import json
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from PIL import Image

from datasets.scenes import render_scene

Parts = Mapping[str, tuple[int, str | None]]


def write_scans(folder: Path, parts: Parts, size: int = 240) -> None:
    """RGB and 16-bit depth in tenths of a millimetre, aligned; masks of defects; the camera's own file.

    Args:
        folder: where they go. size: side of the images in pixels.
        parts: SPLIT/DEFECT → number of images, and which of the generator's defects they have.
    """
    seed = 0
    for part, (count, defect) in parts.items():
        (folder / part).mkdir(parents=True)
        for index in range(count):
            scene = render_scene("gear", defect, size, seed := seed + 1)
            Image.fromarray(scene.rgb).save(folder / part / f"{index:04d}_color.png")
            depth = np.rint(scene.xyz[..., 2] * 10_000).astype(np.uint16)
            Image.fromarray(depth).save(folder / part / f"{index:04d}_depth.png")
            if defect:
                Image.fromarray(scene.gt).save(folder / part / f"{index:04d}_mask.png")
    camera = scene.camera
    content = {"fx": camera.focal, "fy": camera.focal, "ppx": camera.cx, "ppy": camera.cy, "depth_scale": 0.0001}
    (folder / "camera.json").write_text(json.dumps(content))
