"""exporting/graph.py without a runtime: the graph's tensors against the run's way from arrays to answers."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from datasets.frames import from_square
from datasets.sample import Sample, make_sample
from exporting.graph import PartGraph
from inspection.cleaning import clean
from models.cfm.detector import CrossmodalDetector
from models.cfm.graph import make_graph
from models.cfm.pipeline import CFMPipeline
from models.extractors.cnn_normals import CnnNormals, build_cnn_normals
from models.token_store import fit_extractor
from utils.view import ViewSettings

CPU = torch.device("cpu")
SHAPE = 90, 120
DEPTHS = 0.4, 0.6
CUT = {"family": "rgbd", "settings": {"background": "depth-range", "depth_range": DEPTHS}}


def scene(seed: int) -> tuple[np.ndarray, np.ndarray]:
    """A ribbed dome half a metre away, before a table that is farther than DEPTHS; (h, w, 3) uint8 and float32."""
    rng = np.random.default_rng(seed)
    v, u = np.mgrid[: SHAPE[0], : SHAPE[1]].astype(np.float64)
    radius = (u - 70 - rng.random()) ** 2 + (v - 40 - rng.random()) ** 2
    ribs = np.sin(u / 4)
    z = np.where(radius < 30**2, 0.5 + 2e-6 * radius - 4e-4 * ribs, 0.7) + 2e-5 * rng.standard_normal(SHAPE)
    xyz = np.stack([(u - 60.5) * z / 800, (v - 45.5) * z / 800, z], axis=-1).astype(np.float32)
    xyz[rng.random(SHAPE) < 0.02] = 0
    rgb = np.stack([120 + 60 * ribs, 90 + 30 * ribs, 60 + v / 3], axis=-1) + 3 * rng.standard_normal((*SHAPE, 3))
    return rgb.clip(0, 255).astype(np.uint8), xyz


def cut_sample(seed: int, view: ViewSettings) -> Sample:
    """Of a scene without its table."""
    cleaned = clean(*scene(seed), CUT)
    assert cleaned is not None
    return make_sample(*cleaned, view=view)


def pipeline(view: ViewSettings) -> CFMPipeline:
    """With random mappers."""
    made = build_cnn_normals(CPU, "efficientnet_lite0", "fp32", view.kind, None, {})
    extractor = CnnNormals(made.backbone, replace(made.settings, view=view))
    fit_extractor(extractor, (cut_sample(seed, view) for seed in range(3)), 1, CPU)
    return CFMPipeline(extractor, CrossmodalDetector(176, 176, "mlp", "fp32").eval(), CPU)


@pytest.mark.parametrize("kind", ["object", "frame"])
def test_a_raw_cloud_is_cut_to_its_depths_and_seen_as_by_the_run(kind: str) -> None:
    view = ViewSettings("frame" if kind == "frame" else "object", 96)
    run = pipeline(view)
    sample = cut_sample(7, view)
    expected = run.maps([sample])[0].smoothed.numpy()
    graph = PartGraph(make_graph(run, SHAPE), SHAPE, float(expected.max()) * 0.9, (None, None), DEPTHS).eval()
    rgb, xyz = (torch.from_numpy(array)[None] for array in scene(7))
    with torch.no_grad():
        native, score, anomalous, points, grid = (found.numpy() for found in graph(rgb, xyz))
    limit = 1e-4 * expected.max()
    np.testing.assert_allclose(grid[0], expected, atol=limit, rtol=0)
    np.testing.assert_allclose(native[0], from_square(expected, SHAPE), atol=limit, rtol=0)
    assert score[0] == pytest.approx(expected.max(), rel=1e-4)
    assert anomalous[0]
    assert points[0] == pytest.approx(sample.valid.numpy().mean(), abs=1e-6)
