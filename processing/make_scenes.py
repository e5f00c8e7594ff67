"""Render a data set of generated scenes: `python processing/make_scenes.py results/scenes`."""

import argparse
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from datasets.scenes.shapes import OBJECT_CLASSES
from datasets.scenes.writer import Counts, write_eyecandies, write_mvtec3d
from utils.argument_types import seed
from utils.cli import run
from utils.errors import UserError
from utils.parallel import available_cores


def _parser() -> argparse.ArgumentParser:
    """The command line's options."""
    names = list(OBJECT_CLASSES)
    parser = argparse.ArgumentParser(
        description="Render RGB + point cloud scenes of five kinds of objects with seven kinds of defects, "
        "laid out as the raw release of a public data set."
    )
    add = parser.add_argument
    add("out", type=Path, metavar="OUT", help="new or empty folder")
    add("--layout", choices=["mvtec3d", "eyecandies"], default="mvtec3d", help="whose raw layout (default: mvtec3d)")
    add("--size", type=int, help="longer image side in pixels, ≥ 96 (default: 400; Eyecandies is always 512)")
    add("--train", type=int, default=20, metavar="N", help="good training images of each class (default: 20)")
    add("--validation", type=int, default=4, metavar="N", help="good validation images of each class (default: 4)")
    add(
        "--test",
        type=int,
        default=4,
        metavar="N",
        help="test images of each defect of each class, and 2N good (default: 4)",
    )
    add("--classes", nargs="+", choices=names, default=names, help=f"which objects (default: {' '.join(names)})")
    add("--seed", type=seed, default=0, help="same seed, same bytes, whatever the number of workers (default: 0)")
    add("--workers", type=int, default=available_cores(), help="processes (default: all cores)")
    return parser


def main(argv: list[str] | None = None) -> int:
    """Parse the command line and write the data set."""
    options = _parser().parse_args(argv)
    counts = Counts(options.train, options.validation, options.test)
    if options.layout == "mvtec3d":
        write_mvtec3d(options.out, options.classes, options.size or 400, counts, options.seed, options.workers)
        return 0
    if options.size not in (None, 512):
        raise UserError(f"--size: expected 512 with --layout eyecandies, got {options.size}. Leave the option out.")
    write_eyecandies(options.out, options.classes, counts, options.seed, options.workers)
    return 0


if __name__ == "__main__":
    raise SystemExit(run(main))
