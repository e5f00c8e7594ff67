"""Evaluate a trained method on one class: python evaluate.py --method cfm --dataset_path DIR --class_name bagel"""

from evaluation.thresholds import DEFAULT_RATE
from models.methods import METHODS
from utils import cli


def main(argv: list[str] | None = None) -> int:
    """Parse, then evaluate."""
    method, words = cli.pick_method(argv, METHODS, "Evaluate a trained method on one class.")
    options = cli.inference_parser(method, DEFAULT_RATE).parse_args(words)
    from experiments.evaluation import evaluate_class

    evaluate_class(method, options)
    return 0


if __name__ == "__main__":
    raise SystemExit(cli.run(main))
