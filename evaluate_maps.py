"""Score saved anomaly maps of any method, by the conventions of the official evaluation of MVTec 3D-AD.

A map is ANOMALY_MAPS_DIR/OBJECT/test/DEFECT/STEM.tiff: one channel, any kind of number, higher = more anomalous, one
for each test image, of the size of its mask. A map of another size gets the mask resized to it; a square map of an
image that is not square is taken as that of the image padded to a square. Written: OUTPUT_DIR/metrics.json.
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from tqdm import tqdm

from datasets.records import Record, class_names, scan
from datasets.saved_maps import find_maps, load_map
from evaluation.results import map_metrics
from evaluation.tables.tables import mean
from utils import cli
from utils.argument_types import fraction
from utils.errors import UserError
from utils.files import write_json

METRICS = ("au_pro", "au_roc", "p_auroc")
Figures = dict[str, float | None]


def thresholds(text: str) -> int | None:
    """An argparse type: `exact` or a whole number ≥ 2."""
    if text == "exact":
        return None
    number = int(text)
    if number < 2:
        raise argparse.ArgumentTypeError(f"expected exact or a whole number of at least 2, got {text}")
    return number


def parse(argv: list[str] | None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--dataset_base_dir", type=Path, required=True, help="root of the dataset, one folder a class; raw or not"
    )
    parser.add_argument("--anomaly_maps_dir", type=Path, required=True, help="root of the maps")
    parser.add_argument("--output_dir", type=Path, required=True, help="where metrics.json goes")
    parser.add_argument(
        "--pro_integration_limit",
        type=fraction,
        default=0.3,
        help="false-positive rate up to which AUPRO is integrated, in (0, 1] (default: %(default)s)",
    )
    parser.add_argument("--evaluated_objects", nargs="+", metavar="NAME", help="classes (default: all of the dataset)")
    parser.add_argument(
        "--aupro_thresholds",
        type=thresholds,
        default="exact",
        metavar="exact|N",
        help="exact: every distinct score is a threshold; N ≥ 2: the papers' protocol, theirs is 99 (default: exact)",
    )
    return parser.parse_args(argv)


def find_all(args: argparse.Namespace) -> dict[str, tuple[list[Record], list[Path]]]:
    """The test images of each class and their maps. Maps that belong to none are told.

    Raises:
        UserError: unknown class, incomplete dataset, no maps, or not one map for each image.
    """
    if not args.anomaly_maps_dir.is_dir():
        raise UserError(f"{args.anomaly_maps_dir}: no such folder. Expected the root of the maps, one folder a class.")
    if args.output_dir.exists() and not args.output_dir.is_dir():
        raise UserError(f"{args.output_dir}: expected a folder for metrics.json, found a file. Choose another name.")
    found = {}
    for name in args.evaluated_objects or class_names(args.dataset_base_dir):
        records = scan(args.dataset_base_dir, name, "test")
        paths, others = find_maps(args.anomaly_maps_dir / name / "test", records)
        if others:
            names = ", ".join(f"{path.parent.name}/{path.name}" for path in others[:5])
            print(f"warning: {name}: {len(others)} maps belong to no test image: {names}", file=sys.stderr)
        found[name] = records, paths
    return found


def score(name: str, records: Sequence[Record], paths: Sequence[Path], args: argparse.Namespace) -> Figures:
    """The metrics of one class. One that is undefined is None, and told."""
    pairs = zip(paths, records, strict=True)
    loaded = [load_map(*pair) for pair in tqdm(pairs, f"{name}: maps", len(paths), unit="image")]
    maps, gts, padded = zip(*loaded, strict=True)
    if any(padded):
        print(
            f"note: {name}: {sum(padded)} square maps of images that are not square are taken as maps of the images "
            "padded to squares. If they are stretched instead, save them at the images' size.",
            file=sys.stderr,
        )
    labels = [not record.is_good for record in records]
    figures = map_metrics(maps, gts, labels, args.pro_integration_limit, args.aupro_thresholds)
    if figures["au_roc"] is None:
        print(f"note: {name}: au_roc is null, it needs good and defective images", file=sys.stderr)
    if figures["au_pro"] is None:
        lacking = any(gt is None for gt in gts)
        why = "its defects have no masks" if lacking else "they need anomalous and normal pixels"
        print(f"note: {name}: au_pro, p_auroc are null, {why}", file=sys.stderr)
    return figures


def table(rows: dict[str, Figures]) -> str:
    """Names and figures with three decimals, - where undefined."""
    width = max(map(len, rows))
    lines = [" ".join([" " * width, *(f"{metric:>8}" for metric in METRICS)])]
    for name, figures in rows.items():
        texts = ("-" if figures[metric] is None else f"{figures[metric]:.3f}" for metric in METRICS)
        lines.append(" ".join([name.ljust(width), *(f"{text:>8}" for text in texts)]))
    return "\n".join(lines)


def main(argv: list[str] | None = None) -> int:
    """Parse, find, score, print, write."""
    args = parse(argv)
    figures = {name: score(name, *files, args) for name, files in find_all(args).items()}
    means = {metric: mean([row[metric] for row in figures.values()]) for metric in METRICS}
    print(table({**figures, "mean": means}))
    path = args.output_dir / "metrics.json"
    write_json(path, {**figures, **{f"mean_{metric}": value for metric, value in means.items()}})
    print(f"written: {path}")
    return 0


if __name__ == "__main__":
    raise SystemExit(cli.run(main))
