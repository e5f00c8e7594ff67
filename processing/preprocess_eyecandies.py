"""Convert raw Eyecandies to RGB, point cloud and mask in the layout of MVTec 3D-AD, without background.

Writes a new folder. After a stop, the same command continues.
"""

import argparse
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))


from processing.bulk import process, summary, without_source
from processing.eyecandies.files import Conversion, convert, find_jobs
from processing.manifest import check_folders
from utils.argument_types import positive_int
from utils.cli import run
from utils.errors import UserError
from utils.files import locked
from utils.parallel import available_cores


def parse_args(argv: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add = parser.add_argument
    add("--dataset_path", type=Path, required=True, help="root of raw Eyecandies, with one folder a class")
    add("--target_dir", type=Path, required=True, help="new folder to write")
    add("--workers", type=positive_int, default=available_cores(), help="processes (default: all cores)")
    return parser.parse_args(argv)


def main(argv: list[str] | None = None) -> int:
    args = parse_args(argv)
    source, target, done = args.dataset_path, args.target_dir, Conversion()
    check_folders(source, target, False, done)
    problems: list[str] = []
    jobs = find_jobs(source, target, problems)
    if not jobs:
        raise UserError(problems[0] if problems else f"{source}: no sample found in the class folders.")
    with locked(target):
        problems += without_source(target, jobs)
        finished = process(convert, jobs, target, done, args.workers, problems)
    if any(source.glob("*/test_private")):
        print("test_private was left out: its labels are not public.")
    print(summary(target, finished, jobs[0].name.split("/")[0], problems, options=" --mapper mlp_big"))
    return 0


if __name__ == "__main__":
    raise SystemExit(run(main))
