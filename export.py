"""Export a trained detector to one ONNX file that gives the same answers, for the line.

    python export.py --checkpoint checkpoints/checkpoints_CFM_mvtec/bolt --dataset_path datasets/bolts --output FILE

The file takes image and cloud as the camera gives them and holds all that follows: cutting, normals, networks, map,
threshold. Before it is written, its answers are held against the run's on the validation and test images; where they
are not the same, the command fails and leaves no file. infer_onnx.py runs it with four packages, predict.py as it runs
a checkpoint. CFM with the extractor cnn_normals can be exported.
"""

import argparse
from pathlib import Path

from evaluation.thresholds import DEFAULT_RATE
from models.extractors.options import add_weights_options
from utils import cli


def parse(argv: list[str] | None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--checkpoint",
        type=Path,
        required=True,
        help="a checkpoint folder, of any name, that holds one run, or any file of a run in it",
    )
    parser.add_argument("--output", type=Path, required=True, metavar="FILE", help="where the file goes, ….onnx")
    parser.add_argument(
        "--dataset_path",
        type=Path,
        default=Path("./datasets/mvtec3d"),
        help="root of the preprocessed dataset: answers are compared on the class's validation and test images; int8 "
        "takes its ranges from training images (default: %(default)s)",
    )
    parser.add_argument(
        "--precision",
        choices=("fp32", "fp16", "int8"),
        default="fp32",
        help="fp32: the same answers; fp16: for GPUs, the mappers in half precision; int8: for CPUs, the "
        "mappers in whole numbers of 8 bits (default: %(default)s)",
    )
    cli.add_rate_option(parser, DEFAULT_RATE)
    add_weights_options(parser)
    return parser.parse_args(argv)


def main(argv: list[str] | None = None) -> int:
    """Parse, then export."""
    args = parse(argv)
    from exporting.run import export_run

    export_run(args)
    return 0


if __name__ == "__main__":
    raise SystemExit(cli.run(main))
