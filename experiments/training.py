"""Training of one class, whatever the method: read its good samples, learn from them, judge what was learned."""

import argparse
import time
from collections.abc import Iterator, Mapping, Sequence

from tqdm import tqdm

from datasets.records import NominalSplit, hash_images, nominal_split
from datasets.sample import Sample, iter_samples
from evaluation.thresholds import thresholds_path
from experiments.calibration import calibrate_class
from models.checkpoints import WEIGHT_FILES, load_run, weights_sha256
from models.method import Learned, Method, TrainedRun
from report.figures.training_curves import save_loss_plot
from utils.checkpoint import CheckpointName, lock_run
from utils.devices import pick_device
from utils.errors import UserError, report_skipped
from utils.process_settings import return_freed_memory
from utils.run_record import read_json_lines, training_record, wandb_logger
from utils.training import is_finished, save_run
from utils.view import ViewSettings


class ClassData:
    """The good samples of a class; see `models.method.NominalData`.

    Attributes:
        skipped: what could not be used; None where that stops the program.
        split: to train on, and to find thresholds with.
    """

    def __init__(self, options: argparse.Namespace) -> None:
        """options: of all training, see `utils.cli.training_parser`."""
        self.skipped: list[str] | None = [] if options.skip_bad else None
        which = options.dataset_path, options.class_name, options.shots, options.hold_out
        self.class_name: str = options.class_name
        drawn_by = options.seed if options.draw_shots else None
        self.split: NominalSplit = nominal_split(*which, self.skipped, drawn_by)
        self._records = {"train": self.split.train}
        if self.split.source == "validation":
            self._records["validation"] = self.split.validation
        self._hashes: dict[str, dict[str, str]] = {}

    @property
    def splits(self) -> Sequence[str]:
        return tuple(self._records)

    def hashes(self, split: str) -> Mapping[str, str]:
        if split not in self._hashes:
            self._hashes[split] = hash_images(self._records[split])
        return self._hashes[split]

    def samples(
        self, split: str, label: str, view: ViewSettings | None = None, stems: Sequence[str] | None = None
    ) -> Iterator[tuple[str, Sample]]:
        records = [record for record in self._records[split] if stems is None or record.stem in stems]
        found = iter_samples(records, self.skipped, view=view)
        bar = tqdm(found, f"{self.class_name}: {label}", len(records), unit="image")
        count = 0
        for count, (record, sample) in enumerate(bar, start=1):  # noqa: B007
            yield record.stem, sample
        if count == 0 and len(records) == len(self._records[split]):
            first = (self.skipped or ["?"])[0]
            raise UserError(f"none of the {len(records)} {split} samples can be used. The first: {first}")


def train_class(method: Method, options: argparse.Namespace) -> None:
    """Train a method on a class, unless that is done: what is missing of it is added.

    Args:
        options: of `utils.cli.training_parser`.

    Raises:
        UserError: data or options that cannot be used, or another command is writing this run.
    """
    name = CheckpointName(options.checkpoint_savepath, options.class_name, options.epochs_no, options.batch_size)
    with lock_run(name, method.name):
        _train(method, options, name)


def _train(method: Method, options: argparse.Namespace, name: CheckpointName) -> None:
    started = time.perf_counter()
    device, data = pick_device(options.device), ClassData(options)
    plan = method.plan(data, options, device)
    runs = [TrainedRun(method.name, name, best) for best in (False, True)]
    if not options.overwrite:
        first = method.weights(runs[0])[0]
        if is_finished(name, method.name, first, plan.config, options.resume):
            finish(method, runs, data, options)
            return

    log = wandb_logger(options.wandb_mode, f"{method.name} {data.class_name}", plan.config)
    read = plan.read()
    return_freed_memory()
    was_read = time.perf_counter()
    learned = plan.learn(read, name, options.resume, log)
    seconds = {method.reading: was_read - started, "training": time.perf_counter() - was_read}
    images = len(read) // learned.ways
    del read  # which may be most of the memory
    return_freed_memory()
    record = training_record(options.dataset_path, data.class_name, images, data.hashes("train"), seconds)
    if options.shots is not None:
        record["shots_drawn"] = options.draw_shots
    save_run(name, method.name, learned.states, plan.config, record, method.suffix)
    judge(method, runs, learned, data)


def judge(method: Method, runs: Sequence[TrainedRun], learned: Learned, data: ClassData) -> None:
    """Add thresholds and a plot of the losses to a saved checkpoint. runs: of the last and of the best weights."""
    name = runs[0].name
    for run, pipeline in zip(runs, (learned.last, learned.best), strict=True):
        if pipeline is not None:
            path = thresholds_path(name, run.part)
            calibrate_class(pipeline, data.split, path, weights_sha256(run), data.skipped)
    return_freed_memory()
    log = read_json_lines(name.path(method.name, ".jsonl"))
    if losses := [entry for entry in log if any(key.startswith("loss") for key in entry)]:
        save_loss_plot(name.path(method.name, ".png"), losses, f"{method.name}, {data.class_name}")
    report_skipped(data.skipped)
    print(f"saved {method.weights(runs[0])[0]} and its companions")


def finish(method: Method, runs: Sequence[TrainedRun], data: ClassData, options: argparse.Namespace) -> None:
    """Say that a run is finished; add the thresholds that it was stopped before, or that it was made without."""
    files = {name: getattr(options, name, None) for name in WEIGHT_FILES}
    for run in runs:
        if not any(path.is_file() for path in method.weights(run)):
            continue
        own = run.name.path(run.part, method.suffix)
        file = own if own.is_file() else run.name.path(run.part, ".json")
        print(f"{run}: this run is finished, see {file}; --overwrite trains it again")
        path = thresholds_path(run.name, run.part)
        if data.split.validation and not path.exists():
            pipeline = load_run(run, options.device, options=files).pipeline
            calibrate_class(pipeline, data.split, path, weights_sha256(run), data.skipped)
    report_skipped(data.skipped)
