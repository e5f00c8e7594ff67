"""Target against observed false alarms of thresholds from nominal images, on fresh generated scenes.

    python benchmarks/false_alarms.py --json false_alarms.json

Each class: both methods are trained on good scenes, thresholds come from its validation scenes, and are then applied to
good scenes that were generated with another seed, and to defects. Beside the observed false alarms stands what theory
expects: given n nominal scores and rank k, the number among m fresh scenes is beta-binomial with n + 1 - k and k.
Alarms of the input check, which come on top, are counted apart.
"""

import argparse
import sys
import tempfile
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks import machine
from benchmarks.scenes import call, make_scenes
from utils import cli
from utils.argument_types import positive_int
from utils.files import write_json

CLASSES = ("biscuit", "cap", "chip_cookie", "gear", "loaf")
RATES = (0.01, 0.05)
CFM_EPOCHS, DBMRNET_EPOCHS, CFM_IMAGES = 12, 16, 30  # as in 00_demo.sh


def train(folder: Path, root: Path, class_name: str, method: str) -> Path:
    """Train a detector with the project's own command line; the folder of its checkpoint."""
    words = ["--dataset_path", str(root), "--class_name", class_name, "--checkpoint_savepath", str(folder / method)]
    if method == "CFM":
        options = ["--extractor", "cnn_normals", "--mapper", "mlp", "--shots", str(CFM_IMAGES)]
        call("cfm_training.py", *words, *options, "--epochs_no", str(CFM_EPOCHS))
    else:
        options = ["--preset", "small", "--epochs_no", str(DBMRNET_EPOCHS), "--batch_size", "8"]
        call("dbmrnet_training.py", *words, *options)
    return folder / method / class_name


def measure_all(checkpoint: Path, splits: Sequence[tuple[Path, str]], class_name: str) -> dict[str, list[Any]]:
    """Maximum and level of the map, and measures of the input, of all images of some splits, by their folder's name."""
    from datasets.records import scan
    from datasets.sample import iter_samples
    from evaluation import input_check
    from evaluation.thresholds import measure
    from inspection.detector import load_detector

    detector = load_detector(checkpoint)
    found: dict[str, list[Any]] = {}
    for root, split in splits:
        for record, sample in iter_samples(scan(root, class_name, split), view=detector.pipeline.view):
            smoothed = detector.pipeline.maps([sample])[0].smoothed.numpy()
            kind = record.defect if split == "test" else "fresh"
            maximum, level, _ = measure(smoothed, sample.valid.numpy())
            found.setdefault(kind, []).append((maximum, level, input_check.measure(sample)))
    return found


def rows_of(checkpoint: Path, class_name: str, method: str, fresh: Path, root: Path) -> list[dict[str, Any]]:
    """A row for each rate."""
    from evaluation.input_limits import outside
    from evaluation.thresholds import load_scores

    found = measure_all(checkpoint, ((fresh, "train"), (root, "test")), class_name)
    scores = load_scores(next(checkpoint.glob(f"{method}_thresholds_*.json")))
    defects = [maximum for kind, values in found.items() if kind not in ("fresh", "good") for maximum, *_ in values]
    rows = []
    for rate in RATES:
        limits = scores.thresholds(rate)
        rows.append(
            {
                **{"class": class_name, "method": method, "rate": rate, "images": limits.images, "rank": limits.rank},
                "fresh": len(found["fresh"]),
                "alarms": sum(maximum > limits.image for maximum, *_ in found["fresh"]),
                "map_alarms": sum(level > limits.map for _, level, _ in found["fresh"]),
                "input_alarms": sum(bool(outside(inputs, limits.inputs)) for *_, inputs in found["fresh"]),
                "defects": len(defects),
                "caught": sum(maximum > limits.image for maximum in defects),
            }
        )
    return rows


def expected(row: dict[str, Any]) -> tuple[int, int]:
    """Numbers of false alarms between which theory expects 95 of 100 observations."""
    from scipy.stats import betabinom

    law = betabinom(row["fresh"], row["images"] + 1 - row["rank"], row["rank"])
    return int(law.ppf(0.025)), int(law.ppf(0.975))


def table(rows: Iterable[dict[str, Any]]) -> str:
    """Markdown: a line a row, and the totals of each method and rate."""
    lines = [
        "| method | class | target | good scenes | called anomalous | expected, 95 % | map alarms | input alarms | "
        "defects caught |",
        "|---|---|---:|---:|---:|---:|---:|---:|---:|",
    ]
    totals: dict[tuple[str, float], list[dict[str, Any]]] = {}
    for row in rows:
        totals.setdefault((row["method"], row["rate"]), []).append(row)
        low, high = expected(row)
        lines.append(_line(row["class"], [row], f"{low} to {high}"))
    lines += [_line("all", chosen, "") for chosen in totals.values()]
    return "\n".join(lines)


def _line(name: str, rows: Sequence[dict[str, Any]], between: str) -> str:
    keys = ("fresh", "alarms", "map_alarms", "input_alarms", "defects", "caught")
    fresh, alarms, maps, inputs, defects, caught = (sum(row[key] for row in rows) for key in keys)
    return (
        f"| {rows[0]['method']} | {name} | {rows[0]['rate']:.0%} | {fresh} | {alarms} ({alarms / fresh:.1%}) | "
        f"{between} | {maps} ({maps / fresh:.1%}) | {inputs} ({inputs / fresh:.1%}) | {caught} of {defects} |"
    )


def main(argv: list[str] | None = None) -> int:
    """Run and print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--train", type=positive_int, default=100, help="good scenes for DBMRNet (%(default)s)")
    parser.add_argument("--validation", type=positive_int, default=120, help="nominal scenes (%(default)s)")
    parser.add_argument("--fresh", type=positive_int, default=250, help="good scenes to judge (%(default)s)")
    parser.add_argument("--classes", nargs="+", choices=CLASSES, default=CLASSES, help="which objects (all)")
    parser.add_argument("--json", type=Path, metavar="OUT", help="also write the figures to this file")
    args = parser.parse_args(argv)
    counts = ["--validation", str(args.validation), "--test", "6", "--classes", *args.classes]
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        root = make_scenes(folder / "known", "--train", str(args.train), *counts, "--seed", "0")
        fresh = ["--train", str(args.fresh), "--validation", "1", "--test", "1", "--classes", *args.classes]
        others = make_scenes(folder / "fresh", *fresh, "--seed", "1000")
        rows = []
        for method in ("CFM", "DBMRNet"):
            for class_name in args.classes:
                checkpoint = train(folder, root, class_name, method)
                rows += rows_of(checkpoint, class_name, method, others, root)
    record = machine.describe()
    print(f"{machine.in_words(record)}\n\n{table(rows)}")
    if args.json:
        write_json(args.json, {"rows": rows, **record})
    return 0


if __name__ == "__main__":
    raise SystemExit(cli.run(main))
