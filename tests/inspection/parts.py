"""Files of parts for the stub: what is red is anomalous, everything lies on a plane."""

import io
import json
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from inspection.pairs import Pair


def image(red: int, size: tuple[int, int] = (16, 16)) -> np.ndarray:
    """(h, w, 3) uint8: 20 % red, and a 4×4 patch with this red at the middle."""
    rgb = np.zeros((*size, 3), np.uint8)
    rgb[..., 0] = 51
    top, left = size[0] // 2 - 2, size[1] // 2 - 2
    rgb[top : top + 4, left : left + 4, 0] = red
    return rgb


def cloud(size: tuple[int, int] = (16, 16)) -> np.ndarray:
    """(h, w, 3) float32: 1 mm a pixel, half a metre away, no coordinate 0."""
    v, u = np.mgrid[1 : size[0] + 1, 1 : size[1] + 1] / 1000
    return np.stack([u, v, np.full(size, 0.5)], axis=-1).astype(np.float32)


def npy(array: np.ndarray) -> bytes:
    """The bytes of an NPY file."""
    stream = io.BytesIO()
    np.save(stream, array)
    return stream.getvalue()


def write_part(folder: Path, name: str, red: int) -> Pair:
    """NAME.png and NAME.npy in a folder."""
    pair = Pair(name, folder / f"{name}.png", folder / f"{name}.npy")
    pair.rgb.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(image(red)).save(pair.rgb)
    pair.xyz.write_bytes(npy(cloud()))
    return pair


def lines(folder: Path) -> list[dict[str, Any]]:
    """The log of an output folder; every line must be whole."""
    path = folder / "predictions.jsonl"
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []
