"""From a path that a user gives to the run whose checkpoint it means."""

import re
from dataclasses import dataclass
from pathlib import Path

from utils.checkpoint import CheckpointName
from utils.errors import UserError

_PART = r"(?P<method>CFM|DBMRNet)(?P<best>_best)?(_2Dto3D|_3Dto2D|_extractor|_thresholds)?"
_RUN = r"(?P<epochs>\d+)ep_(?P<batch>\d+)bs\.(pth|safetensors|json|jsonl|png)"
_CFM_WEIGHTS = re.compile(r"CFM_(2Dto3D|3Dto2D)_(?P<class_name>.+)_\d+ep_\d+bs\.pth")
_DBMRNET_WEIGHTS = re.compile(r"DBMRNet_(?P<class_name>.+)_\d+ep_\d+bs\.safetensors")


@dataclass(frozen=True)
class TrainedRun:
    """A trained run. method: "CFM" or "DBMRNet". best: the weights that were best on validation samples."""

    method: str
    name: CheckpointName
    best: bool = False

    @property
    def part(self) -> str:
        """Begin of the names of its settings', thresholds' and, for DBMRNet, weights' files."""
        return f"{self.method}_best" if self.best else self.method

    def __str__(self) -> str:
        best = " (best)" if self.best else ""
        return f"{self.method} {self.name.class_name} {self.name.epochs}ep_{self.name.batch_size}bs{best}"


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
    names = {match["class_name"] for name in there if (match := _CFM_WEIGHTS.fullmatch(name))}
    for name in there:
        # DBMRNet_best_gear_… holds the weights of a class best_gear, if it has settings, or the best ones of gear
        if (match := _DBMRNET_WEIGHTS.fullmatch(name)) and Path(name).with_suffix(".json").name in there:
            names.add(match["class_name"])
    return sorted(names, key=len, reverse=True) or [folder.absolute().name]


def _run_of(path: Path, class_names: list[str]) -> TrainedRun | None:
    """The run of one of the classes that a file belongs to by its name; None if to none."""
    folder = path.absolute().parent
    for class_name in class_names:
        if match := re.fullmatch(f"{_PART}_{re.escape(class_name)}_{_RUN}", path.name):
            place = None if folder.name == class_name else folder
            name = CheckpointName(folder.parent, class_name, int(match["epochs"]), int(match["batch"]), place)
            return TrainedRun(match["method"], name, match["best"] is not None)
    return None
