"""Preparing data is killed at random changes of files, and started again: the same bytes, and never half a file.

A process that has the imports behind it forks one child a run, so that tens of kills take seconds.
"""

import json
import os
import random
import shutil
import subprocess
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import tifffile
from PIL import Image

from processing import convert_rgbd, preprocess_eyecandies, preprocess_mvtec
from tests.forks import count_changes, run_or_kill
from tests.processing.tools import tree

ROOT = Path(__file__).resolve().parents[2]
GOLDEN = ROOT / "tests" / "golden" / "eyecandies"
KILLS = 12  # of each command
MANIFEST = "preprocessing.json"


def raw_scans(root: Path) -> None:
    """Four samples of a class: a dome on a tilted plane."""
    rng = np.random.default_rng(0)
    v, u = np.mgrid[:48, :64] * 1e-3
    for part, count in (("train/good", 2), ("test/good", 1), ("test/hole", 1)):
        for index in range(count):
            dome = 0.02 * np.clip(1 - ((v - 0.024) ** 2 + (u - 0.032) ** 2) / 0.016**2, 0, 1)
            xyz = np.stack([u - 0.021, v - 0.013, 0.6 + 0.05 * u - dome + rng.normal(0, 4e-5, u.shape)], axis=-1)
            folder = root / "part" / part
            for kind in ("rgb", "xyz", "gt"):
                (folder / kind).mkdir(parents=True, exist_ok=True)
            tifffile.imwrite(folder / f"xyz/{index:03d}.tiff", xyz.astype(np.float32), photometric="rgb")
            Image.fromarray(rng.integers(0, 256, (48, 64, 3), np.uint8)).save(folder / f"rgb/{index:03d}.png")
            Image.fromarray(np.uint8(255) * (dome > 0.01)).save(folder / f"gt/{index:03d}.png")
        if part != "test/hole":
            shutil.rmtree(root / "part" / part / "gt")


def raw_candies(root: Path) -> None:
    """Four samples of a class: the golden depth image."""
    data = root / "Lollipop/train/data"
    data.mkdir(parents=True)
    for index in range(4):
        for key in ("depth.png", "info_depth.yaml", "pose.txt"):
            shutil.copyfile(GOLDEN / f"000_{key}", data / f"{index:03d}_{key}")
        Image.new("RGB", (512, 512), (index, 0, 0)).save(data / f"{index:03d}_image_4.png")


def mvtec(*options: str) -> Callable[[Path, Path], int]:
    return lambda source, target: preprocess_mvtec.main(
        [
            str(source),
            *(("--in_place",) if source == target else ("--target_dir", str(target))),
            "--workers",
            "1",
            *options,
        ]
    )


def eyecandies(source: Path, target: Path) -> int:
    return preprocess_eyecandies.main(["--dataset_path", str(source), "--target_dir", str(target), "--workers", "1"])


def rgbd(source: Path, target: Path) -> int:
    sample = str(source / "part/{split}/{defect}/KIND/{stem}")
    files = {"rgb": "png", "xyz": "tiff", "gt": "png"}
    patterns = [word for kind, end in files.items() for word in (f"--{kind}", f"{sample.replace('KIND', kind)}.{end}")]
    options = ["--class_name", "part", "--unit", "m", "--target_dir", str(target), "--workers", "1"]
    return convert_rgbd.main([*patterns, *options])


COMMANDS: dict[str, tuple[Callable[[Path], None], Callable[[Path, Path], int], bool]] = {
    "mvtec, family b": (raw_scans, mvtec("--family", "b"), False),
    "mvtec, family a": (raw_scans, mvtec("--family", "a"), False),
    "mvtec, family b, in place": (raw_scans, mvtec("--family", "b"), True),
    "mvtec, family a, in place": (raw_scans, mvtec("--family", "a"), True),
    "eyecandies": (raw_candies, eyecandies, False),
    "own data": (raw_scans, rgbd, False),
}
"""Writes a raw dataset; command of (source, target); whether it works in place."""


def check_whole(found: dict[str, bytes], before: dict[str, bytes], after: dict[str, bytes]) -> None:
    """Every file is as the finished run leaves it, or, in place, as it was."""
    for name, content in found.items():
        if name == MANIFEST:
            assert json.loads(content)["complete"] in (False, content == after[name])
        elif not Path(name).name.startswith("."):
            assert content in (after[name], before.get(name)), name


def kill_again_and_again(name: str, folder: Path) -> dict[str, int]:
    """Start a command, kill it at some change of a file, start it again, until it is through; anew until KILLS.

    Returns:
        The number of `kills`, how many of them came while files were being written, and of `runs` that got through.
    """
    make, command, in_place = COMMANDS[name]
    make(folder / "raw")
    before = tree(folder / "raw")
    shutil.copytree(folder / "raw", folder / "copy")
    reference = folder / "copy" if in_place else folder / "reference"
    status, changes = count_changes(lambda: command(folder / "copy", reference))
    assert status == 0
    after = tree(reference)
    rng = random.Random(name)
    kills = midway = runs = 0
    while kills < KILLS:
        source = folder / f"source{runs}"
        shutil.copytree(folder / "raw", source)
        target = source if in_place else folder / f"target{runs}"
        while (ended := run_or_kill(partial(command, source, target), changes, rng)) is None:
            kills += 1
            found = tree(target)
            check_whole(found, before if in_place else {}, after)
            midway += found not in ({}, before, after)
            files = {path: content for path, content in found.items() if not Path(path).name.startswith(".")}
            if in_place and files == after:  # killed when all was done but its traces removed: another run is refused
                break
        else:
            assert ended == 0
            assert tree(target) == after
        assert in_place or tree(source) == before
        runs += 1
    return {"kills": kills, "midway": midway, "runs": runs}


# Slow: each kill takes a run, and fewer of them miss the short moments between two files.
@pytest.mark.slow
def test_killed_runs_end_in_the_same_bytes(tmp_path: Path) -> None:
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1"}
    done = subprocess.run([sys.executable, __file__, str(tmp_path)], env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]
    reports = json.loads(done.stdout.splitlines()[-1])
    assert {*reports} == {*COMMANDS}
    for name, report in reports.items():
        assert report["kills"] >= KILLS, name
        assert report["midway"] >= KILLS // 4, name


if __name__ == "__main__":
    print(json.dumps({name: kill_again_and_again(name, Path(sys.argv[1]) / name) for name in COMMANDS}))
