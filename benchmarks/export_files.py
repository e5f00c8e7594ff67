"""An exported detector for the cases of `export_cases`, and the run that it was made of."""

import numpy as np
import torch

from benchmarks.cases import dome
from benchmarks.cell_cases import pipeline
from benchmarks.measure import Setting, Work
from datasets.sample import make_sample
from exporting.graph import PartGraph, to_onnx
from exporting.int8 import quantised
from models.cfm.graph import make_graph

SIDE = 400  # of the frames, as MVTec 3D-AD's small classes have
THRESHOLD = 1.0


def parts() -> list[tuple[np.ndarray, np.ndarray]]:
    """Domes as a camera gives them: (SIDE, SIDE, 3) uint8 and float32."""
    return [dome(9_000, SIDE, seed) for seed in range(4)]


def prepare(setting: Setting) -> None:
    """Write the detector in fp32 and int8, and a part, to the run's folder."""
    made = pipeline("fp32", torch.device("cpu"))
    graph = PartGraph(make_graph(made, (SIDE, SIDE)), (SIDE, SIDE), THRESHOLD, (None, None), None)
    model = to_onnx(graph.eval(), (SIDE, SIDE))
    (setting.folder / "fp32.onnx").write_bytes(model.SerializeToString())
    small = quantised(model, ["maps.mappers"], parts())
    (setting.folder / "int8.onnx").write_bytes(small.SerializeToString())
    rgb, xyz = parts()[0]
    np.savez(setting.folder / "part.npz", rgb=rgb[None], xyz=xyz[None])


def run(setting: Setting) -> Work:
    """The run itself: arrays → sample, map, decision."""
    made = pipeline("fp32", torch.device("cpu"))
    rgb, xyz = parts()[0]

    def step() -> bool:
        return made.maps([make_sample(rgb, xyz, view=made.view)])[0].image_score() > THRESHOLD

    return Work(step)
