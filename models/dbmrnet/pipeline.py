"""DBMRNet from samples to maps."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from models.dbmrnet.detector import DBMRNetDetector
from models.dbmrnet.part_map import SMOOTHING, PartMap
from models.dbmrnet.scoring import rebuilt_depth, rebuilt_frame
from models.dbmrnet.settings import FUSIONS, SCORES
from models.method import Panels
from models.token_store import GridSample


@dataclass(frozen=True)
class DBMRNetPipeline:
    """A detector with the choice of its maps: `score` see `DBMRNetDetector.discrepancies`, `fusion` see `maps`."""

    detector: DBMRNetDetector
    score: str = SCORES[0]
    fusion: str = FUSIONS[0]
    view: None = None
    """Of samples: it takes their grid, and cuts what it looks at out of that (`settings.view`)."""

    @property
    def settings(self) -> dict[str, Any]:
        """What thresholds for the maps depend on besides the weights."""
        return {"score": self.score, "fusion": self.fusion, "smoothing": SMOOTHING}

    def maps(self, samples: Sequence[GridSample]) -> list[PartMap]:
        """The map of each sample of a batch, on the CPU."""
        return self.look(samples)[0]

    def look(self, samples: Sequence[GridSample]) -> tuple[list[PartMap], Panels]:
        """The same, and what makes panels of what was rebuilt, where the score compares with that."""
        inputs = self.detector.prepare(samples)
        compared = None if self.score == "local" else self.detector.reconstruct(inputs)
        found = self.detector.discrepancies(inputs, compared, self.score)
        maps = [anomaly_map.cpu() for anomaly_map in self.detector.maps(found, self.fusion)]

        def panels() -> list[dict[str, Tensor]]:
            if compared is None:
                return [{} for _ in samples]
            rgb = torch.stack([sample.rgb for sample in samples]).to(inputs.image.device)
            images = rebuilt_frame(inputs, compared.image, rgb).cpu()
            depths = rebuilt_depth(inputs, compared.points).cpu()
            return [
                {"RGB rebuilt": image, "depth rebuilt (m)": depth} for image, depth in zip(images, depths, strict=True)
            ]

        return maps, panels
