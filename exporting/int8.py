"""Whole numbers of 8 bits in place of float32, calibrated on nominal parts."""

import tempfile
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from exporting.graph import imported

if TYPE_CHECKING:
    import onnx

Arrays = tuple[np.ndarray, np.ndarray]
"""(h, w, 3) uint8 image and (h, w, 3) float32 cloud."""


def quantised(model: "onnx.ModelProto", layers: Iterable[str], parts: Iterable[Arrays]) -> "onnx.ModelProto":
    """The same graph with some layers in 8 bits (static quantisation): weights by channel, activations by their range.

    Args:
        model: in float32.
        layers: begins of the names of their weights; convolutions and products with such a weight are meant.
        parts: nominal ones, that ranges are taken from.
    """
    with imported():
        import onnx
        from onnxruntime import quantization as q

    class Reader(q.CalibrationDataReader):
        def __init__(self) -> None:
            self._parts: Iterator[Arrays] = iter(parts)

        def get_next(self) -> dict[str, Any] | None:
            part = next(self._parts, None)
            return None if part is None else {"rgb": part[0][None], "xyz": part[1][None]}

    meant = tuple(layers)
    names = [
        node.name
        for node in model.graph.node
        if node.op_type in ("Conv", "Gemm", "MatMul") and any(name.startswith(meant) for name in node.input[1:])
    ]
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "int8.onnx"
        q.quantize_static(
            model,
            str(path),
            Reader(),
            quant_format=q.QuantFormat.QDQ,
            per_channel=True,
            activation_type=q.QuantType.QUInt8,
            weight_type=q.QuantType.QInt8,
            nodes_to_quantize=names,
            calibrate_method=q.CalibrationMethod.MinMax,
        )
        return onnx.load(str(path))
