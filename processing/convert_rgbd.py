"""Convert your own RGB + depth images, or organised point clouds, to the layout of MVTec 3D-AD, without background.

Where the files are is said by patterns with the fields {class}, {split}, {defect} and {stem}, in quotes; * stands for
any part of a name. Fields that are not in the patterns come from --class_name, --split and --defect. Example:

  python processing/convert_rgbd.py --class_name bolt --target_dir datasets/bolts \\
      --rgb 'scans/{split}/{defect}/{stem}_color.png' --depth 'scans/{split}/{defect}/{stem}_depth.png' \\
      --gt 'scans/{split}/{defect}/{stem}_mask.png' --intrinsics scans/camera.json

Writes a new folder. After a stop, the same command continues; further calls add to the same folder.
"""

import argparse
import glob
import math
import shlex
import sys
from collections import Counter
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import numpy as np

from datasets.readers import read_xyz
from processing.bulk import process, summary, without_source
from processing.camera_files import Intrinsics
from processing.manifest import check_folders
from processing.rgbd_depth import extent
from processing.rgbd_files import convert
from processing.rgbd_jobs import Conversion, Job, find_jobs, of_earlier_calls, read_inputs
from utils.cli import positive, positive_int, run, seed
from utils.errors import UserError
from utils.files import locked
from utils.parallel import available_cores


