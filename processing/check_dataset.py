"""Tell whether a dataset is complete and sane: `python processing/check_dataset.py datasets/mvtec3d`.

Takes raw and preprocessed datasets in the layout of MVTec 3D-AD, and the raw release of Eyecandies. Changes nothing.
Exit status: 0 = sane (there may be notes), 1 = problems were found, 2 = it could not be checked.
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from processing.checks import dataset_checks, raw_eyecandies
from processing.checks.check_report import as_json, columns, save_contact_sheet, table
from processing.checks.findings import Finding
from utils.argument_types import positive_int
from utils.cli import run
from utils.files import write_json
from utils.parallel import available_cores


def parse_args(argv: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add = parser.add_argument
    add("dataset_path", type=Path, help="root of the dataset, with one folder a class")
    add("--classes", nargs="+", metavar="NAME", help="check these classes only (default: all)")
    add("--json", type=Path, metavar="FILE", help="also write everything that was measured to this file")
    add(
        "--contact_sheet",
        type=Path,
        metavar="FILE",
        help="picture with two samples of each class (default: results/check_DATASET.png)",
    )
    add("--workers", type=positive_int, default=available_cores(), help="processes (default: all cores)")
    return parser.parse_args(argv)


def main(argv: list[str] | None = None) -> int:
    args = parse_args(argv)
    root: Path = args.dataset_path
    if raw_eyecandies.is_raw_eyecandies(root):
        return _check_raw_eyecandies(args)
    classes, findings = dataset_checks.check(root, args.classes, args.workers)
    findings = [*findings, *(finding for one in classes for finding in one.findings)]
    print(table(classes))
    if args.json:
        figures = [figures for one in classes for figures in one.figures]
        write_json(args.json, as_json(root, {one.name: one.as_json() for one in classes}, findings, figures))
    sheet = args.contact_sheet or Path("results") / f"check_{root.resolve().name}.png"
    save_contact_sheet(sheet, classes, f"{root}: one row a class")
    print(f"Pictures: {sheet}")
    status = report(findings)
    if status == 0 and all(one.state == "raw" for one in classes):
        print(f"Raw data. Next: python processing/preprocess_mvtec.py {root}")
    elif status == 0:
        print(f"Next: python cfm_training.py --dataset_path {root} --class_name {classes[0].name}")
    return status


def _check_raw_eyecandies(args: argparse.Namespace) -> int:
    root: Path = args.dataset_path
    counts, findings = raw_eyecandies.check(root, args.classes, args.workers)
    splits = list(next(iter(counts.values())))
    print(
        columns(
            [["class", *splits], *([name, *(str(found[split]) for split in splits)] for name, found in counts.items())]
        )
    )
    if args.json:
        write_json(args.json, as_json(root, {name: {"counts": found} for name, found in counts.items()}, findings))
    status = report(findings)
    print(
        "The raw release of Eyecandies. "
        f"Next: python processing/preprocess_eyecandies.py --dataset_path {root} --target_dir {root}_preprocessed"
    )
    return status


def report(findings: Sequence[Finding]) -> int:
    """Print problems, then notes; the exit status that they mean."""
    problems = [finding for finding in findings if finding.problem]
    notes = [finding for finding in findings if not finding.problem]
    for title, listed in (("Problems", problems), ("Notes", notes)):
        if listed:
            print(f"{title}:", *(f"  {finding}" for finding in listed), sep="\n")
    print(f"{len(problems)} problems, {len(notes)} notes.")
    return 1 if problems else 0


if __name__ == "__main__":
    raise SystemExit(run(main))
