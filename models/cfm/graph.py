"""A trained detector with `cnn_normals` as one graph, from the camera's arrays to the map."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from models.anomaly_map import aggregate
from models.cfm.detector import RARITY_POWERS, CrossmodalDetector
from models.cfm.scoring import discrepancy, scatter_to_grid
from models.extractors.cnn_normals import CnnNormals, standardised
from models.view_graph import FrameView
from utils.errors import UserError

REFUSED = {
    "dino_pointmae": "picks 1024 points one after another, each the farthest from those before, and their neighbours",
    "handcrafted": "picks points one after another, and takes eigenvectors, which ONNX does not have",
}
"""Why other extractors cannot be one graph."""


def make_graph(pipeline: Any, shape: tuple[int, int]) -> "CellGraph":
    """The graph of a `CFMPipeline` for frames of (h, w) = shape.

    Raises:
        UserError: its extractor cannot be one graph.
    """
    if not isinstance(pipeline.extractor, CnnNormals):
        name = pipeline.extractor.fingerprint()["extractor"]
        raise UserError(
            f"a detector with {name} cannot be exported: it {REFUSED.get(name, 'is no graph')}. Train with --extractor "
            f"{CnnNormals.name}."
        )
    return CellGraph(pipeline.extractor, pipeline.detector, pipeline.aggregation, shape)


class CellGraph(nn.Module):
    """See `models.method.Method.graph`; the same maps as `CFMPipeline` makes of samples, up to rounding."""

    mean: Tensor
    deviation: Tensor
    whitening: Tensor

    def __init__(
        self, extractor: CnnNormals, detector: CrossmodalDetector, aggregation: str, shape: tuple[int, int]
    ) -> None:
        """extractor, detector: trained, on the CPU. aggregation: of the maps. shape: (h, w) of the frame."""
        super().__init__()
        self.extractor, self.aggregation = extractor, aggregation
        self.view = FrameView(shape, extractor.view)
        self.backbone, self.mappers = extractor.backbone, nn.ModuleList([detector.xyz_to_rgb, detector.rgb_to_xyz])
        for name, value in extractor.state_dict().items():
            self.register_buffer(name, value)
        self.precision = torch.float32
        self.eval().requires_grad_(False)

    @property
    def dense(self) -> Sequence[nn.Module]:
        """What may take whole numbers of 8 bits: the mappers; `rarity` needs more of the network's features."""
        return [self.mappers]

    def half(self) -> "CellGraph":
        """The mappers in float16. Of the network's features, float16 would leave too little for rarity."""
        self.mappers.half()
        self.precision = torch.float16
        return self

    def forward(self, rgb: Tensor, xyz: Tensor, valid: Tensor) -> Tensor:
        """(h, w, 3) uint8, (h, w, 3) metres, (h, w) bool, True = measured → (FRAME, FRAME) map ≥ 0."""
        starts, side = self.view.window(valid)
        cloud, seen = self.view.cut_cloud(xyz, valid, starts, side)
        image = self.view.cut_image(rgb, starts, side) / 255
        features = self._features(torch.cat([image, self.extractor.normals(cloud, seen)]))  # (2, D, c, c)
        cells = features.shape[2]
        share = functional.adaptive_avg_pool2d(seen.float(), cells)
        foreground = (share > self.extractor.settings.foreground).flatten().nonzero().flatten()
        psi = self._discrepancies(features.flatten(2).transpose(1, 2)[:, foreground])
        grids = [scatter_to_grid(values, foreground, cells) for values in psi]
        down, across = self.view.spread(starts, side, seen.sum().float(), cells)
        return down @ aggregate(grids[0], grids[1], self.aggregation) @ across.T

    def _features(self, images: Tensor) -> Tensor:
        """See `CnnNormals`."""
        settings = self.extractor.settings
        cells = images.shape[-1] // settings.cell
        return self.extractor.to_cells(self.backbone(images), cells)

    def _discrepancies(self, tokens: Tensor) -> Sequence[Tensor]:
        """(2, P, D) of RGB and normals → (P,) of either."""
        tokens, rarity = standardised(tokens, self.mean, self.deviation, self.whitening)
        found = []
        for index, (mapper, power) in enumerate(zip(self.mappers, RARITY_POWERS, strict=True)):
            mapped = mapper(tokens[1 - index].to(self.precision)).float()
            found.append(discrepancy(mapped, tokens[index]).square() * rarity[index] ** power)
        return found
