"""What --pixel_fraction and the mappers' --precision change: time and metrics on generated scenes over several seeds.

    python benchmarks/pixel_fraction.py --json pixel_fraction.json

Scenes as in 00_demo.sh; the `handcrafted` extractor, whose tokens are made once a class. Each run trains anew and is
evaluated on all test images; metrics are means over the classes.
"""

import argparse
import statistics
import sys
import tempfile
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks import machine
from benchmarks.scenes import make_scenes
from utils import cli
from utils.files import write_json

COUNTS = ("--train", "30", "--validation", "4", "--test", "6", "--seed", "0")
EPOCHS, BATCH_SIZE, SEEDS = 12, 4, (0, 1, 2)
RUNS = {"all, fp32": (1.0, "fp32"), "all, bf16": (1.0, "bf16"), "0.1, fp32": (0.1, "fp32"), "0.1, bf16": (0.1, "bf16")}
METRICS = ("i_auroc", "p_auroc", "aupro_0.3", "aupro_0.01")


def run_class(root: Path, class_name: str, scratch: Path) -> list[dict[str, Any]]:
    """Every run of RUNS and SEEDS on one class: its metrics, and the median seconds of an epoch."""
    import torch

    from datasets.records import scan
    from datasets.sample import iter_samples, to_arrays
    from evaluation.results import evaluate
    from experiments.class_run import ClassRun
    from models.cfm import training
    from models.extractors.handcrafted import Handcrafted
    from models.token_store import extract_batch, fit_extractor
    from utils.checkpoint import CheckpointName

    cpu = torch.device("cpu")
    good = [sample for _, sample in iter_samples(scan(root, class_name, "train"))]
    extractor = Handcrafted()
    tokens = fit_extractor(extractor, good, BATCH_SIZE, cpu)
    tests = [
        (record, sample, extract_batch([sample], extractor, cpu)[0])
        for record, sample in iter_samples(scan(root, class_name, "test"))
    ]
    found = []
    for name, (fraction, precision) in RUNS.items():
        for seed in SEEDS:
            config = training.CFMConfig({}, {}, "mlp", precision, EPOCHS, BATCH_SIZE, seed, fraction)
            epochs: list[dict[str, Any]] = []
            where = CheckpointName(scratch, class_name, EPOCHS, BATCH_SIZE)
            detector = training.train(tokens, config, where, cpu, False, epochs.append)
            run = ClassRun(class_name, None, False)
            for record, sample, item in tests:
                run.add(record.defect, record.stem, *to_arrays(sample), detector.predict(item), 0.0)
            metrics = evaluate(run.predictions)
            figures = {key: metrics[key] for key in ("i_auroc", "p_auroc")}
            figures |= {f"aupro_{limit}": metrics["aupro"][limit] for limit in ("0.3", "0.01")}
            figures["epoch"] = statistics.median(entry["seconds"] for entry in epochs)
            found.append({"class": class_name, "run": name, "seed": seed, **figures})
    return found


def main(argv: list[str] | None = None) -> int:
    """Run and print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", type=Path, metavar="OUT", help="also write the figures to this file")
    args = parser.parse_args(argv)
    with tempfile.TemporaryDirectory() as folder:
        root = make_scenes(Path(folder), *COUNTS)
        classes = sorted(path.name for path in root.iterdir() if path.is_dir())
        rows = [row for name in classes for row in run_class(root, name, Path(folder) / "checkpoints")]
    record = machine.describe()
    print(f"{machine.in_words(record)}\n\n| pixels, precision | seed | seconds an epoch | {' | '.join(METRICS)} |")
    print("|---|---:|---:|" + "---:|" * len(METRICS))
    for name in RUNS:
        for seed in SEEDS:
            chosen = [row for row in rows if (row["run"], row["seed"]) == (name, seed)]
            means = [statistics.mean(row[metric] for row in chosen) for metric in ("epoch", *METRICS)]
            print(f"| {name} | {seed} | {means[0]:.3f} | " + " | ".join(f"{value:.4f}" for value in means[1:]) + " |")
    if args.json:
        write_json(args.json, {"runs": rows, **record})
    return 0


if __name__ == "__main__":
    raise SystemExit(cli.run(main))
