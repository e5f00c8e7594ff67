"""Train a method on one class: python train.py --method cfm --dataset_path DIR --class_name bagel"""

from models.methods import METHODS
from utils import cli


def main(argv: list[str] | None = None) -> int:
    """Parse, then train."""
    method, words = cli.pick_method(argv, METHODS, "Train a method on one class.")
    options = cli.training_parser(method).parse_args(words)
    from experiments.training import train_class

    train_class(method, options)
    return 0


if __name__ == "__main__":
    raise SystemExit(cli.run(main))
