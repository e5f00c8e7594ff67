"""Evaluation of one class, whatever the method: read a trained run, look at the test images, judge what it says."""

import argparse
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from tqdm import tqdm

from datasets.frames import from_square
from datasets.records import Record, scan
from datasets.sample import iter_samples, tensor_to_image, to_arrays
from evaluation.thresholds import Thresholds, load_thresholds, thresholds_path
from experiments.class_run import ClassRun, reserved
from models.checkpoints import weights_sha256
from models.method import Loaded, Method, TrainedRun
from models.token_store import batches
from utils.checkpoint import CheckpointName
from utils.devices import peak_memory, pick_device
from utils.errors import report_skipped
from utils.run_record import in_brief


def evaluate_class(method: Method, options: argparse.Namespace) -> None:
    """Evaluate a trained run on the test images of its class and write the results.

    Args:
        options: of `utils.cli.inference_parser`.

    Raises:
        UserError: a run or data that cannot be used, or another command is writing these results.
    """
    device = pick_device(options.device)
    name = CheckpointName(options.checkpoint_folder, options.class_name, options.epochs_no, options.batch_size)
    trained = TrainedRun(method.name, name, getattr(options, "checkpoint", "last") == "best")
    loaded, thresholds = read(method, trained, options, device)
    skipped: list[str] | None = [] if options.skip_bad else None
    records = scan(options.dataset_path, options.class_name, "test", skipped)
    pictures = options.qualitative_folder if options.produce_qualitatives or options.visualize_plot else None
    run = ClassRun(options.class_name, options.save_maps, pictures is not None, thresholds)
    run.weights_mb = sum(path.stat().st_size for path in method.weights(trained) if path.exists()) / 1e6
    key = options.class_name, options.epochs_no, options.batch_size
    with reserved(*key, records, options.quantitative_folder, pictures, options.save_maps):
        look(method, loaded, records, run, options, skipped)
        run.peak_mib = peak_memory(device)
        judge(method, loaded, run, options, device, pictures)
    report_skipped(skipped)


def read(
    method: Method, run: TrainedRun, options: argparse.Namespace, device: torch.device
) -> tuple[Loaded, Thresholds | None]:
    """A trained run, and its thresholds."""
    loaded = method.load(run, device, options.precision, vars(options))
    path, weights = thresholds_path(run.name, run.part), weights_sha256(run)
    thresholds, note = load_thresholds(path, loaded.pipeline.settings, weights, options.false_alarm_rate)
    for text in filter(None, (loaded.note, note)):
        print(text)
    return loaded, thresholds


def look(
    method: Method,
    loaded: Loaded,
    records: Sequence[Record],
    run: ClassRun,
    options: argparse.Namespace,
    skipped: list[str] | None,
) -> None:
    """Add what the run says of each test image."""
    ways = method.branches_of(loaded.pipeline)
    native = options.save_maps is not None and options.map_size == "native"
    samples = iter_samples(records, skipped, view=loaded.pipeline.view)
    with tqdm(total=len(records), desc=f"{run.class_name}: inference", unit="image") as progress:
        for batch in batches(samples, options.batch_size):
            start = time.perf_counter()
            found, make_panels = method.look(loaded.pipeline, [sample for _, sample in batch])
            seconds = (time.perf_counter() - start) / len(batch)
            panels = make_panels() if run.with_pictures else [{}] * len(batch)
            for (record, sample), anomaly_map, own in zip(batch, found, panels, strict=True):
                branches = {name: anomaly_map.branch(way) for name, way in ways.items()}
                saved = from_square(anomaly_map.aupro_map().numpy(), sample.original) if native else None
                what = record.defect, record.stem, *to_arrays(sample), anomaly_map, seconds
                run.add(*what, branches=branches, extra=_arrays(own), saved=saved)
            progress.update(len(batch))


def _arrays(panels: Mapping[str, Tensor]) -> dict[str, np.ndarray]:
    """Images as (H, W, 3) uint8, depths as they are."""
    return {name: tensor_to_image(panel) if panel.ndim == 3 else panel.numpy() for name, panel in panels.items()}


def judge(
    method: Method,
    loaded: Loaded,
    run: ClassRun,
    options: argparse.Namespace,
    device: torch.device,
    pictures: Path | None,
) -> None:
    """Write metrics, report and pictures."""
    config = {"method": method.name, **method.describe(loaded, vars(options)), "training": in_brief(loaded.settings)}
    path = run.write_results(options.quantitative_folder, options.epochs_no, options.batch_size, config, device.type)
    print(path.with_suffix(".md").read_text(encoding="utf-8"), end="")
    if pictures is not None:
        run.write_pictures(pictures, show=options.visualize_plot)
