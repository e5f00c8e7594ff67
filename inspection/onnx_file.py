"""Exported detectors: one ONNX file, with what is known of it inside, opened without trust."""

import json
import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from evaluation.thresholds import NominalScores, Thresholds, parse_scores
from models.view_maps import FRAME
from utils.errors import UserError
from utils.files import read_with

if TYPE_CHECKING:
    import onnxruntime

KEY = "part"
"""Of the metadata, under which a JSON object says everything."""
FORMAT = 1
MAX_BYTES = 1 << 30  # of a file; an exported detector takes about ten million
ROUNDING = 1e-5
"""By this share a file's image threshold lies above its run's: that is a nominal part's score, which the file rounds
differently."""
OUTPUTS = ("map", "score", "anomalous", "points", "grid")
PROVIDERS = {"cpu": "CPUExecutionProvider", "cuda": "CUDAExecutionProvider"}

_EXPORT = "Export it again: python export.py --help."


@dataclass(frozen=True)
class About:
    """What an exported file says of itself.

    Attributes:
        name: of the run.
        shape: (h, w) of the camera's frames.
        preprocessing: of the training data, as the checkpoint has it.
        scores: nominal ones, that thresholds come from.
        fingerprint: hash of what the answers depend on.
        stored: all of it, as JSON values.
    """

    name: str
    shape: tuple[int, int]
    preprocessing: Mapping[str, Any] | None
    scores: NominalScores
    fingerprint: str
    stored: Mapping[str, Any]


def file_thresholds(scores: NominalScores, rate: float) -> Thresholds:
    """Thresholds of an exported file for a false-alarm rate in (0, 1); they keep what the run's promise."""
    found = scores.thresholds(rate)
    return replace(found, image=found.image * (1 + ROUNDING))


def about_json(
    name: str,
    shape: tuple[int, int],
    preprocessing: Mapping[str, Any] | None,
    scores: NominalScores,
    fingerprint: str,
    more: Mapping[str, Any],
) -> str:
    """The text that `read_about` reads; `more`: what else is to be known, as JSON values."""
    known = {"format": FORMAT, "name": name, "height": shape[0], "width": shape[1], "fingerprint": fingerprint}
    own = {"preprocessing": preprocessing, "scores": asdict(scores)}
    return json.dumps({**known, **more, **own}, allow_nan=False)


def open_file(path: Path, device: str = "auto", threads: int = 0) -> tuple["onnxruntime.InferenceSession", About]:
    """An exported file, ready to run.

    Args:
        path: of the file. Weights outside of it are not read.
        device: `auto`, `cpu`, `cuda` or `cuda:N`.
        threads: of one inference; 0: as many as there are cores.

    Raises:
        UserError: no such file, a damaged one, an ONNX file of another kind; a package or device that is not there.
    """
    os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")  # read at the import; without it, usage data are sent
    try:
        import onnxruntime
    except ImportError as error:
        raise UserError(f"{path}: needs onnxruntime: pip install -r requirements-export.txt") from error
    provider = _provider(device, onnxruntime.get_available_providers())
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.log_severity_level = 4
    # A file may name weights elsewhere. Loaded from memory, it would take them from the working directory; below the
    # file itself nothing can lie.
    options.add_session_config_entry("session.model_external_initializers_file_folder_path", str(path))

    def load(file: Path) -> "onnxruntime.InferenceSession":
        if (size := file.stat().st_size) > MAX_BYTES:
            raise ValueError(f"{size} bytes, expected at most {MAX_BYTES}")
        return onnxruntime.InferenceSession(file.read_bytes(), options, providers=[provider])

    session = read_with(path, load, _EXPORT)
    return session, read_with(path, lambda file: _read_about(session, file), _EXPORT)


def run_grid(session: "onnxruntime.InferenceSession", path: Path, rgb: np.ndarray, xyz: np.ndarray) -> np.ndarray:
    """The map of a part on the detector's grid, (FRAME, FRAME) float32.

    Args:
        session: of the file at `path`, see `open_file`.
        rgb, xyz: (h, w, 3) uint8 and float32, of the file's frames.

    Raises:
        UserError: the graph is damaged, so that it cannot be computed or gives something else.
    """
    try:
        grid = session.run(["grid"], {"rgb": rgb[None], "xyz": xyz[None]})[0]
    except Exception as error:  # of the runtime, which has many
        raise UserError(f"{path}: cannot be computed ({' '.join(str(error).split())[:300]}). {_EXPORT}") from error
    if grid.shape != (1, FRAME, FRAME) or grid.dtype != np.float32:
        raise UserError(f"{path}: expected a map {(1, FRAME, FRAME)}, found {grid.shape} {grid.dtype}. {_EXPORT}")
    found: np.ndarray = grid[0]
    return found


def _provider(device: str, available: list[str]) -> Any:
    """The execution provider of onnxruntime for a device. Raises UserError where it is not there."""
    kind, _, number = device.partition(":")
    if kind == "auto":
        kind = "cuda" if PROVIDERS["cuda"] in available else "cpu"
    if PROVIDERS[kind] not in available:
        raise UserError(f"--device {device}: this onnxruntime has {', '.join(available)}. CUDA takes onnxruntime-gpu.")
    return (PROVIDERS[kind], {"device_id": number}) if number else PROVIDERS[kind]


def _read_about(session: "onnxruntime.InferenceSession", path: Path) -> About:
    """What the file says, held against what its graph takes and gives."""
    text = session.get_modelmeta().custom_metadata_map.get(KEY)
    if text is None:
        raise UserError(f"{path}: an ONNX file, but not one of export.py. {_EXPORT}")
    stored = dict(json.loads(text))
    if stored.get("format") != FORMAT:
        raise UserError(f"{path}: expected format {FORMAT}, found {stored.get('format')!r:.50}. {_EXPORT}")
    shape = int(stored["height"]), int(stored["width"])
    inputs = {one.name: (one.type, list(one.shape)) for one in session.get_inputs()}
    frame = [1, *shape, 3]
    expected = {"rgb": ("tensor(uint8)", frame), "xyz": ("tensor(float)", frame)}
    outputs = tuple(one.name for one in session.get_outputs())
    if inputs != expected or outputs != OUTPUTS:
        raise UserError(
            f"{path}: expected inputs {expected} and outputs {OUTPUTS}, found {inputs!r:.200} and {outputs!r:.200}. "
            f"{_EXPORT}"
        )
    preprocessing = stored["preprocessing"]
    scores = parse_scores(stored["scores"])
    return About(str(stored["name"]), shape, preprocessing, scores, str(stored["fingerprint"]), stored)
