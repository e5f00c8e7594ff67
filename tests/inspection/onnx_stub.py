"""A file as export.py makes it, but of a few operations: its map is the red channel in [0, 1], by the nearest pixel."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from evaluation.thresholds import NominalScores
from inspection.onnx_detector import load_onnx
from inspection.onnx_file import KEY, about_json
from models.view_maps import FRAME
from tests.inspection.parts import cloud, image

SCORES = NominalScores("validation", {}, "0" * 64, [0.5, 0.6], [0.3, 0.4], [0.1, 0.1])


def write_stub(path: Path, shape: tuple[int, int] = (16, 16), **changes: Any) -> Path:
    """Write the file for frames of (h, w) = shape, square; background is kept.

    Args:
        changes: of the metadata's values; `drop` leaves a name out.
    """
    values = {
        "red": np.array(0),
        "scale": np.array(255, np.float32),
        "rows": np.arange(FRAME) * shape[0] // FRAME,
        "columns": np.arange(FRAME) * shape[1] // FRAME,
        "limit": np.array(0.6, np.float32),
        "share": np.array([1], np.float32),
    }
    make = helper.make_node
    nodes = [
        make("Gather", ["rgb", "red"], ["bytes"], axis=3),
        make("Cast", ["bytes"], ["floats"], to=TensorProto.FLOAT),
        make("Div", ["floats", "scale"], ["map"]),
        make("Gather", ["map", "rows"], ["lines"], axis=1),
        make("Gather", ["lines", "columns"], ["grid"], axis=2),
        make("ReduceMax", ["grid"], ["score"], axes=[1, 2], keepdims=0),
        make("Greater", ["score", "limit"], ["anomalous"]),
        make("Identity", ["share"], ["points"]),
    ]
    frame, kinds = [1, *shape], TensorProto
    inputs = {"rgb": (kinds.UINT8, [*frame, 3]), "xyz": (kinds.FLOAT, [*frame, 3])}
    outputs = {"map": (kinds.FLOAT, frame), "score": (kinds.FLOAT, [1]), "anomalous": (kinds.BOOL, [1])}
    outputs |= {"points": (kinds.FLOAT, [1]), "grid": (kinds.FLOAT, [1, FRAME, FRAME])}
    ins, outs = (
        [helper.make_tensor_value_info(name, *what) for name, what in both.items()] for both in (inputs, outputs)
    )
    weights = [numpy_helper.from_array(np.asarray(value), name) for name, value in values.items()]
    graph = helper.make_graph(nodes, "stub", ins, outs, weights)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    kept = {"family": "rgbd", "settings": {"background": "none"}}
    about = json.loads(about_json("stub", shape, kept, SCORES, "f" * 64, {"points": [None, None]})) | changes
    about = {name: value for name, value in about.items() if name != changes.get("drop")}
    helper.set_model_props(model, {KEY: json.dumps(about)})
    onnx.checker.check_model(model)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(model.SerializeToString())
    return path


def stub_in(folder: Path) -> Path:
    """The file in a folder."""
    return write_stub(folder / "part.onnx")


def read_stub(path: Path) -> None:
    """Open the file and let it look at a part."""
    load_onnx(path).predict(image(204), cloud())
