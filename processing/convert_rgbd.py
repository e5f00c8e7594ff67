"""Convert your own RGB + depth images, or organised point clouds, to the layout of MVTec 3D-AD, without background.

Where the files are is said by patterns with the fields {class}, {split}, {defect} and {stem}, in quotes; * stands for
any part of a name. Fields that are not in the patterns come from --class_name, --split and --defect. Example:

  python processing/convert_rgbd.py --class_name bolt --target_dir datasets/bolts \\
      --rgb 'scans/{split}/{defect}/{stem}_color.png' --depth 'scans/{split}/{defect}/{stem}_depth.png' \\
      --gt 'scans/{split}/{defect}/{stem}_mask.png' --intrinsics scans/camera.json

Writes a new folder. After a stop, the same command continues; further calls add to the same folder.
"""

import glob
import shlex
import sys
from collections import Counter
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from processing.bulk import process, summary, without_source
from processing.manifest import check_folders
from processing.own_data.camera_files import Intrinsics
from processing.own_data.rgbd_files import convert
from processing.own_data.rgbd_jobs import Conversion, find_jobs, of_earlier_calls, read_inputs
from processing.own_data.rgbd_options import parse_args
from processing.own_data.rgbd_results import extents, kept_doubts
from utils.cli import run
from utils.files import locked


def main(argv: list[str] | None = None) -> int:
    args = parse_args(argv, __doc__)
    target, problems = args.target_dir, list[str]()
    depth_range = args.depth_range and (args.depth_range[0], args.depth_range[1])
    done = Conversion(
        seed=args.seed,
        background=args.background,
        depth_range=depth_range,
        unit=args.unit,
        invalid=args.invalid,
        size=args.size and (args.size[1], args.size[0]),
    )
    texts = {kind: getattr(args, kind) for kind in ("rgb", "depth", "xyz", "gt", "foreground", "intrinsics")}
    given = {"class": args.class_name, "split": args.split, "defect": args.defect}
    inputs = read_inputs(texts, given, Intrinsics(*args.camera) if args.camera else None, args.train_share)
    for folder in inputs.folders():
        check_folders(folder, target, False, done)
    jobs = find_jobs(inputs, target, done, problems)
    if any(job.done.camera is not None and job.done.camera.distorted for job in jobs):
        print("warning: lens distortion in --intrinsics is not applied. If it is strong, undistort the images first.")
    folders = Counter(job.folder for job in jobs)
    how = f" (--train_share {args.train_share:g}: good ones evenly spaced by name)" if args.train_share else ""
    print("Found:", ", ".join(f"{folder} {count}" for folder, count in folders.items()) + how)
    with locked(target):
        problems += [text for folder in folders for text in without_source(target, jobs, glob.escape(folder))]
        finished = process(convert, jobs, target, done, args.workers, problems, of_earlier_calls(target, jobs))
    for finding in kept_doubts(jobs, finished.listed):
        print(f"warning: {finding}")
    text = summary(target, finished, jobs[0].folder.split("/")[0], problems)
    if unfinished := list(finished.listed.values()).count(None):
        print(f"warning: {unfinished} samples of earlier calls are not finished. Repeat those calls.")
    print(extents(jobs), f"Check: python processing/check_dataset.py {shlex.quote(str(target))}", text, sep="\n")
    return 0


if __name__ == "__main__":
    raise SystemExit(run(main))