def unit(text: str) -> float:
    """An argparse type: m, mm or a number above 0 → metres."""
    try:
        return {"m": 1.0, "mm": 0.001}.get(text) or positive(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(f"expected m, mm or a number of metres, got {text}") from error


def invalid(text: str) -> float | str:
    """An argparse type: a finite number, or "maximum"."""
    if text != "maximum" and not math.isfinite(float(text)):
        raise argparse.ArgumentTypeError("NaN and infinity are invalid anyway")
    return text if text == "maximum" else float(text)


def parse_args(argv: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add = parser.add_argument
    add("--rgb", metavar="PATTERN", required=True, help="colour images, 8-bit PNG, JPEG, TIFF or BMP; they are copied")
    geometry = parser.add_mutually_exclusive_group(required=True)
    geometry.add_argument("--depth", metavar="PATTERN", help="depth along the optical axis: 16-bit PNG, TIFF or NPY")
    geometry.add_argument("--xyz", metavar="PATTERN", help="organised clouds: TIFF or NPY (h, w, 3), PLY, PCD")
    add("--gt", metavar="PATTERN", help="masks, > 0 on the defect, of every test sample with a defect or of none")
    camera = parser.add_mutually_exclusive_group()
    camera.add_argument("--intrinsics", metavar="FILE", help="for --depth: the camera's JSON or YAML, or a pattern")
    camera.add_argument("--camera", type=float, nargs=4, metavar=("FX", "FY", "CX", "CY"), help="instead, in pixels")
    add("--class_name", metavar="NAME", help="of the part, where --rgb has no {class}")
    add("--split", help="train, validation or test, where --rgb has no {split} (default: train)")
    add("--defect", help="good, or the defect's name, where --rgb has no {defect} (default: good)")
    add("--unit", type=unit, help="of depth or cloud: m, mm, or a number of metres; not needed if --intrinsics says it")
    skipped = (
        "a stored z that means 'not measured', besides 0, NaN and infinity; maximum = the largest of the file's type"
    )
    add("--invalid", type=invalid, metavar="VALUE", help=skipped)
    add(
        "--background",
        choices=("plane", "depth-range", "mask", "none"),
        default="plane",
        help="what is cut away: plane = the flat ground that fills the image's border, and all but the largest thing "
        "on it; depth-range = what is outside of --depth_range; mask = what is outside of --foreground; none = nothing "
        "(default: plane)",
    )
    add("--depth_range", type=positive, nargs=2, metavar=("NEAR", "FAR"), help="of the object, metres from the camera")
    add("--foreground", metavar="PATTERN", help="images of the RGB's size, > 0 = object; or one file for all")
    add("--target_dir", type=Path, required=True, help="folder to write: new, or of an earlier call")
    add("--workers", type=positive_int, default=available_cores(), help="processes (default: all cores)")
    add("--seed", type=seed, default=0, help="of the plane search, 0 to 2^63 - 1 (default: 0)")
    args = parser.parse_args(argv)
    check_options(args)
    return args


def check_options(args: argparse.Namespace) -> None:
    """Raise UserError for options that do not go together."""
    for option, value, wanted, when in (
        ("--intrinsics or --camera", args.intrinsics or args.camera, args.depth is not None, "--depth"),
        ("--depth_range", args.depth_range, args.background == "depth-range", "--background depth-range"),
        ("--foreground", args.foreground, args.background == "mask", "--background mask"),
    ):
        if (value is not None) != wanted:
            raise UserError(f"{option}: expected {'with' if wanted else 'only with'} {when}. Add it, or leave it out.")
    if args.xyz is not None and args.unit is None:
        raise UserError(
            "--unit: expected with --xyz, since the unit is never assumed. Pass m, mm or a number of metres."
        )
    if args.depth_range is not None and args.depth_range[0] >= args.depth_range[1]:
        raise UserError(f"--depth_range: expected NEAR below FAR, found {args.depth_range}. Both are in metres.")
    if args.camera is not None and not (np.isfinite(args.camera).all() and min(args.camera[:2]) > 0):
        raise UserError(f"--camera: expected FX and FY above 0, all in pixels, found {args.camera}.")


def main(argv: list[str] | None = None) -> int:
    args = parse_args(argv)
    target, problems = args.target_dir, list[str]()
    depth_range = args.depth_range and (args.depth_range[0], args.depth_range[1])
    done = Conversion(
        seed=args.seed, background=args.background, depth_range=depth_range, unit=args.unit, invalid=args.invalid
    )
    texts = {kind: getattr(args, kind) for kind in ("rgb", "depth", "xyz", "gt", "foreground", "intrinsics")}
    given = {"class": args.class_name, "split": args.split, "defect": args.defect}
    inputs = read_inputs(texts, given, Intrinsics(*args.camera) if args.camera else None)
    for folder in inputs.folders():
        check_folders(folder, target, False, done)
    jobs = find_jobs(inputs, target, done, problems)
    if any(job.done.camera is not None and job.done.camera.distorted for job in jobs):
        print("warning: lens distortion in --intrinsics is not applied. If it is strong, undistort the images first.")
    folders = Counter(job.folder for job in jobs)
    print("Found:", ", ".join(f"{folder} {count}" for folder, count in folders.items()))
    with locked(target):
        problems += [text for folder in folders for text in without_source(target, jobs, glob.escape(folder))]
        finished = process(convert, jobs, target, done, args.workers, problems, of_earlier_calls(target, jobs))
    text = summary(target, finished, jobs[0].folder.split("/")[0], problems)
    if unfinished := list(finished.listed.values()).count(None):
        print(f"warning: {unfinished} samples of earlier calls are not finished. Repeat those calls.")
    print(extents(jobs), f"Check: python processing/check_dataset.py {shlex.quote(str(target))}", text, sep="\n")
    return 0


def extents(jobs: list[Job]) -> str:
    """The size of the parts in words, from 20 samples at most; a wrong unit shows in it."""
    chosen = jobs[:: -(-len(jobs) // 20)]
    sizes = np.array([extent(read_xyz(job.target / job.name)) for job in chosen]) * 100
    width, height, depth = np.median(sizes, axis=0)
    return (
        f"Size of what is left: {width:.3g} × {height:.3g} × {depth:.3g} cm (width × height × depth, median of "
        f"{len(chosen)} samples). If the part has another size, --unit or the camera is wrong."
    )


if __name__ == "__main__":
    raise SystemExit(run(main))
