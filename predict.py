"""Inspect single parts with a trained detector: a score, a decision, and where the defects are.

One part:          python predict.py --checkpoint checkpoints/checkpoints_CFM_mvtec/bagel --rgb 7.png --xyz 7.tiff
A folder:          python predict.py --checkpoint … --input parts
As it fills up:    python predict.py --checkpoint … --watch parts

In a folder, an image and a cloud belong together when their paths are equal without `rgb`, `xyz` and the suffix:
a/rgb/000.png and a/xyz/000.tiff, 7.png and 7.npy, 7_rgb.png and 7_xyz.tiff. Clouds are organised, (height, width, 3)
float32 metres, aligned with their image; raw ones are cleaned as the training data was.

Written: OUTPUT/maps/NAME.tiff, OUTPUT/overlays/NAME.png, and a line a part in OUTPUT/predictions.jsonl. What has an
answer already is skipped; other files that come to a watched folder under a name that was answered get an answer of
their own, NAME~2. Exit status: 0 all answered, 1 some of --input failed, 2 unusable options or files.
"""

import argparse
import signal
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

from evaluation.thresholds import DEFAULT_RATE
from inspection import words
from inspection.pairs import find_pairs, single_pair
from inspection.watch import Watch
from models.extractors.options import add_weights_options
from utils import cli
from utils.argument_types import positive
from utils.errors import UserError
from utils.files import locked

if TYPE_CHECKING:
    from inspection.answer import Logged
    from inspection.predictions import Predictions


def parse(argv: list[str] | None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    cli.add_detector_options(parser)
    add_weights_options(parser)
    what = parser.add_mutually_exclusive_group(required=True)
    what.add_argument("--rgb", type=Path, metavar="FILE", help="image of one part, with --xyz")
    what.add_argument("--input", type=Path, metavar="DIR", help="folder of pairs, at any depth")
    what.add_argument("--watch", type=Path, metavar="DIR", help="the same, and go on with new pairs until Ctrl-C")
    parser.add_argument("--xyz", type=Path, metavar="FILE", help="cloud of one part, with --rgb")
    parser.add_argument(
        "--output", type=Path, default=Path("./results/predictions"), help="where answers go (default: %(default)s)"
    )
    parser.add_argument(
        "--interval", type=positive, default=1.0, help="--watch: seconds between looks (default: %(default)s)"
    )
    cli.add_rate_option(parser, DEFAULT_RATE)
    args = parser.parse_args(argv)
    if (args.rgb is None) != (args.xyz is None):
        parser.error("--rgb and --xyz are given together: the image and the cloud of one part")
    return args


def check_folders(args: argparse.Namespace) -> None:
    """Refuse folders that cannot be used, before anything is loaded. Raises UserError."""
    if args.input and not args.input.is_dir():
        raise UserError(f"{args.input}: no such folder. Expected the parts, images and clouds.")
    if args.output.exists() and not args.output.is_dir():
        raise UserError(f"{args.output}: expected a folder for the answers, found a file. Choose another --output.")
    folder = args.input or args.watch
    if folder and args.output.resolve() in (folder.resolve(), *folder.resolve().parents):
        raise UserError(f"{args.output}: holds the parts, {folder}. Choose an --output of its own.")


def predict_one(args: argparse.Namespace, predictions: "Predictions") -> int:
    """Answer the pair of --rgb and --xyz, in words."""
    pair = single_pair(args.rgb, args.xyz)
    predictions.check_name(pair)
    answer = predictions.add(pair)
    print(f"{pair.name}: {words.answer(answer, predictions.detector.thresholds)}")
    return 0


def predict_folder(args: argparse.Namespace, predictions: "Predictions") -> int:
    """Answer what lies in --input. Returns 1 where something could not be answered."""
    from tqdm import tqdm

    pairs, problems = find_pairs(args.input, args.output)
    if not pairs:
        raise UserError(
            problems[0] if problems else f"{args.input}: holds no image and cloud. See python predict.py -h."
        )
    outcomes = {pair.name: predictions.take(pair) for pair in tqdm(pairs, args.input.name, unit="part")}
    print(words.summary(outcomes.values(), len(problems)))
    failed = [outcome.error for outcome, _ in outcomes.values() if outcome.error is not None] + problems
    for error in failed:
        print(f"failed: {error}", file=sys.stderr)
    return 1 if failed else 0


def predict_new(args: argparse.Namespace, predictions: "Predictions") -> int:
    """Answer what lies in --watch and what comes, a line a part, until Ctrl-C or SIGTERM."""
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.default_int_handler)
    watch = Watch(args.watch, args.output)
    outcomes: dict[str, tuple[Logged, bool]] = {}
    try:
        missing = "" if args.watch.is_dir() else ", which is not there yet"
        print(f"watching {args.watch}{missing}; Ctrl-C ends", flush=True)
        while True:
            for pair in watch.look():
                found, new = predictions.take(pair, keep=True)
                outcomes[found.sample] = found, new
                print(f"{found.sample}: {words.outcome(found, new)}", flush=True)
            time.sleep(args.interval)
    except KeyboardInterrupt:
        problems = find_pairs(args.watch, args.output)[1]
        print(words.summary(outcomes.values(), len(problems)))
        for problem in problems:
            print(f"not answered: {problem}", file=sys.stderr)
    return 0


def main(argv: list[str] | None = None) -> int:
    """Parse, load, answer, and say where the answers are."""
    args = parse(argv)
    check_folders(args)
    from inspection.detector import load_detector
    from inspection.predictions import LOG, Predictions

    options = {name: getattr(args, name) for name in ("device", "precision", "false_alarm_rate")}
    weights = {name: getattr(args, name) for name in ("rgb_weights", "xyz_weights")}
    detector = load_detector(args.checkpoint, **options, **weights)
    mode = predict_one if args.rgb else predict_folder if args.input else predict_new
    with locked(args.output):
        status = mode(args, Predictions(args.output, detector, args.false_alarm_rate))
    if detector.thresholds is None:
        print(f"no decisions: {detector.note} (see python calibrate.py --help)")
    else:
        print(detector.thresholds.statement())
        if not detector.thresholds.inputs:
            print("the input of parts is not checked: these thresholds are older (see python calibrate.py --help)")
    print(f"written: {args.output / LOG}, with maps/ and overlays/ beside it")
    return status


if __name__ == "__main__":
    raise SystemExit(cli.run(main))
