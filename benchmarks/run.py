"""Time the project against the plain implementation, or another baseline, in one run on one machine.

    python benchmarks/run.py --what inference --json inference.json

Every case runs in a process of its own: a warm-up, then the median of several repetitions; peak memory is that of the
process, imports and inputs included. benchmarks/README.md says what each kind measures.
"""

import argparse
import json
import shlex
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from tqdm import tqdm

from benchmarks import machine, one_class
from benchmarks.kinds import CELLS, KINDS
from benchmarks.measure import Setting, call, in_fresh_process, measure
from utils import cli
from utils.argument_types import device_name
from utils.errors import UserError
from utils.files import write_json

PEER_SCRIPT = Path(__file__).resolve().with_name("peer_anomalib.py")
PEER_KINDS = ("inference", "training")


def parse(argv: list[str] | None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--what", choices=tuple(KINDS), required=True, help="what to time")
    parser.add_argument("--json", type=Path, metavar="OUT", help="also write the figures to this file")
    parser.add_argument(
        "--device",
        type=device_name,
        metavar="{auto,cpu,cuda,cuda:N}",
        default="auto",
        help="of extraction, inference, training, dbmrnet and stages; plain stays on the CPU (default: %(default)s)",
    )
    parser.add_argument(
        "--extractor",
        choices=("dino_pointmae", "cnn_normals"),
        default="dino_pointmae",
        help="extraction, inference, training: cnn_normals adds its rows to the paper's (default: %(default)s)",
    )
    parser.add_argument("--full", action="store_true", help="preprocessing: also Open3D at 800 px, about ten minutes")
    parser.add_argument("--peer", choices=("anomalib",), help="inference, training: also time this package's CFM")
    parser.add_argument("--peer_python", type=Path, metavar="FILE", help="Python of the environment that has it")
    args = parser.parse_args(argv)
    if args.extractor != "dino_pointmae" and args.what not in CELLS:
        parser.error(f"--extractor {args.extractor} goes with --what {', '.join(CELLS)}")
    if bool(args.peer) != bool(args.peer_python) or (args.peer and args.what not in PEER_KINDS):
        parser.error(f"--peer and --peer_python go together, with --what {' or '.join(PEER_KINDS)}")
    return args


def main(argv: list[str] | None = None) -> int:
    """Run the cases of --what and print a table."""
    args = parse(argv)
    kind = KINDS[args.what]
    cases = {name: case for name, case in kind.cases.items() if args.full or not case.full}
    cases |= CELLS[args.what] if args.extractor == "cnn_normals" else {}
    with tempfile.TemporaryDirectory() as folder:
        setting = Setting(args.device, Path(folder))
        if kind.prepare:
            in_fresh_process(call, kind.prepare, setting)
        rows = {
            name: in_fresh_process(measure, case, setting) for name, case in tqdm(cases.items(), args.what, unit="case")
        }
        if args.peer:
            rows[args.peer] = measure_peer(args.what, args.peer_python, setting)
    add_ratios(rows)
    report = {
        "what": args.what,
        "command": shlex.join(["python", "benchmarks/run.py", *(sys.argv[1:] if argv is None else argv)]),
        "date": time.strftime("%Y-%m-%d"),
        "timed": f"seconds per {kind.unit}: {kind.timed}",
        "cases": rows,
        **({"one_class": one_class.extrapolate(args.what, rows)} if args.what in one_class.EPOCHS else {}),
        **machine.describe(),
    }
    print_report(report)
    if args.json:
        write_json(args.json, report)
    return 0


def measure_peer(what: str, python: Path, setting: Setting) -> dict[str, Any]:
    """The row of anomalib's CFM, measured by peer_anomalib.py in its own environment on the same generated samples."""
    samples = setting.folder / "samples.npz"
    device = in_fresh_process(call, "cases.write_batch", setting, samples, what)
    command = [str(python), str(PEER_SCRIPT), "--what", what, "--device", device, str(samples)]
    try:
        ran = subprocess.run(command, capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError) as error:
        reason = error.stderr[-2000:] if isinstance(error, subprocess.CalledProcessError) else error
        raise UserError(f"--peer_python {python}: expected a Python that can run anomalib's CFM:\n{reason}") from error
    return {**json.loads(ran.stdout.splitlines()[-1]), "baseline": "plain"}


def add_ratios(rows: dict[str, dict[str, Any]]) -> None:
    """Add to each row `ratio`: seconds of its baseline over its own, None without one."""
    for row in rows.values():
        baseline = rows.get(row["baseline"])
        row["ratio"] = round(baseline["seconds"] / row["seconds"], 2) if baseline else None


def print_report(report: dict[str, Any]) -> None:
    """The report as Markdown."""
    print(f"{report['what']}, {report['date']}: `{report['command']}`\n{machine.in_words(report)}\n{report['timed']}\n")
    print("| case | device | seconds | baseline / case | peak GiB | GPU GiB |\n|---|---|---:|---:|---:|---:|")
    for name, row in report["cases"].items():
        ratio, gpu = (row[key] if row[key] is not None else "" for key in ("ratio", "gpu_gib"))
        print(f"| {name} | {row['device']} | {row['seconds']:.4g} | {ratio} | {row['peak_gib']:.2f} | {gpu} |")
    for name, row in report["cases"].items():
        if row["figures"]:
            print(f"\n{name}: {json.dumps(row['figures'])}")
    for precision, seconds in report.get("one_class", {}).items():
        print(f"\n{one_class.in_words(report['what'], precision, seconds)}")


if __name__ == "__main__":
    raise SystemExit(cli.run(main))
