"""Runtimes for exported files: arrays → map and decision. Free of torch, whose memory a line does not have."""

import importlib.metadata
import importlib.util
import os
import time
from collections.abc import Callable
from typing import Any

import numpy as np

from benchmarks.measure import Setting, Work
from utils.errors import UserError


def runtime(setting: Setting, name: str, precision: str) -> Work:
    """One part at a time by `onnxruntime` or `openvino`; figures: seconds to load the file, its size in MB, version.

    Raises:
        UserError: the package is not installed.
    """
    if importlib.util.find_spec(name) is None:
        raise UserError(f"{name} is not installed. Run .venv/bin/pip install {name}.")
    path = setting.folder / f"{precision}.onnx"
    part = dict(np.load(setting.folder / "part.npz"))
    start = time.perf_counter()
    step = {"onnxruntime": _onnxruntime, "openvino": _openvino}[name](str(path), part)
    step()
    figures = {
        "seconds to the first answer": round(time.perf_counter() - start, 3),
        "MB": round(path.stat().st_size / 1e6, 1),
        "version": importlib.metadata.version(name),
    }
    return Work(step, figures=lambda: figures)


def _threads() -> int:
    """As torch takes them: those of OMP_NUM_THREADS, or 0 for all cores."""
    return int(os.environ.get("OMP_NUM_THREADS", "0"))


def _onnxruntime(path: str, part: dict[str, np.ndarray]) -> Callable[[], object]:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = _threads()
    session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    return lambda: session.run(["map", "anomalous"], part)


def _openvino(path: str, part: dict[str, np.ndarray]) -> Callable[[], object]:
    import openvino

    settings: dict[str, Any] = {"PERFORMANCE_HINT": "LATENCY", "INFERENCE_PRECISION_HINT": "f32"}
    if threads := _threads():
        settings["INFERENCE_NUM_THREADS"] = threads
    compiled = openvino.Core().compile_model(path, "CPU", settings)
    return lambda: compiled(part)["map"]
