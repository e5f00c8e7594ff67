"""Train DBMRNet on one class: python dbmrnet_training.py --dataset_path DIR --class_name bagel --preset full"""

import argparse
import time
from dataclasses import fields
from typing import TYPE_CHECKING

from models.dbmrnet.settings import CHOICES, WARMUP_EPOCHS, ModelSettings
from utils import cli
from utils.argument_types import fraction, positive, positive_int
from utils.errors import UserError, report_skipped

if TYPE_CHECKING:
    from collections.abc import Mapping

    from models.dbmrnet.training import DBMRNetConfig
    from utils.checkpoint import CheckpointName


def parse(argv: list[str] | None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__.split(":")[0] + ".")
    cli.add_dataset_options(parser)
    cli.add_training_options(parser, "./checkpoints/checkpoints_DBMRNet_mvtec")
    cli.add_run_options(parser, epochs=300, batch_size=16)
    parser.add_argument(
        "--learning_rate", type=positive, help="peak of AdamW's, > 0 (default: 5e-4, 1e-3, 2e-3 by size of preset)"
    )
    parser.add_argument(
        "--warmup_epochs",
        type=positive_int,
        default=WARMUP_EPOCHS,
        help="in which the learning rate rises, at most a tenth of all; then a cosine (default: %(default)s)",
    )
    add_model_options(parser)
    return parser.parse_args(argv)


def add_model_options(parser: argparse.ArgumentParser) -> None:
    """One option for each field of ModelSettings. Inference reads them from the JSON beside the checkpoint."""
    group = parser.add_argument_group(
        "network", "See models/dbmrnet/README.md. Inference reads them in the checkpoint."
    )
    for name, meaning in (
        ("preset", "sizes of the network: 19.5, 3.5 and 1.4 million parameters"),
        ("view", "see the square around the object, or the whole image"),
        ("sampler", "how points are drawn; geometry: more where normals change"),
        ("masked_centres", "xyi: z of a hidden centre is interpolated; xyz: it is given away"),
        ("alignment", "one_way: only point tokens are kept from distant image tokens"),
        ("cross_loss", "how the rebuilt cloud is held to the image"),
    ):
        default = getattr(ModelSettings, name)
        group.add_argument(
            f"--{name}", choices=CHOICES[name], default=default, help=f"{meaning} (default: %(default)s)"
        )
    for name, kind, meaning in (
        ("mask_ratio", fraction, "share of tokens that is hidden, in (0, 1)"),
        ("passes", positive_int, "reconstructions of a test sample, each from other tokens, ≥ 2"),
        ("alignment_radius", float, "image tokens that encoder attention reaches across modalities; < 0: none"),
        ("local_layers", positive_int, "encoder blocks with that limit, the first ones; without it: all"),
        ("cross_weight", float, "factor of the cross-modal loss, ≥ 0"),
    ):
        default = getattr(ModelSettings, name)
        group.add_argument(f"--{name}", type=kind, default=default, help=f"{meaning} (default: %(default)s)")


def configuration(args: argparse.Namespace, hashes: "Mapping[str, Mapping[str, str]]") -> "DBMRNetConfig":
    """What decides the weights: the options, and of each split a hash of the hashes of its images."""
    from models.dbmrnet.training import DBMRNetConfig
    from utils.files import sha256_text

    model = ModelSettings(**{field.name: getattr(args, field.name) for field in fields(ModelSettings)})
    data = {split: sha256_text(" ".join(images.values())) for split, images in hashes.items()}
    return DBMRNetConfig(
        model=model,
        data={"sha256": data, "shots": args.shots},
        precision=args.precision or "fp32",
        epochs=args.epochs_no,
        batch_size=args.batch_size,
        seed=args.seed,
        learning_rate=args.learning_rate or model.sizes.learning_rate,
        warmup_epochs=args.warmup_epochs,
    )


def main(argv: list[str] | None = None) -> int:
    """Parse, then train."""
    return cli.train_locked(parse(argv), "DBMRNet", train)


def train(args: argparse.Namespace, name: "CheckpointName") -> None:
    """Prepare, train, save."""
    from tqdm import tqdm

    from datasets.records import hash_images, nominal_split
    from datasets.sample import iter_samples
    from evaluation.thresholds import thresholds_path
    from experiments.calibration import calibrate, finished
    from models.dbmrnet import training
    from models.dbmrnet.inputs import Inputs, prepare
    from models.dbmrnet.pipeline import DBMRNetPipeline, weights_sha256
    from models.token_store import batches
    from report.figures.training_curves import save_loss_plot
    from utils.devices import pick_device
    from utils.run_record import read_json_lines, training_record, wandb_logger
    from utils.training import is_finished

    started = time.perf_counter()
    device = pick_device(args.device)
    skipped: list[str] | None = [] if args.skip_bad else None
    nominal = nominal_split(args.dataset_path, args.class_name, args.shots, args.hold_out, skipped)
    records = {"train": nominal.train}
    if nominal.source == "validation":
        records["validation"] = nominal.validation
    hashes = {split: hash_images(found) for split, found in records.items()}
    config = configuration(args, hashes)
    files = [name.path(part, training.SUFFIX) for part in training.PARTS.values()]
    if not args.overwrite and is_finished(name, training.PART, files[0], config, args.resume):
        finished([file for file in files if file.is_file()], nominal, skipped, device=args.device)
        return

    def load(split: str) -> Inputs:
        """Prepared samples of a split."""
        bar = tqdm(iter_samples(records[split], skipped), f"preparing {split}", len(records[split]), unit="image")
        prepared = [
            prepare([sample for _, sample in batch], config.model, args.seed, device)
            for batch in batches(bar, args.batch_size)
        ]
        if not prepared:
            raise UserError(f"none of the {split} samples can be used. The first: {(skipped or ['?'])[0]}")
        return Inputs.concatenate(prepared)

    log = wandb_logger(args.wandb_mode, f"DBMRNet {args.class_name}", config)
    images, validation = load("train"), load("validation") if "validation" in records else None
    prepared_at = time.perf_counter()
    detectors = training.train(images, validation, config, name, args.resume, log)
    seconds = {"preparation": prepared_at - started, "training": time.perf_counter() - prepared_at}
    record = training_record(args.dataset_path, args.class_name, len(images), hashes["train"], seconds)
    training.save(name, detectors, config, record)
    for part, detector in detectors.items():
        calibrate(DBMRNetPipeline(detector), nominal, thresholds_path(name, part), weights_sha256(name, part), skipped)
    entries = read_json_lines(name.path(training.PART, ".jsonl"))
    save_loss_plot(name.path(training.PART, ".png"), entries, f"DBMRNet, {args.class_name}")
    report_skipped(skipped)
    print(f"saved {files[0]} and its companions")


if __name__ == "__main__":
    raise SystemExit(cli.run(main))
