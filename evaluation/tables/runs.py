"""Result files of many classes → runs: what was made with the same settings."""

import json
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from evaluation.protocol import FORMAT, PROTOCOL_SETTINGS
from utils.errors import UserError
from utils.files import read_text, read_with

RESULT_NAME = re.compile(r"(?P<class_name>.+)_(?P<run>\d+ep_\d+bs)")
REQUIRED_KEYS = ("class_name", "aupro", "aupro_thresholds", "aupro_exact", "p_auroc", "i_auroc", "per_defect")
METRICS: dict[str, tuple[str, ...]] = {
    "I-AUROC": ("i_auroc",),
    "P-AUROC": ("p_auroc",),
    "AUPRO@30%": ("aupro", "0.3"),
    "AUPRO@10%": ("aupro", "0.1"),
    "AUPRO@5%": ("aupro", "0.05"),
    "AUPRO@1%": ("aupro", "0.01"),
    "exact@30%": ("aupro_exact", "0.3"),
    "exact@10%": ("aupro_exact", "0.1"),
    "exact@5%": ("aupro_exact", "0.05"),
    "exact@1%": ("aupro_exact", "0.01"),
}
"""Column heading → where the figure lies in a result file."""
DEFECT_METRICS = {"I-AUROC": "i_auroc", "P-AUROC": "p_auroc", "AUPRO@30%": "aupro_0.3"}


@dataclass(frozen=True)
class ResultFile:
    """One JSON file that an evaluation wrote."""

    path: Path
    content: dict[str, Any]


@dataclass(frozen=True)
class Run:
    """Results of several classes that were made with the same settings, of the whole method or of one branch of it."""

    name: str
    """For example "50ep_4bs", with the settings that set it apart from the other runs of its folder."""
    method: str
    """For example "CFM"; with the name of a branch, "DBMRNet (3D only)"."""
    results: dict[str, dict[str, Any]]
    """Class name → content of its result file, for a branch what the file says of it."""
    files: dict[str, ResultFile]
    """Class name → its result file, for a branch that of the whole method."""
    branch: str = ""
    """Name of the branch; empty for a whole method."""

    @property
    def label(self) -> str:
        """Method and name, as titles and rows show them."""
        return f"{self.method} {self.name}".strip()


def load_folders(folders: Sequence[Path]) -> list[Run]:
    """The runs of each folder, see `load_runs`; those with equal labels in different folders are told apart by them."""
    found = [(folder, run) for folder in dict.fromkeys(folders) for run in load_runs(folder)]
    labels = Counter(run.label for _, run in found)
    return [replace(run, name=f"{run.name}, {folder}") if labels[run.label] > 1 else run for folder, run in found]


def load_runs(folder: Path) -> list[Run]:
    """Read `CLASS_{EPOCHS}ep_{BATCH}bs.json` of a folder and group them by run; branches follow as runs of their own.

    Raises:
        UserError: the folder is missing or holds no result file, or a result file is damaged.
    """
    if not Path(folder).is_dir():
        raise UserError(f"{folder}: expected a folder of result files, found none; check --quantitative_folder")
    groups: dict[frozenset[tuple[str, str]], dict[str, ResultFile]] = {}
    found: dict[frozenset[tuple[str, str]], dict[str, str]] = {}
    for path in sorted(Path(folder).glob("*.json")):
        if match := RESULT_NAME.fullmatch(path.stem):
            result = read_result(path, match["class_name"])
            settings = {"": match["run"], **run_settings(result)}
            key = frozenset(settings.items())
            found.setdefault(key, settings)
            groups.setdefault(key, {})[match["class_name"]] = ResultFile(path, result)
    if not groups:
        raise UserError(
            f"{folder}: expected result files named CLASS_{{EPOCHS}}ep_{{BATCH}}bs.json, found none; "
            "make them with an inference script and the same --quantitative_folder"
        )
    names = dict.fromkeys(name for settings in found.values() for name in settings if name)
    telling = [name for name in names if len({settings.get(name) for settings in found.values()}) > 1]
    runs = []
    for key, files in groups.items():
        settings = found[key]
        told = (f"{name} {settings[name]}" for name in telling if name in settings)
        results = {name: file.content for name, file in files.items()}
        run = Run(", ".join([settings[""], *told]), settings.get("method", ""), results, files)
        runs += [run, *_branches(run)]
    return runs


def run_settings(result: dict[str, Any]) -> dict[str, str]:
    """Name → text of what sets runs apart in a result file: each single value of `config`, and of the protocol.

    Lists and objects in `config` only describe the run of one class. Results that differ in a setting are not averaged
    together.
    """
    config, protocol = result.get("config") or {}, result.get("protocol") or {}
    values = {key: value for key, value in config.items() if not isinstance(value, list | dict)}
    values |= {f"protocol {key}": protocol.get(key) for key in PROTOCOL_SETTINGS}
    return {name: str(value) for name, value in values.items() if value is not None}


def _branches(run: Run) -> list[Run]:
    names = dict.fromkeys(branch for result in run.results.values() for branch in result.get("branches", {}))
    return [
        Run(
            run.name,
            f"{run.method} ({branch})",
            {name: r["branches"][branch] for name, r in run.results.items() if branch in r.get("branches", {})},
            run.files,
            branch,
        )
        for branch in names
    ]


def read_result(path: Path, class_name: str) -> dict[str, Any]:
    """Content of the result file of a class. Raises UserError where it is damaged, or of another class."""
    result = read_with(path, _parse_result, "Run the evaluation of this class again.")
    if result["class_name"] != class_name:
        raise UserError(
            f"{path}: results of class {result['class_name']} in a file named after {class_name}; rename it"
        )
    return result


def _parse_result(path: Path) -> dict[str, Any]:
    """Content of a result file. Raises one of Python's own exceptions where a figure is not there."""
    result = dict(json.loads(read_text(path)))
    dict(result.get("config") or {})
    dict(result.get("protocol") or {})
    if (found := result.get("format", FORMAT)) != FORMAT:
        raise ValueError(f"expected format {FORMAT}, found {found!r:.60}, perhaps of a newer version of this program")
    for name, metrics in (("the file", result), *result.get("branches", {}).items()):
        needed = REQUIRED_KEYS if metrics is result else REQUIRED_KEYS[1:]
        if missing := [key for key in needed if key not in metrics]:
            raise ValueError(f"{name} is without {', '.join(missing)}")
        figures = [metric_of(metrics, keys) for keys in METRICS.values()]
        figures += [defect[key] for defect in metrics["per_defect"].values() for key in DEFECT_METRICS.values()]
        if wrong := [figure for figure in figures if not isinstance(figure, float | int | None)]:
            raise ValueError(f"expected numbers as figures, found {wrong[0]!r:.60}")
        for part in (metrics, *metrics["per_defect"].values()):
            interval_of(part)
    return result


def metric_of(result: dict[str, Any] | None, path: tuple[str, ...]) -> float | None:
    """The figure at a path of keys; None when the class is absent."""
    value: Any = result
    for key in path if result is not None else ():
        value = value[key]
    return value


def interval_of(metrics: dict[str, Any]) -> tuple[float | None, float | None]:
    """Ends of the 95 % interval of I-AUROC; (None, None) where it is undefined or not told, as in old files.

    Raises:
        ValueError, TypeError: there is something else.
    """
    ends = metrics.get("i_auroc_interval")
    if ends is None:
        return None, None
    low, high = ends
    return float(low), float(high)
