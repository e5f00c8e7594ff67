"""What each choice of DBMRNet changes: metrics on generated scenes with one choice varied at a time.

    python benchmarks/dbmrnet_ablation.py --json dbmrnet_ablation.json

Each variation of the network trains anew; those of score, fusion and checkpoint share the base's weights. Called
again with the same file, it goes on with the rows that are missing there. Runs on the CPU.
"""

import argparse
import json
import statistics
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from tqdm import tqdm

from benchmarks import machine
from benchmarks.dbmrnet_variations import METRICS, VARIATIONS, Plan, trainings
from benchmarks.scenes import make_scenes
from models.dbmrnet.settings import ModelSettings
from utils import argument_types, cli
from utils.errors import UserError
from utils.files import write_json


def main(argv: list[str] | None = None, plan: Plan | None = None) -> int:
    """Run what is missing and print the table.

    Args:
        argv: the command line.
        plan: another than the published one.
    """
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", type=Path, metavar="OUT", help="write the rows to this file, after every training")
    names = tuple(VARIATIONS)
    parser.add_argument("--only", nargs="+", choices=names, default=names, metavar="NAME", help=", ".join(names))
    parser.add_argument(
        "--seeds", nargs="+", type=argument_types.seed, default=[0], metavar="N", help="one run each (default: 0)"
    )
    args = parser.parse_args(argv)
    plan = plan or Plan()
    described = {**asdict(plan), "classes": list(plan.classes), "model": asdict(ModelSettings(plan.preset))}
    rows = read_rows(args.json, described) if args.json and args.json.exists() else []
    jobs = trainings(plan, args.only, args.seeds, {(row["variation"], row["class"], row["seed"]) for row in rows})
    if jobs:
        from benchmarks.dbmrnet_runs import train_and_evaluate

        with tempfile.TemporaryDirectory() as folder:
            root = make_scenes(Path(folder), *plan.scene_options())
            for job in tqdm(jobs, "ablation", unit="training"):
                rows += train_and_evaluate(job, plan, root, Path(folder) / "checkpoints")
                if args.json:
                    write_json(args.json, {"plan": described, "rows": rows, **machine.describe()})
    chosen = [row for row in rows if row["seed"] in args.seeds]
    print(f"{machine.in_words(machine.describe())}\n\n{table(chosen, args.only)}")
    return 0


def read_rows(path: Path, described: dict[str, Any]) -> list[dict[str, Any]]:
    """The rows of an earlier call.

    Raises:
        UserError: the file is not one of this benchmark, or was made with other settings.
    """
    try:
        report = json.loads(path.read_text(encoding="utf-8"))
        found, rows = report["plan"], list(report["rows"])
    except (ValueError, KeyError, TypeError) as error:
        raise UserError(f"{path}: not a file that this benchmark wrote ({error!r}). Name another one.") from error
    if found != described:
        raise UserError(f"{path}: its rows were made with {found}, now it is {described}. Name another file.")
    return rows


def table(rows: list[dict[str, Any]], names: Sequence[str]) -> str:
    """Markdown: a line for each name, means over the rows of all its classes and seeds."""
    lines = [f"| variation | {' | '.join(METRICS.values())} |", "|---|" + "---:|" * len(METRICS)]
    for name in names:
        chosen = [row for row in rows if row["variation"] == name]
        means = [statistics.mean(row[column] for row in chosen) for column in METRICS]
        lines.append(f"| {name} | " + " | ".join(f"{value:.3f}" for value in means) + " |")
    return "\n".join(lines)


if __name__ == "__main__":
    raise SystemExit(cli.run(main))
