"""Time the project against the plain implementation, in one run on one machine.

    python benchmarks/run.py --what inference --json inference.json

Every case runs in a process of its own: warm-up, then the median of several repetitions; peak memory is that of the
process, imports and inputs included.
"""

import argparse
import multiprocessing
import resource
import statistics
import sys
import time
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from tqdm import tqdm

from utils.cli import run
from utils.files import write_json
from utils.run_record import provenance

# What is timed → name of a case → function of benchmarks.cases, its arguments, images a repetition, repetitions.
CASES: dict[str, dict[str, tuple[str, tuple[Any, ...], int, int]]] = {
    "extraction": {
        "plain": ("plain_extraction", (), 1, 2),
        "fp32": ("extraction", ("fp32",), 1, 5),
        "bf16": ("extraction", ("bf16",), 1, 5),
    },
    "inference": {
        "plain": ("plain_inference", (), 1, 2),
        "fp32": ("inference", ("fp32",), 1, 5),
        "bf16": ("inference", ("bf16",), 1, 5),
    },
    "training": {
        "plain": ("plain_training", (), 1, 2),
        "fp32": ("training", ("fp32",), 4, 3),
        "bf16": ("training", ("bf16",), 4, 3),
    },
}


def measure(function: str, arguments: tuple[Any, ...], images: int, repetitions: int) -> dict[str, float]:
    """Seconds an image (median) and peak memory in GiB of one case; to be called in a fresh process."""
    from benchmarks import cases

    work = getattr(cases, function)(*arguments)
    work()
    seconds = []
    for _ in range(repetitions):
        start = time.perf_counter()
        work()
        seconds.append((time.perf_counter() - start) / images)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    return {"seconds": statistics.median(seconds), "fastest": min(seconds), "peak_gib": round(peak, 2)}


def in_fresh_process(case: tuple[str, tuple[Any, ...], int, int]) -> dict[str, float]:
    """`measure` in a process of its own, so that memory peaks do not mix."""
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        return pool.apply(measure, case)


def main(argv: list[str] | None = None) -> int:
    """Run the cases of --what and print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--what", choices=sorted(CASES), required=True, help="which step to time")
    parser.add_argument("--json", type=Path, metavar="OUT", help="also write the figures to this file")
    args = parser.parse_args(argv)
    found = {name: in_fresh_process(case) for name, case in tqdm(CASES[args.what].items(), unit="case")}
    for figures in found.values():
        figures["ratio"] = round(found["plain"]["seconds"] / figures["seconds"], 2)
    print(f"{args.what}: seconds an image, from the sample in memory; reading and resizing excluded")
    if args.what == "training":
        print("plain extracts in every epoch, as the original scripts do; the others have tokens from before")
    print("| case | seconds | plain / case | peak GiB |\n|---|---:|---:|---:|")
    for name, figures in found.items():
        print(f"| {name} | {figures['seconds']:.3f} | {figures['ratio']:.1f} | {figures['peak_gib']:.2f} |")
    if args.json:
        write_json(args.json, {"what": args.what, "cases": found, **provenance()})
    return 0


if __name__ == "__main__":
    raise SystemExit(run(main))
