"""Train Crossmodal Feature Mapping on one class: python cfm_training.py --dataset_path DIR --class_name bagel"""

from models.methods import METHODS
from utils import cli


def main(argv: list[str] | None = None) -> int:
    """Parse, then train."""
    options = cli.training_parser(METHODS["cfm"]).parse_args(argv)
    from experiments.training import train_class

    train_class(METHODS["cfm"], options)
    return 0


if __name__ == "__main__":
    raise SystemExit(cli.run(main))
