"""What is stored beside results and checkpoints: versions, commit, machine, data; and the log of a training run."""

import dataclasses
import hashlib
import json
import os
import platform
import subprocess
from collections.abc import Callable, Iterator, Mapping
from importlib import metadata
from pathlib import Path
from typing import Any, Literal

from utils.errors import UserError
from utils.files import atomic_path, read_text, read_with
from utils.parallel import available_cores

PROJECT_ROOT = Path(__file__).resolve().parents[1]
PACKAGES = (
    "torch",
    "torchvision",
    "timm",
    "numpy",
    "scipy",
    "scikit-learn",
    "open3d",
    "fpsample",
    "tifffile",
    "pillow",
    "safetensors",
)
SPLITS = ("train", "validation", "test")
TRAINING_IMAGES = "training_images"
"""Key of a checkpoint's settings: stem of each training image → SHA-256 of its image and of its cloud."""


def training_record(
    dataset_path: Path, class_name: str, images: int, hashes: Mapping[str, str], seconds: Mapping[str, float]
) -> dict[str, Any]:
    """What is kept of a training beside its settings, as JSON values.

    Args:
        images: number that was trained on.
        hashes: of the training images, see `datasets.records.hash_images`.
        seconds: that were spent, by name.
    """
    manifest = data_manifest(dataset_path, class_name)
    known = {"images": images, TRAINING_IMAGES: dict(hashes), "data_manifest": manifest, "seconds": dict(seconds)}
    return {**known, **provenance()}


def provenance() -> dict[str, Any]:
    """Versions, commit and machine of this run, as JSON values."""
    return {"versions": versions(), "git_commit": git_commit(), "machine": machine()}


def in_brief(settings: Mapping[str, Any] | None) -> dict[str, Any] | None:
    """A checkpoint's settings for result files, without the list of its training images."""
    return None if settings is None else {key: value for key, value in settings.items() if key != TRAINING_IMAGES}


