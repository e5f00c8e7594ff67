"""Evaluate Crossmodal Feature Mapping on one class: python cfm_inference.py --dataset_path DIR --class_name bagel"""

import argparse
import time
from typing import TYPE_CHECKING, Any

from utils import cli
from utils.errors import UserError

if TYPE_CHECKING:
    from models.cfm.detector import CrossmodalDetector
    from models.extractors import ExtractorOptions


def parse(argv: list[str] | None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__.split(":")[0] + ".")
    cli.add_dataset_options(parser)
    weights = "CFM_2Dto3D_CLASS_{epochs}ep_{batch}bs.pth"
    cli.add_checkpoint_option(parser, "./checkpoints/checkpoints_CFM_mvtec", weights)
    cli.add_run_options(parser, epochs=50, batch_size=4)
    cli.add_extractor_options(parser)
    cli.add_result_options(parser)
    parser.add_argument(
        "--aggregation",
        choices=("product", "sum", "max", "2d", "3d"),
        default="product",
        help="how the maps of the two modalities become one (default: %(default)s, the paper's)",
    )
    return parser.parse_args(argv)


def resolve_options(args: argparse.Namespace, settings: dict[str, Any] | None) -> tuple[str, "ExtractorOptions"]:
    """Extractor and its options: from the settings beside the checkpoint, or from the command line without them.

    Raises:
        UserError: an option contradicts the settings.
    """
    from models.extractors import ExtractorOptions

    given = {"extractor": args.extractor, "mode": args.extractor_mode, "keep_blocks": args.keep_blocks}
    given = {name: value for name, value in given.items() if value is not None}
    if settings is None:
        if args.extractor == "handcrafted":
            raise UserError(
                "--extractor handcrafted: its checkpoints need the JSON and CFM_extractor_….pth beside them. Restore "
                "them or train again."
            )
        chosen = {"extractor": "dino_pointmae", "mode": "batchnorm", "keep_blocks": 12, **given}
        print(f"no settings beside the checkpoint, taken as one of the original authors': {chosen}")
    else:
        chosen = settings["config"]["extractor"]
        for name, value in given.items():
            if value != chosen.get(name):
                option = "--extractor_mode" if name == "mode" else f"--{name}"
                raise UserError(
                    f"{option} {value}: the checkpoint was trained with {chosen.get(name, 'no such setting')} "
                    f"({chosen['extractor']}). Leave the option out."
                )
    precision = args.precision or (settings["config"]["precision"] if settings else "fp32")
    modes = chosen.get("mode", "eval"), chosen.get("keep_blocks", 12)
    return chosen["extractor"], ExtractorOptions(*modes, precision, args.rgb_weights, args.xyz_weights)


def result_config(
    detector: "CrossmodalDetector", aggregation: str, extractor: dict[str, Any], settings: dict[str, Any] | None
) -> dict[str, Any]:
    """What the result file says of how it was made."""
    training = settings["config"] if settings else {}
    return {
        "method": "CFM",
        "extractor": extractor["extractor"],
        "extractor_mode": extractor.get("mode"),
        "keep_blocks": extractor.get("keep_blocks"),
        "precision": detector.precision,
        "aggregation": aggregation,
        "mapper": detector.variant,
        "shots": training.get("data", {}).get("shots"),
        "seed": training.get("seed"),
        "extractor_fingerprint": extractor,
        "training": settings,
    }


def main(argv: list[str] | None = None) -> int:
    """Parse, load, predict, evaluate, write."""
    args = parse(argv)
    from tqdm import tqdm

    from datasets.frames import from_square
    from datasets.records import scan
    from datasets.sample import iter_samples, tensor_to_image
    from models.cfm import training
    from models.extractors import build_extractor
    from models.token_store import batches, extract_batch
    from utils.checkpoint import CheckpointName
    from utils.class_run import ClassRun

    device = cli.pick_device(args.device)
    name = CheckpointName(args.checkpoint_folder, args.class_name, args.epochs_no, args.batch_size)
    detector, settings, extractor_state = training.load(name, args.precision)
    extractor_name, options = resolve_options(args, settings)
    extractor = build_extractor(extractor_name, device, options, extractor_state)
    training.check_extractor(extractor, detector, settings)
    detector.to(device)

    skipped: list[str] | None = [] if args.skip_bad else None
    records = scan(args.dataset_path, args.class_name, "test", skipped)
    run = ClassRun(args.class_name, args.save_maps, args.produce_qualitatives or args.visualize_plot)
    native = args.save_maps is not None and args.map_size == "native"
    with tqdm(total=len(records), desc=f"{args.class_name}: inference", unit="image") as progress:
        for batch in batches(iter_samples(records, skipped), args.batch_size):
            start = time.perf_counter()
            tokens = extract_batch([sample for _, sample in batch], extractor, device)
            maps = [detector.predict(t, args.aggregation) for t in tokens]
            found = [anomaly_map.cpu() for anomaly_map in maps]  # predicting does not wait for the GPU, this does
            seconds = (time.perf_counter() - start) / len(batch)
            for (record, sample), anomaly_map in zip(batch, found, strict=True):
                image, depth, gt = tensor_to_image(sample.rgb), sample.xyz[2].numpy(), sample.gt.numpy()
                saved = from_square(anomaly_map.aupro_map().numpy(), sample.original) if native else None
                run.add(record.defect, record.stem, image, depth, gt, anomaly_map, seconds, saved=saved)
            progress.update(len(batch))

    config = result_config(detector, args.aggregation, extractor.fingerprint(), settings)
    path = run.write_results(args.quantitative_folder, args.epochs_no, args.batch_size, config, device.type)
    print(path.with_suffix(".md").read_text(encoding="utf-8"), end="")
    if run.with_pictures:
        run.write_pictures(args.qualitative_folder, show=args.visualize_plot)
    cli.report_skipped(skipped)
    return 0


if __name__ == "__main__":
    raise SystemExit(cli.run(main))
