"""Steps of on_gpu.py that ask whether things are right: the tests of a GPU, runs that stop and go on, checkpoints."""

import importlib.util
import os
import subprocess
import sys
import xml.etree.ElementTree as ElementTree
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from benchmarks import cases, scenes
from benchmarks.gpu_task import Skipped, Task
from benchmarks.measure import in_fresh_process
from datasets.sample import Sample, make_sample
from models.cfm import training as cfm
from models.dbmrnet import training as dbmrnet
from models.dbmrnet.inputs import prepare
from models.dbmrnet.settings import ModelSettings
from models.extractors.handcrafted import Handcrafted
from models.token_store import extract_batch, fit_extractor
from utils import cli
from utils.checkpoint import CheckpointName
from utils.devices import pick_device
from utils.training import save_run

ROOT = Path(__file__).resolve().parents[1]
EPOCHS, STOPPED, BATCH = 4, 3, 2  # the run is stopped while epoch 3 is told of, so that it goes on there
CLASS = "cap"
ROUNDING = 1e-2
"""Largest relative difference of weights, in their norm, between devices after a short training."""


def tests(task: Task) -> None:
    """The tests that compare a GPU with the CPU."""
    some = ["-k", "not another_device"] if task.small else []  # the step `runs` tries that
    methods = "tests/models/dbmrnet/test_on_cuda.py", "tests/models/memory/test_memory_on_cuda.py"
    run_tests(task, "tests/models/test_cuda.py", *methods, *some)


def golden(task: Task) -> None:
    """CFM's maps and scores, fp32 and bf16, against expected values that the tests carry."""
    run_tests(task, "tests/models/test_golden_on_cuda.py", *(["-k", "bf16"] if task.small else []))


def run_tests(task: Task, *words: str) -> None:
    """Call pytest; what its tests record becomes notes. Raises AssertionError with the names of those that fail."""
    for package in ("pytest", "timm"):
        if importlib.util.find_spec(package) is None:
            raise Skipped(f"{package} is missing")
    path = task.folder / f"{task.name}.xml"
    command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "-rs", f"--junitxml={path}", *words]
    subprocess.run(command, cwd=ROOT, env=os.environ | {"GPU_TESTS_DEVICE": task.device}, check=False)
    if not path.exists():
        raise AssertionError("pytest could not start, see above")
    found: dict[str, list[str]] = {"passed": [], "failed": [], "skipped": []}
    for case in ElementTree.parse(path).getroot().iter("testcase"):
        kinds = {child.tag for child in case}
        found["skipped" if "skipped" in kinds else "failed" if kinds & {"failure", "error"} else "passed"].append(
            str(case.get("name"))
        )
        for item in case.iter("property"):
            task.note(str(item.get("name")), float(str(item.get("value"))))
    task.note("tests", {kind: len(names) for kind, names in found.items()})
    if found["failed"] or not (found["passed"] or found["skipped"]):
        raise AssertionError(f"failed: {', '.join(found['failed']) or 'no test was found'}")
    if not found["passed"]:
        raise Skipped("all tests were skipped, see above")


def small_samples(count: int) -> list[Sample]:
    """Domes of few pixels."""
    return [make_sample(*image_and_cloud(seed)) for seed in range(count)]


def image_and_cloud(seed: int) -> tuple[np.ndarray, np.ndarray]:
    return cases.dome(pixels=3000, side=112, seed=seed)


Train = Callable[[str, torch.device, bool, Callable[[dict[str, Any]], None]], dict[str, Tensor]]
"""(folder, device, resume, report) → the weights that a short run ends with, read back from its checkpoint."""


def runs(task: Task) -> None:
    """A run repeated, stopped by a full memory and gone on with, here and on the other device."""
    device, samples = pick_device(task.device), small_samples(3)
    check_runs(task, "CFM", cfm_run(task, samples), device)
    check_runs(task, "DBMRNet", dbmrnet_run(task, samples), device)


def cfm_run(task: Task, samples: list[Sample]) -> Train:
    extractor = Handcrafted()
    fit_extractor(extractor, samples, 1, torch.device("cpu"))
    config = cfm.CFMConfig(extractor.fingerprint(), {}, "mlp", "fp32", EPOCHS, BATCH, 0, 1.0)

    def train(
        folder: str, device: torch.device, resume: bool, report: Callable[[dict[str, Any]], None]
    ) -> dict[str, Tensor]:
        name = CheckpointName(task.folder / "runs" / folder, "CFM", EPOCHS, BATCH)
        tokens = extract_batch(samples, extractor, device)
        found = cfm.train(tokens, config, name, device, resume, report, 0)
        save_run(name, cfm.PART, cfm.states(found, extractor.state_dict()), config, {}, ".pth")
        return cfm.load(name, None)[0].state_dict()

    return train


