"""The options of `convert_rgbd.py`: what they are, and which do not go together."""

import argparse
import math
from pathlib import Path

import numpy as np

from utils.argument_types import positive, positive_int, seed
from utils.errors import UserError
from utils.parallel import available_cores


def unit(text: str) -> float:
    """An argparse type: m, mm or a number above 0 → metres."""
    try:
        return {"m": 1.0, "mm": 0.001}.get(text) or positive(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(f"expected m, mm or a number of metres, got {text}") from error


def invalid(text: str) -> float | str:
    """An argparse type: a finite number, or "maximum"."""
    if text != "maximum" and not math.isfinite(float(text)):
        raise argparse.ArgumentTypeError("NaN and infinity are invalid anyway")
    return text if text == "maximum" else float(text)


def share(text: str) -> float:
    """An argparse type: a number between 0 and 1."""
    if not 0 < float(text) < 1:
        raise argparse.ArgumentTypeError(f"expected a number above 0 and below 1, got {text}")
    return float(text)


def parse_args(argv: list[str] | None, description: str | None) -> argparse.Namespace:
    """The options of the command line, checked. Raises UserError for those that do not go together."""
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    add = parser.add_argument
    colours = (
        "colour images, 8-bit PNG, JPEG, TIFF or BMP; copied as they are. May be left out where PLY or PCD hold colours"
    )
    add("--rgb", metavar="PATTERN", help=colours)
    geometry = parser.add_mutually_exclusive_group(required=True)
    geometry.add_argument("--depth", metavar="PATTERN", help="depth along the optical axis: 16-bit PNG, TIFF or NPY")
    geometry.add_argument("--xyz", metavar="PATTERN", help="organised clouds: TIFF or NPY (h, w, 3), PLY, PCD")
    size = "of clouds without --rgb, where the file does not say it, as PLY"
    add("--size", type=positive_int, nargs=2, metavar=("WIDTH", "HEIGHT"), help=size)
    add("--gt", metavar="PATTERN", help="masks, > 0 on the defect, of every test sample with a defect or of none")
    camera = parser.add_mutually_exclusive_group()
    camera.add_argument("--intrinsics", metavar="FILE", help="for --depth: the camera's JSON or YAML, or a pattern")
    camera.add_argument("--camera", type=float, nargs=4, metavar=("FX", "FY", "CX", "CY"), help="instead, in pixels")
    add("--class_name", metavar="NAME", help="of the part, where the pattern has no {class}")
    add("--split", help="train, validation or test, where the pattern has no {split} (default: train)")
    add("--defect", help="good, or the defect's name, where the pattern has no {defect} (default: good)")
    shared = "instead of --split: this share of the good samples trains, the others test, evenly spaced by name"
    add("--train_share", type=share, metavar="SHARE", help=shared)
    add("--unit", type=unit, help="of depth or cloud: m, mm, or a number of metres; not needed if --intrinsics says it")
    skipped = (
        "a stored z that means 'not measured', besides 0, NaN and infinity; maximum = the largest of the file's type"
    )
    add("--invalid", type=invalid, metavar="VALUE", help=skipped)
    add(
        "--background",
        choices=("plane", "depth-range", "mask", "none"),
        default="plane",
        help="what is cut away: plane = the flat ground that fills the image's border, and all but the largest thing "
        "on it; depth-range = what is outside of --depth_range; mask = what is outside of --foreground; none = nothing "
        "(default: plane)",
    )
    add("--depth_range", type=positive, nargs=2, metavar=("NEAR", "FAR"), help="of the object, metres from the camera")
    add("--foreground", metavar="PATTERN", help="images of the RGB's size, > 0 = object; or one file for all")
    add("--target_dir", type=Path, required=True, help="folder to write: new, or of an earlier call")
    add("--workers", type=positive_int, default=available_cores(), help="processes (default: all cores)")
    add("--seed", type=seed, default=0, help="of the plane search, 0 to 2^63 - 1 (default: 0)")
    args = parser.parse_args(argv)
    check_options(args)
    return args


def check_options(args: argparse.Namespace) -> None:
    """Raise UserError for options that do not go together."""
    if args.rgb is None and args.xyz is None:
        raise UserError("--rgb: expected with --depth, since depth images hold no colours. Add it.")
    if args.size is not None and args.rgb is not None:
        raise UserError("--size: expected only without --rgb, whose size counts. Leave it out.")
    for option, value, wanted, when in (
        ("--intrinsics or --camera", args.intrinsics or args.camera, args.depth is not None, "--depth"),
        ("--depth_range", args.depth_range, args.background == "depth-range", "--background depth-range"),
        ("--foreground", args.foreground, args.background == "mask", "--background mask"),
    ):
        if (value is not None) != wanted:
            raise UserError(f"{option}: expected {'with' if wanted else 'only with'} {when}. Add it, or leave it out.")
    if args.xyz is not None and args.unit is None:
        raise UserError(
            "--unit: expected with --xyz, since the unit is never assumed. Pass m, mm or a number of metres."
        )
    if args.depth_range is not None and args.depth_range[0] >= args.depth_range[1]:
        raise UserError(f"--depth_range: expected NEAR below FAR, found {args.depth_range}. Both are in metres.")
    if args.camera is not None and not (np.isfinite(args.camera).all() and min(args.camera[:2]) > 0):
        raise UserError(f"--camera: expected FX and FY above 0, all in pixels, found {args.camera}.")
