"""Find a detector's thresholds anew: python calibrate.py --checkpoint FOLDER/bagel --input GOOD_PARTS

Training does this by itself where it has good images to spare. This command is for checkpoints without thresholds, as
those of the original authors, and for parts as they come from your line: at least 99 good ones for a false-alarm rate
of 1 %, none of which was trained on. Scores are kept beside the checkpoint; each later command chooses its rate. In the
folder, images and clouds belong together by their names as for predict.py; parts with a defect (by masks in gt or
ground_truth beside them, or by their folder test/DEFECT) and images that were trained on are refused. Thresholds that
are replaced are kept as ….1.json, ….2.json.
"""

import argparse
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from utils import cli
from utils.errors import UserError

if TYPE_CHECKING:
    from datasets.sample import Sample
    from inspection.detector import Detector
    from inspection.pairs import Pair
    from models.checkpoints import TrainedRun

RATES = (0.001, 0.01, 0.05)


def parse(argv: list[str] | None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    cli.add_detector_options(parser)
    parser.add_argument("--input", type=Path, required=True, metavar="DIR", help="folder of good parts, at any depth")
    return parser.parse_args(argv)


def samples(pairs: "list[Pair]", detector: "Detector") -> "Iterator[Sample]":
    """The samples of pairs, raw ones cleaned."""
    from tqdm import tqdm

    from inspection.predictions import read_pair

    for pair in tqdm(pairs, "thresholds", unit="part"):
        try:
            yield detector.prepare(*read_pair(pair))[0]
        except UserError as error:
            raise UserError(f"{pair.xyz} with {pair.rgb.name}: {error}") from error


def main(argv: list[str] | None = None) -> int:
    """Parse, find the parts, and calibrate while no other command writes the run."""
    args = parse(argv)
    from inspection.pairs import find_pairs
    from models.checkpoints import find_run
    from utils.checkpoint import lock_run

    if not args.input.is_dir():
        raise UserError(f"{args.input}: no such folder. Expected good parts, images and clouds.")
    pairs, problems = find_pairs(args.input, args.checkpoint)
    if not pairs:
        raise UserError(f"{args.input}: holds no image and cloud of a part. See python calibrate.py --help.")
    for problem in problems:
        print(f"left out: {problem}", file=sys.stderr)
    run = find_run(args.checkpoint)
    with lock_run(run.name, run.method):
        calibrate(args, run, pairs)
    return 0


def calibrate(args: argparse.Namespace, run: "TrainedRun", pairs: "list[Pair]") -> None:
    """Check the parts, score them, save, and say what the thresholds promise."""
    from experiments.calibration import calibrate_on
    from inspection.detector import load_detector
    from inspection.good_parts import check_parts
    from utils.checkpoint import load_settings

    if note := check_parts(pairs, load_settings(run.name, run.method)):
        print(f"note: {note}", file=sys.stderr)
    options = {name: getattr(args, name) for name in ("device", "precision", "rgb_weights", "xyz_weights")}
    detector = load_detector(args.checkpoint, false_alarm_rate=None, **options)
    found = samples(pairs, detector)
    scores = calibrate_on(found, detector.pipeline, "validation", detector.thresholds_path, detector.weights)
    for limits in map(scores.thresholds, RATES) if scores else ():
        print(
            f"false alarms {limits.rate:.1%} (promised: {limits.guaranteed:.2%}): image threshold {limits.image:.4g}, "
            f"map threshold {limits.map:.4g}"
        )
    print(f"written: {detector.thresholds_path}")


if __name__ == "__main__":
    raise SystemExit(cli.run(main))