def dbmrnet_run(task: Task, samples: list[Sample]) -> Train:
    config = dbmrnet.DBMRNetConfig(ModelSettings("small"), {}, "fp32", EPOCHS, BATCH, 0, 1e-3, 1)

    def train(
        folder: str, device: torch.device, resume: bool, report: Callable[[dict[str, Any]], None]
    ) -> dict[str, Tensor]:
        name = CheckpointName(task.folder / "runs" / folder, "DBMRNet", EPOCHS, BATCH)
        images = prepare(samples, config.model, 0, device)
        found = dbmrnet.train(images, None, config, name, resume, report, 0)
        save_run(name, dbmrnet.PART, dbmrnet.states(found), config, {}, dbmrnet.SUFFIX)
        return dbmrnet.load(name, dbmrnet.PART, None)[0].state_dict()

    return train


def check_runs(task: Task, method: str, train: Train, device: torch.device) -> None:
    """Compare the weights that runs of a method end with, and say whether those of one device are bit-equal."""

    def silent(entry: dict[str, Any]) -> None:
        pass

    def fill_memory(entry: dict[str, Any]) -> None:
        if entry["epoch"] == STOPPED:
            torch.empty(1 << 50, dtype=torch.uint8, device=device)  # a pebibyte

    def stopped(folder: str, where: torch.device) -> int:
        train(folder, where, False, fill_memory)
        return 0

    cpu = torch.device("cpu")
    whole, again = train("whole", device, False, silent), train("again", device, False, silent)
    task.note(f"{method}: a repeated run is bit-equal", all(torch.equal(whole[name], again[name]) for name in whole))
    compare(task, f"{method}: repeated", again, whole)
    compare(task, f"{method}: on the CPU", train("cpu", cpu, False, silent), whole)
    ways = (device, device, "here"), (device, cpu, "on the CPU"), (cpu, device, "begun on the CPU")
    for first, second, words in ways:
        folder = f"resumed {words}"
        status = cli.run(partial(stopped, folder, first))
        task.check(status == 2, f"{method}: status of a run whose memory is full", status)
        compare(task, f"{method}: gone on with, {words}", train(folder, second, True, silent), whole)


def compare(task: Task, name: str, found: dict[str, Tensor], expected: dict[str, Tensor]) -> None:
    """Check that weights differ by rounding only."""
    both = [torch.cat([part.flatten().double() for part in state.values()]) for state in (found, expected)]
    difference = float((both[0] - both[1]).norm() / both[1].norm())
    task.check(difference < ROUNDING, f"{name}: relative difference of the weights", difference)


def load(task: Task) -> None:
    """Checkpoints written by the command lines are read, and used, by a process that has no GPU."""
    counts = ["--train", "4", "--validation", "1", "--test", "1", "--size", "160", "--classes", CLASS]
    data = scenes.make_scenes(task.folder, *counts)
    common = ["--dataset_path", str(data), "--class_name", CLASS, "--epochs_no", "2", "--device", task.device]
    methods = {"cfm": ["--extractor", "handcrafted"], "dbmrnet": ["--preset", "small", "--batch_size", "2"]}
    folders = [task.folder / "checkpoints" / method / CLASS for method in methods]
    for (method, words), folder in zip(methods.items(), folders, strict=True):
        scenes.call(f"{method}_training.py", *common, *words, "--checkpoint_savepath", str(folder.parent))
    here = scores(folders, data, task.device)
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    os.environ["CUDA_VISIBLE_DEVICES"] = ""
    try:
        there = in_fresh_process(scores, folders, data, "auto")
    finally:
        os.environ.pop("CUDA_VISIBLE_DEVICES")
        os.environ.update({"CUDA_VISIBLE_DEVICES": visible} if visible is not None else {})
    for method, found, expected in zip(methods, there, here, strict=True):
        deviation = max(abs(a / b - 1) for a, b in zip(found, expected, strict=True))
        task.check(deviation < ROUNDING, f"{method}: scores without a GPU, largest relative difference", deviation)


def scores(checkpoints: list[Path], data: Path, device: str) -> list[list[float]]:
    """Scores of some test parts by each checkpoint."""
    from datasets.readers import read_rgb, read_xyz
    from datasets.records import scan
    from inspection import load_detector

    parts = [(read_rgb(record.rgb), read_xyz(record.xyz)) for record in scan(data, CLASS, "test")[:4]]
    detectors = [load_detector(checkpoint, device=device) for checkpoint in checkpoints]
    return [[detector.predict(*part).score for part in parts] for detector in detectors]