def versions() -> dict[str, str]:
    """Version of Python and of each installed package that results may depend on; imports none of them."""
    found = {"python": platform.python_version()}
    for package in PACKAGES:
        try:
            found[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            continue
    return found


def git_commit(root: Path = PROJECT_ROOT) -> str | None:
    """Commit that is checked out at `root`, with `-dirty` when tracked files differ from it; None outside a checkout.

    A copy of the project inside the checkout of something else counts as outside.
    """

    def git(*arguments: str) -> str:
        command = ["git", "-C", str(root), *arguments]
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()

    try:
        if Path(git("rev-parse", "--show-toplevel")).resolve() != root.resolve():
            return None
        commit = git("rev-parse", "HEAD")
        return f"{commit}-dirty" if git("status", "--porcelain", "--untracked-files=no") else commit
    except (OSError, subprocess.CalledProcessError):
        return None  # no git, no checkout, or no commit yet


def machine() -> dict[str, Any]:
    """CPU model, the instructions that torch takes on it (such as AVX2: `bf16` and rounding hang on them), cores this
    process may use, memory in GiB, and the name of torch's GPU (None without one).
    """
    import torch

    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return {
        "cpu": _cpu_model(),
        "cpu_capability": torch.backends.cpu.get_cpu_capability(),
        "cores": available_cores(),
        "memory_gib": round(memory / 2**30, 1),
        "gpu": torch.cuda.get_device_name() if torch.cuda.is_available() else None,
    }


def _cpu_model(cpuinfo: Path = Path("/proc/cpuinfo")) -> str:
    if cpuinfo.exists():
        for line in cpuinfo.read_text(encoding="utf-8").splitlines():
            key, _, value = line.partition(":")
            if key.strip() == "model name":
                return value.strip()
    return platform.processor() or platform.machine()


def data_manifest(dataset_path: Path, class_name: str) -> dict[str, Any]:
    """What a class's folder holds, so that two runs can be told to have seen the same data.

    Returns:
        `files`: number of files by split; `sha256` of the sorted relative names and sizes of all of them;
        `preprocessing`: the dataset's `preprocessing.json` without its entries for single files, None without one.

    Raises:
        UserError: the class has no folder, or `preprocessing.json` is damaged.
    """
    folder = Path(dataset_path) / class_name
    if not folder.is_dir():
        raise UserError(f"{folder}: expected the folder of class `{class_name}`, found none.")
    files: dict[str, int] = {}
    entries = []
    for split in SPLITS:
        paths = [path for path in (folder / split).rglob("*") if path.is_file() and not path.name.startswith(".")]
        if paths:
            files[split] = len(paths)
        entries += [f"{path.relative_to(folder).as_posix()}\t{path.stat().st_size}\n" for path in paths]
    digest = hashlib.sha256("".join(sorted(entries)).encode()).hexdigest()
    return {"files": files, "sha256": digest, "preprocessing": _preprocessing(Path(dataset_path))}


def _preprocessing(dataset_path: Path) -> dict[str, Any] | None:
    path = dataset_path / "preprocessing.json"
    if not path.exists():
        return None
    manifest = read_with(path, lambda file: dict(json.loads(read_text(file))), "Preprocess the data again.")
    return {key: value for key, value in manifest.items() if key != "files"}


def append_json_line(path: Path, entry: Mapping[str, Any]) -> None:
    """Append one entry to a JSON-lines file and hand it to the operating system at once.

    Raises:
        ValueError: a number is not finite (NaN and infinity are not JSON).
    """
    line = json.dumps(entry, allow_nan=False) + "\n"
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a", encoding="utf-8") as stream:
        stream.write(line)


def read_json_lines(path: Path) -> list[dict[str, Any]]:
    """Entries of a JSON-lines file, none when it does not exist. A last line that was cut off is left out.

    Raises:
        UserError: another line is damaged.
    """
    return list(iter_json_lines(path))


def iter_json_lines(path: Path) -> Iterator[dict[str, Any]]:
    """The same, one entry at a time."""
    if not path.exists():
        return
    with path.open(encoding="utf-8", errors="replace") as stream:
        for number, line in enumerate(stream, start=1):
            try:
                entry = dict(json.loads(line))
            except (ValueError, TypeError, RecursionError) as error:
                if not line.endswith("\n"):  # the last one
                    return
                raise UserError(
                    f"{path}, line {number}: expected one JSON object, found {line[:60].rstrip()!r}."
                ) from error
            yield entry


def truncate_json_lines(path: Path, last_epoch: int) -> None:
    """Keep the entries whose `epoch` is at most `last_epoch`; a resumed run writes the later ones again.

    Raises:
        UserError: a line is damaged.
    """
    if not path.exists():
        return
    entries = read_json_lines(path)
    if not all(isinstance(entry.get("epoch"), int) for entry in entries):
        raise UserError(f"{path}: expected the number of an epoch in each line. Remove the file to lose the log only.")
    kept = [entry for entry in entries if entry["epoch"] <= last_epoch]
    with atomic_path(path) as temporary:
        temporary.write_text("".join(json.dumps(entry) + "\n" for entry in kept), encoding="utf-8")


def wandb_logger(
    mode: Literal["disabled", "offline", "online"], name: str, config: Any
) -> Callable[[Mapping[str, Any]], None]:
    """A function that logs the entry of an epoch to Weights & Biases; it does nothing when `mode` is `disabled`.

    Args:
        mode: see `wandb.init`.
        name: of the run.
        config: its dataclass of settings.

    Raises:
        UserError: Weights & Biases is not installed, or cannot be reached or logged in to.
    """
    if mode == "disabled":
        return lambda entry: None
    try:
        import wandb
    except ImportError as error:
        raise UserError(f"--wandb_mode {mode} needs the package wandb: pip install wandb.") from error
    try:
        run = wandb.init(project="crossmodal-feature-mapping", name=name, config=dataclasses.asdict(config), mode=mode)
    except wandb.Error as error:
        raise UserError(
            f"Weights & Biases did not start ({error}). Run `wandb login`, or use --wandb_mode offline."
        ) from error
    return lambda entry: run.log(dict(entry))
