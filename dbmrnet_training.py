"""Train DBMRNet on one class: python dbmrnet_training.py --dataset_path DIR --class_name bagel --preset full"""

from models.methods import METHODS
from utils import cli


def main(argv: list[str] | None = None) -> int:
    """Parse, then train."""
    options = cli.training_parser(METHODS["dbmrnet"]).parse_args(argv)
    from experiments.training import train_class

    train_class(METHODS["dbmrnet"], options)
    return 0


if __name__ == "__main__":
    raise SystemExit(cli.run(main))
