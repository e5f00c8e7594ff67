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
from pathlib import Path

from evaluation.thresholds import DEFAULT_RATE
from models.extractors.options import add_weights_options
from utils import cli
from utils.argument_types import positive


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


def main(argv: list[str] | None = None) -> int:
    """Parse, then answer."""
    options = parse(argv)
    from inspection.modes import answer_parts

    return answer_parts(options)


if __name__ == "__main__":
    raise SystemExit(cli.run(main))
