"""Find a detector's thresholds anew: python calibrate.py --checkpoint FOLDER/bagel --input GOOD_PARTS

Training does this by itself where it has good images to spare. This command is for checkpoints without thresholds, as
those of the original authors, and for parts as they come from your line: at least 99 good ones for a false-alarm rate
of 1 %, none of which was trained on. Scores are kept beside the checkpoint; each later command chooses its rate. In the
folder, images and clouds belong together by their names as for predict.py; parts with a defect (by masks in gt or
ground_truth beside them, or by their folder test/DEFECT) and images that were trained on are refused. Thresholds that
are replaced are kept as ….1.json, ….2.json.
"""

import argparse
from pathlib import Path

from models.extractors.options import add_weights_options
from utils import cli


def parse(argv: list[str] | None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    cli.add_detector_options(parser)
    add_weights_options(parser)
    parser.add_argument("--input", type=Path, required=True, metavar="DIR", help="folder of good parts, at any depth")
    return parser.parse_args(argv)


def main(argv: list[str] | None = None) -> int:
    """Parse, then calibrate."""
    options = vars(parse(argv))
    from inspection.calibration import calibrate_on_parts

    calibrate_on_parts(options.pop("checkpoint"), options.pop("input"), **options)
    return 0


if __name__ == "__main__":
    raise SystemExit(cli.run(main))
