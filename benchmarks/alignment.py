"""How often the check of a dataset tells of clouds that do not lie on their images: without a fault, and with some.

    python benchmarks/alignment.py --seeds 3

Rendered scenes of 400 pixels, 12 good ones a class, raw and preprocessed; faults are planted in the clouds.
"""

import argparse
import sys
from collections.abc import Callable
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import numpy as np
from tqdm import tqdm

from datasets.scenes import render_scene
from datasets.scenes.shapes import OBJECT_CLASSES
from processing.background.removal import object_mask
from processing.checks.alignment import align, edge_maps
from utils import cli
from utils.argument_types import positive_int
from utils.parallel import available_cores, run_parallel

SIZE, SAMPLES = 400, 12
FIRST_SEED = 7000  # apart from those that the limits of the comparison were chosen on

Fault = Callable[[np.ndarray], np.ndarray]


def moved(xyz: np.ndarray, right: int, down: int) -> np.ndarray:
    """The cloud moved by pixels; what comes from outside is invalid."""
    height, width = xyz.shape[:2]
    padded = np.pad(xyz, ((max(down, 0), max(-down, 0)), (max(right, 0), max(-right, 0)), (0, 0)))
    return padded[max(-down, 0) :, max(-right, 0) :][:height, :width]


def stretched(xyz: np.ndarray, x: float, y: float) -> np.ndarray:
    """The cloud stretched about the middle by nearest neighbours; what comes from outside is invalid."""
    height, width = xyz.shape[:2]
    rows = np.rint((np.arange(height) - (height - 1) / 2) / y + (height - 1) / 2).astype(int)
    columns = np.rint((np.arange(width) - (width - 1) / 2) / x + (width - 1) / 2).astype(int)
    inside = ((rows >= 0) & (rows < height))[:, None] & ((columns >= 0) & (columns < width))
    picked = xyz[rows.clip(0, height - 1)[:, None], columns.clip(0, width - 1)]
    return np.where(inside[..., None], picked, np.float32(0))


FAULTS: dict[str, Fault] = {
    "none": np.copy,
    "8 px right": lambda xyz: moved(xyz, 8, 0),
    "15 px down": lambda xyz: moved(xyz, 0, 15),
    "30 px left, 10 down": lambda xyz: moved(xyz, -30, 10),
    "stretched 1.1": lambda xyz: stretched(xyz, 1.1, 1.1),
    "stretched 0.9": lambda xyz: stretched(xyz, 0.9, 0.9),
    "4:3 as 1:1": lambda xyz: stretched(xyz, 4 / 3, 1),
    "1:1 as 4:3": lambda xyz: stretched(xyz, 1, 3 / 4),
    "mirrored": lambda xyz: xyz[:, ::-1],
    "turned by 180°": lambda xyz: xyz[::-1, ::-1],
}


def judged(job: tuple[str, int]) -> tuple[str, dict[str, list[bool | None]]]:
    """The class, and by fault whether raw and preprocessed clouds were called aligned; None: could not be judged.

    Args:
        job: name of the class, and seed of its scenes.
    """
    name, seed = job
    scenes = [render_scene(name, None, SIZE, [seed, index]) for index in range(SAMPLES)]
    masks = [object_mask(scene.xyz, np.random.default_rng(index)) for index, scene in enumerate(scenes)]
    clean = [np.where(mask[..., None], scene.xyz, np.float32(0)) for scene, mask in zip(scenes, masks, strict=True)]
    found: dict[str, list[bool | None]] = {}
    for fault, plant in FAULTS.items():
        for clouds in ([scene.xyz for scene in scenes], clean):
            pairs = [
                edge_maps(scene.rgb, np.ascontiguousarray(plant(xyz)))
                for scene, xyz in zip(scenes, clouds, strict=True)
            ]
            found.setdefault(fault, []).append(align(pairs).aligned)
    return name, found


def main(argv: list[str] | None = None) -> int:
    """Run and print a table in Markdown."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=positive_int, default=3, help="sets of scenes a class (default: 3)")
    parser.add_argument("--workers", type=positive_int, default=available_cores(), help="processes")
    args = parser.parse_args(argv)
    jobs = [(name, FIRST_SEED + seed) for seed in range(args.seeds) for name in OBJECT_CLASSES]
    verdicts: dict[str, dict[str, list[bool | None]]] = {
        fault: {name: [] for name in OBJECT_CLASSES} for fault in FAULTS
    }
    for name, found in tqdm(run_parallel(judged, jobs, args.workers), total=len(jobs), unit="class"):
        for fault, aligned in found.items():
            verdicts[fault][name] += aligned
    print("| fault | all |", *(f" {name} |" for name in OBJECT_CLASSES), sep="")
    print("|---|---:|", "---:|" * len(OBJECT_CLASSES), sep="")
    for fault, by_class in verdicts.items():
        every = [aligned for found in by_class.values() for aligned in found]
        print(f"| {fault} |", *(f" {_counts(found)} |" for found in (every, *by_class.values())), sep="")
    return 0


def _counts(aligned: list[bool | None]) -> str:
    unknown = aligned.count(None)
    return f"{aligned.count(False)} of {len(aligned)}" + (f", {unknown} not judged" if unknown else "")


if __name__ == "__main__":
    raise SystemExit(cli.run(main))
