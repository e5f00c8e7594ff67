"""All that a GPU is to answer in one run: routines, tests, expected values, speed, memory, runs that stop and go on.

    bash benchmarks/on_gpu.sh WHEELS        installs what is missing and calls this

Each step runs in a process of its own and passes, fails or is skipped, with a reason. Left behind: on_gpu.json with all
figures, written anew after each step, and on_gpu.log with all that was printed. Exit status: 0 nothing failed, 1 a step
failed, 2 unusable options.
"""

import argparse
import os
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks import gpu_steps
from benchmarks.gpu_task import Task
from utils import cli
from utils.argument_types import device_name, positive
from utils.files import write_json

MINUTES = 6.0
STEP_SECONDS = 150.0  # the most that one step gets, so that one that hangs leaves time to the others


def parse(argv: list[str] | None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--device",
        type=device_name,
        metavar="{cuda,cuda:N,cpu}",
        default="cuda",
        help="cpu: the CPU takes the GPU's place, to try the steps (default: %(default)s)",
    )
    parser.add_argument("--small", action="store_true", help="small sizes, to try the steps")
    parser.add_argument("--only", nargs="+", choices=tuple(gpu_steps.STEPS), metavar="STEP", help="some of the steps")
    parser.add_argument(
        "--minutes", type=positive, default=MINUTES, help="after which nothing runs any more (default: %(default)s)"
    )
    parser.add_argument(
        "--out",
        type=Path,
        default=Path("./results/on_gpu"),
        help="folder of JSON and log (default: %(default)s)",
    )
    parser.add_argument("--step", choices=tuple(gpu_steps.STEPS), help=argparse.SUPPRESS)
    return parser.parse_args(argv)


def main(argv: list[str] | None = None) -> int:
    """Run the steps one after the other."""
    args = parse(argv)
    if args.step:
        # Not by the interpreter's way out: a broken GPU context must not change how the step ended.
        status = gpu_steps.run_here(Task(args.device, args.small, args.out, args.step))
        sys.stdout.flush()
        os._exit(status)
    start = time.monotonic()
    args.out.mkdir(parents=True, exist_ok=True)
    report: dict[str, Any] = {"command": sys.argv if argv is None else argv, "date": time.strftime("%Y-%m-%d %H:%M")}
    report |= {"device": args.device, "small": args.small, "steps": {}}
    with (args.out / "on_gpu.log").open("w", encoding="utf-8") as log, tempfile.TemporaryDirectory() as folder:

        def say(line: str) -> None:
            print(line, flush=True)
            print(line, file=log, flush=True)

        for name in args.only or gpu_steps.STEPS:
            left = 60 * args.minutes - (time.monotonic() - start)
            say(f"== {name}, after {time.monotonic() - start:.0f} s")
            if left > 0:
                outcome = gpu_steps.run_apart(
                    Task(args.device, args.small, Path(folder), name), min(left, STEP_SECONDS), say
                )
            else:
                outcome = {"status": "skipped", "reason": f"the {args.minutes:g} minutes are over", "seconds": 0.0}
            say(f"== {name}: {outcome['status']}{': ' * bool(outcome['reason'])}{outcome['reason']}")
            report["steps"][name] = outcome
            report["seconds"] = round(time.monotonic() - start, 1)
            write_json(args.out / "on_gpu.json", report)
        for line in summary(report):
            say(line)
    return int(any(outcome["status"] == "failed" for outcome in report["steps"].values()))


def summary(report: dict[str, Any]) -> list[str]:
    """A line a step, then a line a figure that has a target."""
    lines = ["", "summary"]
    for name, outcome in report["steps"].items():
        lines.append(f"{outcome['status']:8} {name}, {outcome['seconds']:.0f} s  {outcome['reason']}".rstrip())
    for outcome in report["steps"].values():
        for answer in outcome.get("answers", []):
            if answer.get("target") is not None:
                floor = "" if answer["floor"] is None else f", arithmetic alone {answer['floor']:.4g}"
                verdict = "reached" if answer["reached"] else "missed"
                shown = f"{answer['figure']}: {answer['value']:.4g} {answer['unit']}"
                lines.append(f"{verdict:8} {shown}, target {answer['target']:g}{floor}")
    return [*lines, f"{report['seconds']:.0f} s in all"]


if __name__ == "__main__":
    raise SystemExit(cli.run(main))
