"""Evaluate DBMRNet on one class: python dbmrnet_inference.py --dataset_path DIR --class_name bagel"""

from evaluation.thresholds import DEFAULT_RATE
from models.methods import METHODS
from utils import cli


def main(argv: list[str] | None = None) -> int:
    """Parse, then evaluate."""
    options = cli.inference_parser(METHODS["dbmrnet"], DEFAULT_RATE).parse_args(argv)
    from experiments.evaluation import evaluate_class

    evaluate_class(METHODS["dbmrnet"], options)
    return 0


if __name__ == "__main__":
    raise SystemExit(cli.run(main))
