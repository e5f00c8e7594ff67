"""From a path that a user gives to the run whose checkpoint it means, and from a run to what it says of samples."""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from models.method import Loaded, Method, TrainedRun
from models.methods import METHODS
from utils.checkpoint import CheckpointName
from utils.devices import pick_device
from utils.errors import UserError
from utils.files import sha256_files

_RUN = r"(?P<epochs>\d+)ep_(?P<batch>\d+)bs"
_SUFFIX = r"\.(pth|safetensors|json|jsonl|png)"
WEIGHT_FILES = ("rgb_weights", "xyz_weights")
"""Options of every command that loads a run: files for extractors, instead of the public ones."""


def method_of(run: TrainedRun) -> Method:
    """The method of a run."""
    return METHODS[run.method.lower()]


def weights_sha256(run: TrainedRun) -> str:
    """Hash of the files that decide the maps."""
    return sha256_files(path for path in method_of(run).weights(run) if path.is_file())


def load_run(
    run: TrainedRun, device: str = "auto", precision: str | None = None, options: Mapping[str, Any] | None = None
) -> Loaded:
    """Load a run as its method does, see `Method.load`. device: see `pick_device`.

    Raises:
        UserError: a damaged file, or a device that is not there.
    """
    return method_of(run).load(run, pick_device(device), precision, options or {})


def find_run(checkpoint: Path) -> TrainedRun:
    """The run that a path means.

    Args:
        checkpoint: a folder that holds one run, or any file of a run in it. The folder may have any name: the class's
            is told by the files'.

    Raises:
        UserError: no checkpoint, or several.
    """
    checkpoint = Path(checkpoint)
    if checkpoint.is_dir():
        names = _class_names(checkpoint)
        runs = {run for path in checkpoint.iterdir() if (run := _run_of(path, names)) is not None and not run.best}
        runs = {
            run for run in runs if run.name.place is None
        } or runs  # those of the class that the folder is named after
        if len(runs) == 1:
            return runs.pop()
        if runs:
            found = ", ".join(sorted(map(str, runs)))
            raise UserError(f"{checkpoint}: holds {len(runs)} runs ({found}). Name a file of the one that you mean.")
        raise UserError(
            f"{checkpoint}: expected the checkpoint of a class, for example CFM_bagel_50ep_4bs.json and its "
            "companions, found none. Train first, or check the path."
        )
    run = _run_of(checkpoint, _class_names(checkpoint.parent)) if checkpoint.exists() else None
    if run is None:
        found = "a file that is not named like one" if checkpoint.exists() else "no such file"
        raise UserError(
            f"{checkpoint}: expected a class's checkpoint folder or a file of a checkpoint in it, for example "
            f"bagel/CFM_bagel_50ep_4bs.json, found {found}."
        )
    return run


def _class_names(folder: Path) -> list[str]:
    """The classes whose weights lie in a folder, long names first; without any, the folder's own name."""
    there = {path.name for path in folder.iterdir()}
    names = set()
    for method in METHODS.values():
        for part in method.parts:
            weights = re.compile(f"{re.escape(method.name + part)}_(?P<class_name>.+)_{_RUN}{re.escape(method.suffix)}")
            for match in filter(None, map(weights.fullmatch, there)):
                # NAME_best_gear_… holds the weights of a class best_gear, if it has settings, or the best ones of gear
                if part or Path(match[0]).with_suffix(".json").name in there:
                    names.add(match["class_name"])
    return sorted(names, key=len, reverse=True) or [folder.absolute().name]


def _run_of(path: Path, class_names: list[str]) -> TrainedRun | None:
    """The run of one of the classes that a file belongs to by its name; None if to none."""
    folder = path.absolute().parent
    for class_name in class_names:
        for method in METHODS.values():
            parts = "|".join(map(re.escape, {*method.parts, "", "_thresholds"}))
            begin = f"{re.escape(method.name)}(?P<best>_best)?({parts})_{re.escape(class_name)}_"
            if match := re.fullmatch(f"{begin}{_RUN}{_SUFFIX}", path.name):
                place = None if folder.name == class_name else folder
                name = CheckpointName(folder.parent, class_name, int(match["epochs"]), int(match["batch"]), place)
                return TrainedRun(method.name, name, match["best"] is not None)
    return None
