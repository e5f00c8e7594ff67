"""From a path that a user gives to the run whose checkpoint it means."""

import re
from dataclasses import dataclass
from pathlib import Path

from utils.checkpoint import CheckpointName
from utils.errors import UserError

_PART = r"(?P<method>CFM|DBMRNet)(?P<best>_best)?(_2Dto3D|_3Dto2D|_extractor|_thresholds)?"
_RUN = r"(?P<epochs>\d+)ep_(?P<batch>\d+)bs\.(pth|safetensors|json|jsonl|png)"


@dataclass(frozen=True)
class Run:
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


def find_run(checkpoint: Path) -> Run:
    """The run that a path means.

    Args:
        checkpoint: `FOLDER/CLASS` where it holds one run, or any file of a run in it.

    Raises:
        UserError: no checkpoint, or several.
    """
    checkpoint = Path(checkpoint)
    if checkpoint.is_dir():
        runs = {run for path in checkpoint.iterdir() if (run := _run_of(path)) is not None and not run.best}
        if len(runs) == 1:
            return runs.pop()
        if runs:
            names = ", ".join(sorted(map(str, runs)))
            raise UserError(f"{checkpoint}: holds {len(runs)} runs ({names}). Name a file of the one that you mean.")
        raise UserError(
            f"{checkpoint}: expected the checkpoint of a class, for example CFM_bagel_50ep_4bs.json and its companions "
            "in a folder bagel, found none. Train first, or check the path."
        )
    run = _run_of(checkpoint)
    if run is None or not checkpoint.exists():
        found = "no such file" if not checkpoint.exists() else "a file that is not named like one"
        raise UserError(
            f"{checkpoint}: expected a class's checkpoint folder or a file of a checkpoint in it, for example "
            f"bagel/CFM_bagel_50ep_4bs.json, found {found}."
        )
    return run


def _run_of(path: Path) -> Run | None:
    """The run that a file belongs to by its name; None if to none."""
    path = path.absolute()
    class_name = path.parent.name
    match = re.fullmatch(f"{_PART}_{re.escape(class_name)}_{_RUN}", path.name)
    if match is None:
        return None
    name = CheckpointName(path.parents[1], class_name, int(match["epochs"]), int(match["batch"]))
    return Run(match["method"], name, match["best"] is not None)
