"""Evaluate DBMRNet on one class: python dbmrnet_inference.py --dataset_path DIR --class_name bagel"""

import argparse
import time
from typing import TYPE_CHECKING, Any

from evaluation.thresholds import DEFAULT_RATE
from models.dbmrnet.settings import FUSIONS, PRESETS, SCORES
from utils import cli
from utils.errors import UserError, report_skipped

if TYPE_CHECKING:
    import numpy as np

    from datasets.sample import Sample
    from models.dbmrnet.detector import DBMRNetDetector, Rebuilt
    from models.dbmrnet.inputs import Inputs

BRANCHES = {"2D only": "2d", "3D only": "3d"}
"""What is reported beside the fused maps: name → fusion."""


def parse(argv: list[str] | None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__.split(":")[0] + ".")
    cli.add_dataset_options(parser)
    weights = "DBMRNet_CLASS_{epochs}ep_{batch}bs.safetensors"
    cli.add_checkpoint_option(parser, "./checkpoints/checkpoints_DBMRNet_mvtec", weights)
    cli.add_run_options(parser, epochs=300, batch_size=16)
    cli.add_result_options(parser, DEFAULT_RATE, "dbmrnet_mvtec")
    parser.add_argument("--preset", choices=tuple(PRESETS), help="that of the checkpoint; another one is refused")
    parser.add_argument(
        "--checkpoint",
        choices=("last", "best"),
        default="last",
        help="weights of the last epoch, or of that with the lowest validation loss (default: %(default)s)",
    )
    parser.add_argument(
        "--score",
        choices=SCORES,
        default=SCORES[0],
        help="compare with the reconstruction, the network's features of both, or add both (default: %(default)s)",
    )
    parser.add_argument(
        "--fusion",
        choices=FUSIONS,
        default=FUSIONS[0],
        help="how the maps of the two modalities become one (default: %(default)s)",
    )
    return parser.parse_args(argv)


def panels(inputs: "Inputs", rebuilt: "Rebuilt", samples: "list[Sample]") -> list[dict[str, "np.ndarray"]]:
    """What was rebuilt of each sample, as panels of its figure beside the originals."""
    import torch

    from datasets.sample import tensor_to_image
    from models.dbmrnet.scoring import rebuilt_depth, rebuilt_frame

    rgb = torch.stack([sample.rgb for sample in samples]).to(inputs.image.device)
    images = rebuilt_frame(inputs, rebuilt.image, rgb).cpu()
    depths = rebuilt_depth(inputs, rebuilt.points).cpu().numpy()
    return [
        {"RGB rebuilt": tensor_to_image(image), "depth rebuilt (m)": depth}
        for image, depth in zip(images, depths, strict=True)
    ]


def result_config(args: argparse.Namespace, detector: "DBMRNetDetector", settings: dict[str, Any]) -> dict[str, Any]:
    """What the result file says of how it was made."""
    from utils.run_record import in_brief

    return {
        "method": "DBMRNet",
        "preset": detector.settings.preset,
        "precision": detector.precision,
        "score": args.score,
        "fusion": args.fusion,
        "checkpoint": args.checkpoint,
        "shots": settings["config"]["data"].get("shots"),
        "seed": settings["config"]["seed"],
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
    from models.dbmrnet import training
    from models.dbmrnet.pipeline import DBMRNetPipeline, weights_sha256
    from models.token_store import batches
    from utils.checkpoint import CheckpointName
    from utils.devices import pick_device

    device = pick_device(args.device)
    name = CheckpointName(args.checkpoint_folder, args.class_name, args.epochs_no, args.batch_size)
    part = training.PARTS[args.checkpoint]
    detector, settings = training.load(name, part, args.precision)
    made = DBMRNetPipeline(detector.to(device), args.score, args.fusion).settings
    if args.preset not in (None, detector.settings.preset):
        raise UserError(
            f"--preset {args.preset}: the checkpoint was trained with {detector.settings.preset}. Leave the option out."
        )
    path, weights = thresholds_path(name, part), weights_sha256(name, part)
    thresholds, note = load_thresholds(path, made, weights, args.false_alarm_rate)
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
            for batch in batches(iter_samples(records, skipped), args.batch_size):
                samples = [sample for _, sample in batch]
                start = time.perf_counter()
                inputs = detector.prepare(samples)
                rebuilt = detector.reconstruct(inputs)
                found = detector.discrepancies(inputs, rebuilt, args.score)
                fused = [anomaly_map.cpu() for anomaly_map in detector.maps(found, args.fusion)]
                seconds = (time.perf_counter() - start) / len(batch)
                alone = {part: [m.cpu() for m in detector.maps(found, way)] for part, way in BRANCHES.items()}
                extras = panels(inputs, rebuilt, samples) if run.with_pictures else [{}] * len(batch)
                for i, (record, sample) in enumerate(batch):
                    branches = {part: maps[i] for part, maps in alone.items()}
                    what = (record.defect, record.stem, *to_arrays(sample), fused[i], seconds)
                    saved = from_square(fused[i].aupro_map().numpy(), sample.original) if native else None
                    run.add(*what, branches=branches, extra=extras[i], saved=saved)
                progress.update(len(batch))
        config = result_config(args, detector, settings)
        path = run.write_results(args.quantitative_folder, *key[1:], config, device.type)
        print(path.with_suffix(".md").read_text(encoding="utf-8"), end="")
        if pictures is not None:
            run.write_pictures(pictures, show=args.visualize_plot)
    report_skipped(skipped)
    return 0


if __name__ == "__main__":
    raise SystemExit(cli.run(main))
