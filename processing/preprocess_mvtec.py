"""Remove the background of a raw dataset: MVTec 3D-AD, or one laid out like it.

Writes a new folder beside it, by default DATASET_PATH_preprocessed. After a stop, the same command continues.
"""

import argparse
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))


from datasets.mvtec3d import missing_samples
from datasets.raw_scans import is_raw
from datasets.readers import read_xyz
from datasets.records import SPLITS, class_names, scan
from processing.background.clean_files import NO_PLANE, Job, clean, copy_extras
from processing.bulk import process, summary, without_source
from processing.manifest import Preprocessing, check_folders, read_manifest
from utils.argument_types import positive_int, seed
from utils.cli import run
from utils.errors import UserError
from utils.files import locked
from utils.parallel import available_cores


def parse_args(argv: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("dataset_path", type=Path, help="root of the raw dataset, with one folder a class")
    where = parser.add_mutually_exclusive_group()
    where.add_argument("--target_dir", type=Path, help="new folder to write (default: DATASET_PATH_preprocessed)")
    where.add_argument("--in_place", action="store_true", help="overwrite the raw files instead")
    parser.add_argument(
        "--family",
        choices=("b", "a"),
        default="b",
        help="b (CFM, DBMRNet): only the clouds change; a (BTF, Shape-Guided, newer M3DM): the RGB's background turns "
        "black too, and RGB and masks are padded to squares (default: b)",
    )
    parser.add_argument(
        "--workers", type=positive_int, default=available_cores(), help="processes (default: all cores)"
    )
    parser.add_argument("--seed", type=seed, default=0, help="of the plane search, 0 to 2^63 - 1 (default: 0)")
    return parser.parse_args(argv)


def main(argv: list[str] | None = None) -> int:
    args = parse_args(argv)
    source = args.dataset_path
    target = source if args.in_place else args.target_dir or default_target(source)
    done = Preprocessing(args.family, args.seed)
    check_folders(source, target, args.in_place, done)
    problems: list[str] = []
    jobs = find_jobs(source, target, done, problems)
    if read_manifest(target) is None:
        check_raw(jobs)
    with locked(target):
        if not args.in_place:
            problems += without_source(target, jobs)
        copy_extras(source, target)
        finished = process(clean, jobs, target, done, args.workers, problems)
    print(summary(target, finished, jobs[0].record.class_name, problems))
    return 0


def default_target(source: Path) -> Path:
    """`source` with "_preprocessed" added to its name."""
    source = source.resolve() if source.name in ("", "..") else source
    return source.with_name(f"{source.name}_preprocessed")


def find_jobs(source: Path, target: Path, done: Preprocessing, problems: list[str]) -> list[Job]:
    """All samples of all classes and splits; incomplete ones go to `problems`."""
    names = class_names(source)
    records = [
        record
        for name in names
        for split in SPLITS
        if (source / name / split).is_dir()
        for record in scan(source, name, split, problems)
    ]
    found = {name: sum(record.class_name == name for record in records) for name in names}
    for name, count in missing_samples(found).items():
        print(f"warning: {name} has {count} samples fewer than the MVTec 3D-AD release; is the download complete?")
    return [Job(record, source, target, done) for record in records]


def check_raw(jobs: list[Job]) -> None:
    """Stop at once where the first, the middle and the last cloud lack the background plane."""
    probes = {job.name: job.record.xyz for job in (jobs[:1] + jobs[len(jobs) // 2 :][:1] + jobs[-1:])}
    try:
        cleaned = probes and not any(is_raw(read_xyz(path)) for path in probes.values())
    except UserError:
        return  # reported with its file later
    if cleaned:
        raise UserError(
            f"{next(iter(probes.values()))}: {NO_PLANE}: already preprocessed (use it as it is), or no raw scan. Cut "
            "along another plane, the object would lose a part."
        )


if __name__ == "__main__":
    raise SystemExit(run(main))
