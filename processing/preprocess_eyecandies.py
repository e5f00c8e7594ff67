"""Convert raw Eyecandies to RGB, point cloud and mask in the layout of MVTec 3D-AD, without background.

Writes a new folder. After a stop, the same command continues.
"""

import argparse
import sys
from contextlib import closing
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import numpy as np
from tqdm import tqdm

from processing.eyecandies_files import Conversion, convert, find_jobs
from processing.manifest import check_folders, write_manifest
from utils.cli import positive_int, run
from utils.errors import UserError
from utils.files import remove_leftovers
from utils.parallel import available_cores, run_parallel


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
    shares = {job.name: share for job in jobs if (share := job.finished_share()) is not None}
    pending = [job for job in jobs if job.name not in shares]
    if pending:
        remove_leftovers(target)
        write_manifest(target, done, False, shares)
    try:
        with closing(run_parallel(convert, pending, args.workers)) as finished:
            for outcome in tqdm(finished, total=len(pending), desc="converting", unit="sample", disable=not pending):
                if outcome.share is not None:
                    shares[outcome.name] = outcome.share
                if outcome.problem is not None:
                    problems.append(outcome.problem)
    except OSError as error:
        raise UserError(
            f"{target}: cannot write ({error}). Free space or fix the permissions; what is finished is kept: run the "
            "same command again."
        ) from error
    if any(source.glob("*/test_private")):
        print("test_private was left out: its labels are not public.")
    if shares:
        write_manifest(target, done, not problems, shares)
    report(target, shares, len(pending), problems)
    return 0


def report(target: Path, shares: dict[str, float], pending: int, problems: list[str]) -> None:
    """Print the result and the next command. Raises UserError if anything could not be converted."""
    if problems:
        listed = "\n  ".join(problems[:20] + ["…"] * (len(problems) > 20))
        raise UserError(
            f"{len(problems)} samples could not be converted, {len(shares)} are finished in {target}:\n  {listed}\n"
            "Repair or remove them and run the same command again."
        )
    if not shares:
        raise UserError(f"no sample found in the class folders. Check --dataset_path; {target} stays empty.")
    lowest = min(shares, key=shares.__getitem__)
    print(f"{target}: {pending} samples converted, {len(shares) - pending} were finished before.")
    print(f"Valid points: {np.median(list(shares.values())):.1%} (median); fewest {shares[lowest]:.1%} in {lowest}.")
    name = min(shares).split("/")[0]
    print(f"Next: python cfm_training.py --dataset_path {target} --class_name {name} --mapper mlp_big")


if __name__ == "__main__":
    raise SystemExit(run(main))
