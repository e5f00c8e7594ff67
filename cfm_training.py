"""Train Crossmodal Feature Mapping on one class: python cfm_training.py --dataset_path DIR --class_name bagel"""

import argparse
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from utils import cli
from utils.argument_types import fraction
from utils.errors import UserError, report_skipped

if TYPE_CHECKING:
    from datasets.records import NominalSplit
    from models.cfm.pipeline import CFMPipeline
    from utils.checkpoint import CheckpointName


def parse(argv: list[str] | None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__.split(":")[0] + ".")
    cli.add_dataset_options(parser)
    cli.add_training_options(parser, "./checkpoints/checkpoints_CFM_mvtec")
    cli.add_run_options(parser, epochs=50, batch_size=4)
    cli.add_extractor_options(parser)
    parser.add_argument(
        "--mapper",
        choices=("mlp", "mlp_big", "mlp_wide"),
        help="mlp: one inner layer, the paper's for MVTec 3D-AD; mlp_big: five, its authors' for Eyecandies; mlp_wide: "
        "one that is three times as wide (default: mlp; mlp_wide with cnn_normals)",
    )
    parser.add_argument(
        "--pixel_fraction",
        type=fraction,
        help="share of each image's foreground pixels that a step sees, drawn anew at each step, in (0, 1]; 0.1 trains "
        "several times faster (default: 1; with cnn_normals as much as lets every class take as long)",
    )
    parser.add_argument(
        "--token_cache",
        type=Path,
        metavar="DIR",
        help="keep extracted tokens in this folder, from run to run (default: in memory, for this run)",
    )
    return parser.parse_args(argv)


def main(argv: list[str] | None = None) -> int:
    """Parse, then train."""
    return cli.train_locked(parse(argv), "CFM", train)


def train(args: argparse.Namespace, name: "CheckpointName") -> None:
    """Build, train, save."""
    from tqdm import tqdm

    from datasets.records import Record, hash_images, nominal_split
    from datasets.sample import Sample, iter_samples
    from experiments.calibration import finished
    from models.cfm import training
    from models.cfm.pipeline import CFMPipeline
    from models.extractors import ExtractorOptions, build_extractor
    from models.token_store import cache_tokens, extract_tokens
    from models.tokens import Tokens
    from utils.devices import pick_device
    from utils.files import sha256_text
    from utils.run_record import training_record, wandb_logger
    from utils.training import is_finished

    started = time.perf_counter()
    device, precision = pick_device(args.device), args.precision or "fp32"
    skipped: list[str] | None = [] if args.skip_bad else None
    split = nominal_split(args.dataset_path, args.class_name, args.shots, args.hold_out, skipped)
    records = split.train

    def load(wanted: list[Record], action: str = "extracting") -> Iterator[tuple[Record, Sample]]:
        samples = iter_samples(wanted, skipped, view=extractor.view)
        yield from tqdm(samples, f"{args.class_name}: {action}", len(wanted), unit="image")

    modes = args.extractor_mode or "eval", args.keep_blocks or 12
    options = ExtractorOptions(*modes, precision, args.rgb_weights, args.xyz_weights, args.backbone, args.view)
    extractor = build_extractor(args.extractor or "dino_pointmae", device, options)
    extractor.fit(sample for _, sample in load(records, "fitting"))
    hashes = hash_images(records)
    data = {"sha256": sha256_text(" ".join(hashes.values())), "shots": args.shots}
    mapper, share = training.DEFAULTS.get(args.extractor, training.PAPER)
    run = args.mapper or mapper, precision, args.epochs_no, args.batch_size, args.seed, args.pixel_fraction or share
    config = training.CFMConfig(extractor.fingerprint(), data, *run)
    run_files = name, training.PART, name.path(training.RGB_TO_XYZ)
    if not args.overwrite and is_finished(*run_files, config, args.resume):
        weights = {"rgb_weights": args.rgb_weights, "xyz_weights": args.xyz_weights}
        finished([name.path(training.PART, ".json")], split, skipped, device=args.device, **weights)
        return

    log = wandb_logger(args.wandb_mode, f"CFM {args.class_name}", config)
    tokens: Sequence[Tokens]
    if args.token_cache:
        digests = {record: hashes[record.stem] for record in records}
        tokens = cache_tokens(digests, load, extractor, args.batch_size, device, args.token_cache)
    else:
        samples = (sample for _, sample in load(records))
        tokens = list(extract_tokens(samples, extractor, args.batch_size, device))
    if not tokens:
        raise UserError(f"none of the {len(records)} samples can be used. The first: {(skipped or ['?'])[0]}")
    extracted = time.perf_counter()
    detector = training.train(tokens, config, name, device, args.resume, log)
    seconds = {"extraction": extracted - started, "training": time.perf_counter() - extracted}
    record = training_record(args.dataset_path, args.class_name, len(tokens), hashes, seconds)
    training.save(name, detector, extractor.state_dict(), config, record)
    finish(CFMPipeline(extractor, detector, device), split, name, skipped)


def finish(pipeline: "CFMPipeline", split: "NominalSplit", name: "CheckpointName", skipped: list[str] | None) -> None:
    """Add thresholds and a plot of the losses to a saved checkpoint."""
    from evaluation.thresholds import thresholds_path
    from experiments.calibration import calibrate
    from models.cfm.pipeline import weights_sha256
    from models.cfm.training import PART, RGB_TO_XYZ
    from report.figures.training_curves import save_loss_plot
    from utils.run_record import read_json_lines

    calibrate(pipeline, split, thresholds_path(name, PART), weights_sha256(name), skipped)
    save_loss_plot(name.path(PART, ".png"), read_json_lines(name.path(PART, ".jsonl")), f"CFM, {name.class_name}")
    report_skipped(skipped)
    print(f"saved {name.path(RGB_TO_XYZ)} and its companions")


if __name__ == "__main__":
    raise SystemExit(cli.run(main))
