"""Evaluate Crossmodal Feature Mapping on one class: python cfm_inference.py --dataset_path DIR --class_name bagel"""

import argparse
import time
from typing import TYPE_CHECKING, Any

from evaluation.thresholds import DEFAULT_RATE
from utils import cli
from utils.errors import report_skipped

if TYPE_CHECKING:
    from models.cfm.pipeline import CFMPipeline


def parse(argv: list[str] | None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__.split(":")[0] + ".")
    cli.add_dataset_options(parser)
    weights = "CFM_2Dto3D_CLASS_{epochs}ep_{batch}bs.pth"
    cli.add_checkpoint_option(parser, "./checkpoints/checkpoints_CFM_mvtec", weights)
    cli.add_run_options(parser, epochs=50, batch_size=4)
    cli.add_extractor_options(parser)
    cli.add_result_options(parser, DEFAULT_RATE)
    parser.add_argument(
        "--aggregation",
        choices=("product", "sum", "max", "2d", "3d"),
        default="product",
        help="how the maps of the two modalities become one (default: %(default)s, the paper's)",
    )
    return parser.parse_args(argv)


def result_config(pipeline: "CFMPipeline", settings: dict[str, Any] | None) -> dict[str, Any]:
    """What the result file says of how it was made."""
    from models.cfm.pipeline import chosen_view
    from utils.run_record import in_brief

    training = settings["config"] if settings else {}
    extractor = pipeline.extractor.fingerprint()
    return {
        "method": "CFM",
        "extractor": extractor["extractor"],
        "extractor_mode": extractor.get("mode"),
        "keep_blocks": extractor.get("keep_blocks"),
        "backbone": extractor.get("backbone"),
        "view": chosen_view(extractor),
        "precision": pipeline.detector.precision,
        "aggregation": pipeline.aggregation,
        "mapper": pipeline.detector.variant,
        "shots": training.get("data", {}).get("shots"),
        "seed": training.get("seed"),
        "extractor_fingerprint": extractor,
        "training": in_brief(settings),
    }


def main(argv: list[str] | None = None) -> int:
    """Parse, load, predict, evaluate, write."""
    args = parse(argv)
    from tqdm import tqdm

    from datasets.frames import from_square
    from datasets.records import scan
    from datasets.sample import iter_samples, to_arrays
    from evaluation.thresholds import load_thresholds, thresholds_path
    from experiments.class_run import ClassRun, reserved
    from models.cfm.pipeline import load_pipeline, weights_sha256
    from models.cfm.training import PART
    from models.token_store import batches
    from utils.checkpoint import CheckpointName
    from utils.devices import pick_device

    device = pick_device(args.device)
    name = CheckpointName(args.checkpoint_folder, args.class_name, args.epochs_no, args.batch_size)
    given = {"extractor": args.extractor, "mode": args.extractor_mode, "keep_blocks": args.keep_blocks}
    given |= {"backbone": args.backbone, "view": args.view}
    given = {option: value for option, value in given.items() if value is not None}
    files = args.rgb_weights, args.xyz_weights
    pipeline, settings = load_pipeline(name, device, args.precision, *files, args.aggregation, given)
    if settings is None:
        print(f"no settings beside the checkpoint, taken as the original authors': {pipeline.extractor.fingerprint()}")
    path, weights = thresholds_path(name, PART), weights_sha256(name)
    thresholds, note = load_thresholds(path, pipeline.settings, weights, args.false_alarm_rate)
    if note:
        print(note)

    skipped: list[str] | None = [] if args.skip_bad else None
    records = scan(args.dataset_path, args.class_name, "test", skipped)
    pictures = args.qualitative_folder if args.produce_qualitatives or args.visualize_plot else None
    key = args.class_name, args.epochs_no, args.batch_size
    run = ClassRun(args.class_name, args.save_maps, pictures is not None, thresholds)
    native = args.save_maps is not None and args.map_size == "native"
    with reserved(*key, records, args.quantitative_folder, pictures, args.save_maps):
        with tqdm(total=len(records), desc=f"{args.class_name}: inference", unit="image") as progress:
            for batch in batches(iter_samples(records, skipped, view=pipeline.view), args.batch_size):
                start = time.perf_counter()
                found = pipeline.maps([sample for _, sample in batch])
                seconds = (time.perf_counter() - start) / len(batch)
                for (record, sample), anomaly_map in zip(batch, found, strict=True):
                    saved = from_square(anomaly_map.aupro_map().numpy(), sample.original) if native else None
                    run.add(record.defect, record.stem, *to_arrays(sample), anomaly_map, seconds, saved=saved)
                progress.update(len(batch))
        config = result_config(pipeline, settings)
        path = run.write_results(args.quantitative_folder, *key[1:], config, device.type)
        print(path.with_suffix(".md").read_text(encoding="utf-8"), end="")
        if pictures is not None:
            run.write_pictures(pictures, show=args.visualize_plot)
    report_skipped(skipped)
    return 0


if __name__ == "__main__":
    raise SystemExit(cli.run(main))
