"""Many runs by one command: python sweep.py grids/few_shot.yaml

A grid is a YAML file of options with one value or several; docs/sweeps.md says what it holds. Each job is one of the
other commands, in a process and a folder of its own. A sweep that was stopped goes on where it was; finished jobs are
never done twice. At the end it writes tables and a page to OUTPUT/GRID/.

    python sweep.py GRID              do what is not done yet, then write the tables
    python sweep.py status GRID       how far it is, who works on what, what failed
    python sweep.py tables GRID       tables of what is finished
    python sweep.py job GRID --id ID  one job, as array jobs call it
"""

import argparse
from collections.abc import Callable
from functools import partial
from pathlib import Path

from evaluation.thresholds import DEFAULT_RATE
from models.method import Method
from utils import cli
from utils.argument_types import positive, positive_int

PARSERS: dict[str, Callable[[Method], argparse.ArgumentParser]] = {
    "train.py": cli.training_parser,
    "evaluate.py": partial(cli.inference_parser, default_rate=DEFAULT_RATE),
}


def parse(argv: list[str] | None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "command", nargs="?", choices=("run", "status", "tables", "job"), default="run", help="see above"
    )
    parser.add_argument("grid", type=Path, metavar="GRID", help="a YAML file")
    parser.add_argument(
        "--engine",
        choices=("local", "ray", "slurm"),
        default="local",
        help="who works on the jobs: processes of this machine; tasks of a Ray cluster, if the package is installed; "
        "slurm prints an array job instead (default: %(default)s)",
    )
    parser.add_argument("--jobs", type=positive_int, help="how many at once (default: as many as there is room for)")
    parser.add_argument(
        "--gpus_per_job", type=positive, help="share of a GPU (default: one for each, where there are any)"
    )
    parser.add_argument("--resume", action="store_true", help="try jobs again that failed before")
    parser.add_argument("--dry_run", action="store_true", help="check the grid and print the commands, run none")
    parser.add_argument(
        "--set",
        nargs="+",
        action="extend",
        default=[],
        metavar="NAME=VALUE",
        help="replace options of the grid, or add some, for example class_name=[bagel,rope] device=cpu",
    )
    parser.add_argument(
        "--output",
        type=Path,
        default=Path("./results/sweeps"),
        help="folder of jobs and tables; grids that share jobs share them here (default: %(default)s)",
    )
    parser.add_argument("--address", help="of a running Ray cluster (default: RAY_ADDRESS, else a Ray of its own)")
    parser.add_argument("--id", help="of the job that `job` is to work on")
    return parser.parse_args(argv)


def main(argv: list[str] | None = None) -> int:
    """Parse, then sweep."""
    options = parse(argv)
    from sweeps.run import COMMANDS

    return COMMANDS[options.command](options, PARSERS)


if __name__ == "__main__":
    raise SystemExit(cli.run(main))
