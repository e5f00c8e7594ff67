"""Checkpoints: plain state dicts under the original authors' file names, with a JSON of settings beside them.

Files from strangers execute nothing: tensors are read as safetensors or by torch's reader for tensors and plain values.
"""

import io
import json
import pickle
import zipfile
from collections.abc import Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import load_file, save
from torch import Tensor

from utils.errors import UserError
from utils.files import MAX_NAME, atomic_path, check_names, locked, read_text, read_with, sha256_file, write_json

SAFETENSORS = ".safetensors"


@dataclass(frozen=True)
class CheckpointName:
    """Where the files of one run lie: `FOLDER/CLASS/PART_CLASS_{EPOCHS}ep_{BATCH}bs.SUFFIX`.

    place: the folder in which they lie, where that is another than FOLDER/CLASS: it was moved or renamed.
    """

    folder: Path
    class_name: str
    epochs: int
    batch_size: int
    place: Path | None = None

    def path(self, part: str, suffix: str = ".pth") -> Path:
        """The file of one part, for example `CFM_2Dto3D`."""
        name = f"{part}_{self.class_name}_{self.epochs}ep_{self.batch_size}bs{suffix}"
        return (self.place or Path(self.folder) / self.class_name) / name


def lock_run(name: CheckpointName, method: str) -> AbstractContextManager[None]:
    """Hold the right to write the files of a run: no other command trains or calibrates it meanwhile.

    Args:
        name: of the run.
        method: begin of its files' names, CFM or DBMRNet.

    Raises:
        UserError: another process holds it, or the class's name is too long for the files' names.
    """
    check_names([name.path(f"{method}_best_thresholds", SAFETENSORS)])  # as long as any
    path = name.path(method, "")
    return locked(path.parent, path.name)


def save_state(path: Path, state: Mapping[str, Any]) -> None:
    """Write a dict, atomically: of tensors as `.safetensors`, of tensors and plain values with torch.save otherwise.

    Tensors of a GPU are written as those of the CPU, so that the file is read where there is none.
    """
    with atomic_path(path) as temporary:
        if path.suffix == SAFETENSORS:
            temporary.write_bytes(save({name: tensor.cpu().contiguous() for name, tensor in state.items()}))
        else:
            buffer = io.BytesIO()  # torch's own writer does not say that a disk is full
            torch.save(on_cpu(dict(state)), buffer)
            temporary.write_bytes(buffer.getbuffer())


def on_cpu(value: Any) -> Any:
    """The same dicts and lists with their tensors on the CPU; what is there already is not copied."""
    if isinstance(value, Tensor):
        return value.cpu()
    if isinstance(value, Mapping):
        return {name: on_cpu(item) for name, item in value.items()}
    return [on_cpu(item) for item in value] if isinstance(value, list) else value


def read_tensors(path: Path) -> Any:
    """Content of a file of safetensors (by its suffix) or of torch.save, on the CPU; nothing in it is executed.

    Besides tensors and plain values, numpy's numbers are allowed: released checkpoints store metrics as such.

    Raises:
        Exception: of many kinds, for a file that is damaged, holds other objects, or declares more than its size.
    """
    if path.suffix == SAFETENSORS:
        return load_file(path)
    if zipfile.is_zipfile(path):
        with zipfile.ZipFile(path) as archive:
            unpacked = sum(member.file_size for member in archive.infolist())
        if unpacked > path.stat().st_size:  # torch.save does not compress
            raise ValueError(f"{unpacked} bytes packed into {path.stat().st_size}")
    try:
        with torch.serialization.safe_globals(_numpy_numbers()):
            content = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:  # torch's text would advise to load the file without this safeguard
        raise ValueError("expected tensors only, found other objects, which could run code, or damage") from error
    _refuse_expanded(content, path.stat().st_size)
    return content


def _refuse_expanded(content: Any, size: int) -> None:
    """Raise ValueError for a tensor of more bytes than the file, one number repeated: copying it fills the memory."""
    if isinstance(content, Tensor) and content.numel() * content.element_size() > size:
        raise ValueError(f"a tensor of shape {tuple(content.shape)} in {size} bytes")
    if isinstance(content, Mapping | list | tuple):
        for value in content.values() if isinstance(content, Mapping) else content:
            _refuse_expanded(value, size)


