"""What several tests of data preparation need."""

import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import tifffile
from PIL import Image

from processing import convert_rgbd

ROOT = Path(__file__).resolve().parents[2]
LAYOUT = "{split}/{defect}/{stem}"
KILLED = """
import os, signal, sys
from processing import bulk, COMMAND
samples = bulk.run_parallel


def doomed(*arguments):
    for number, sample in enumerate(samples(*arguments), 1):
        if number == DONE:
            os.kill(os.getpid(), signal.SIGKILL)
        yield sample


bulk.run_parallel = doomed
COMMAND.main(sys.argv[1:])
"""


def kill_with_workers(command: str, words: list[str], done: int) -> None:
    """Run a command of `processing` that is killed when so many samples are done, until its workers have ended too."""
    code = KILLED.replace("COMMAND", command).replace("DONE", str(done))
    ended = subprocess.run([sys.executable, "-c", code, *words, "--workers", "2"], cwd=ROOT, capture_output=True)
    assert ended.returncode == -signal.SIGKILL  # the output that has ended is that of the workers too


def tree(root: Path) -> dict[str, bytes]:
    """Content of each file by its path below `root`."""
    return {path.relative_to(root).as_posix(): path.read_bytes() for path in root.rglob("*") if path.is_file()}


def save(path: Path, array: np.ndarray) -> None:
    """Write an array as its suffix says: NPY, TIFF or an image."""
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.suffix == ".npy":
        np.save(path, array)
    elif path.suffix == ".tiff":
        tifffile.imwrite(path, array, photometric="rgb" if array.ndim == 3 else "minisblack")
    else:
        Image.fromarray(array).save(path)


def lzf(data: bytes, references: bool = True) -> bytes:
    """Data in the format of LZF: runs of 1 to 32 bytes, and references to 3 to 264 bytes up to 8192 earlier."""
    packed, run, seen, place = bytearray(), bytearray(), dict[bytes, int](), 0

    def end_run() -> None:
        for start in range(0, len(run), 32):
            packed.append(len(run[start : start + 32]) - 1)
            packed.extend(run[start : start + 32])
        run.clear()

    while place < len(data):
        key = data[place : place + 3]
        earlier, length = seen.get(key, -1), 0
        seen[key] = place
        if references and len(key) == 3 and earlier >= 0 and place - earlier <= 8192:
            while length < min(264, len(data) - place) and data[earlier + length] == data[place + length]:
                length += 1
        if length < 3:
            run.append(data[place])
            place += 1
            continue
        end_run()
        offset, longer = place - earlier - 1, length - 2
        packed += bytes([min(longer, 7) << 5 | offset >> 8, *([longer - 7] if longer >= 7 else []), offset & 255])
        place += length
    end_run()
    return bytes(packed)


def compressed(blocks: list[np.ndarray], references: bool = True) -> bytes:
    """What follows the header of a PCD in binary_compressed: two sizes, and the fields one after the other."""
    data = b"".join(block.tobytes() for block in blocks)
    packed = lzf(data, references)
    return len(packed).to_bytes(4, "little") + len(data).to_bytes(4, "little") + packed


def pack_colours(rgb: np.ndarray) -> np.ndarray:
    """(…, 3) uint8 -> uint32 0xffRRGGBB, as the Point Cloud Library packs them."""
    red, green, blue = np.moveaxis(rgb.astype(np.uint32), -1, 0)
    return np.uint32(0xFF000000) | red << 16 | green << 8 | blue


def valid(cloud: np.ndarray) -> np.ndarray:
    """(h, w) bool, True where a point is valid."""
    return (cloud != 0).all(axis=-1)


def convert(root: Path, *options: Any, only: str = LAYOUT, gt: str | bool = LAYOUT) -> int:
    """Convert the files of the fixture `realsense` to the folder "out" beside them; gt: pattern, False = no masks."""
    command = ["--rgb", f"{root}/{only}_color.png", "--depth", f"{root}/{only}_depth.png", "--workers", "1"]
    command += ["--gt", f"{root}/{gt}_mask.png"] if gt else []
    if "--camera" not in options and "--intrinsics" not in options:
        command += ["--intrinsics", f"{root}/camera.json"]
    defaults = ["--class_name", "bolt", "--target_dir", str(root.with_name("out"))]
    return convert_rgbd.main([*command, *defaults, *map(str, options)])