def _numpy_numbers() -> list[Any]:
    """What torch.load has to allow for numpy's numbers; plain data, no code.

    A pickled one is its module-level constructor with a dtype and bytes; the constructor's module was renamed in
    numpy 2.
    """
    constructor = np.float64(0).__reduce__()[0]
    constructors = [(constructor, f"numpy.{core}.multiarray.scalar") for core in ("core", "_core")]
    return [*constructors, (np.dtype, "numpy.dtype"), type(np.dtype(np.float64)), type(np.dtype(np.float32))]


def load_state(path: Path) -> dict[str, Any]:
    """Read what `save_state` wrote onto the CPU; nothing in the file is executed.

    Raises:
        UserError: the file is missing, damaged, or holds anything else.
    """
    if not path.is_file():
        raise UserError(f"{path}: no such file.{_siblings(path)}")
    try:
        state = read_tensors(path)
    except Exception as error:  # torch raises many kinds for a broken or unsafe file
        raise UserError(
            f"{path}: not a checkpoint that can be read safely ({error}). Write or copy it again."
        ) from error
    if not isinstance(state, dict):
        raise UserError(f"{path}: expected a dict of tensors, found {type(state).__name__}.")
    if path.suffix == SAFETENSORS:
        # Copied to where torch puts tensors of its own: sums are rounded differently at unaligned addresses.
        return {name: tensor.clone() for name, tensor in state.items()}
    return state


def save_checkpoint(
    name: CheckpointName,
    part: str,
    states: Mapping[str, Mapping[str, Tensor]],
    settings: Mapping[str, Any],
    suffix: str = ".pth",
) -> None:
    """Write every state to its file, then the settings with the files' hashes.

    Args:
        name: of the run.
        part: name of the settings file.
        states: state dict of each part; an empty one is left out.
        settings: JSON values.
        suffix: of the states' files, see `save_state`.
    """
    hashes = {}
    for weights in (part, *states):  # thresholds of the weights that are replaced
        name.path(f"{weights}_thresholds", ".json").unlink(missing_ok=True)
    for state_part, state in states.items():
        if state:
            path = name.path(state_part, suffix)
            save_state(path, state)
            hashes[path.name] = sha256_file(path)
    write_json(name.path(part, ".json"), {**settings, "files": hashes})


def load_settings(name: CheckpointName, part: str) -> dict[str, Any] | None:
    """Settings beside a checkpoint, or None when there are none, as with the original authors' files.

    Raises:
        UserError: the JSON is damaged, or belongs to other weight files than those that lie there.
    """
    path = name.path(part, ".json")
    if not path.exists():
        return None
    settings = read_with(path, _read_settings, "Expected a checkpoint's settings: restore the file or train again.")
    for file_name, expected in settings["files"].items():
        weights = path.with_name(file_name)
        if not weights.is_file():
            raise UserError(f"{weights}: missing, although {path.name} names it. Restore it or train again.")
        if sha256_file(weights) != expected:
            raise UserError(
                f"{weights}: is not the file that {path.name} was written with (its sha256 differs). Restore the file "
                "or train again."
            )
    return settings


def _read_settings(path: Path) -> dict[str, Any]:
    settings = json.loads(read_text(path))
    if any(name != Path(name).name or len(name) > MAX_NAME for name in settings["files"]):
        raise ValueError("the name of a file that cannot lie beside it")
    return {**settings, "files": dict(settings["files"]), "config": dict(settings["config"])}


def _siblings(path: Path) -> str:
    """What lies in the file's folder instead, for the message."""
    found = sorted(p.name for p in path.parent.glob(f"*{path.suffix}"))[:8]
    if not path.parent.is_dir():
        return f" The folder {path.parent} does not exist: train first, or check the folder and the class name."
    there = ", ".join(found) or f"no {path.suffix} file"
    return f" Found there: {there}. Check --class_name, --epochs_no and --batch_size."
