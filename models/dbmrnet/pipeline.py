"""DBMRNet from samples to maps."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch

from models.anomaly_map import DefectMap
from models.dbmrnet import training
from models.dbmrnet.detector import DBMRNetDetector
from models.dbmrnet.settings import FUSIONS, SCORES
from models.token_store import GridSample
from utils.checkpoint import CheckpointName
from utils.files import sha256_files


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
        return {"score": self.score, "fusion": self.fusion}

    def maps(self, samples: Sequence[GridSample]) -> list[DefectMap]:
        """The map of each sample of a batch, on the CPU."""
        inputs = self.detector.prepare(samples)
        found = self.detector.discrepancies(inputs, self.detector.reconstruct(inputs), self.score)
        return [anomaly_map.cpu() for anomaly_map in self.detector.maps(found, self.fusion)]


def load_pipeline(
    name: CheckpointName, part: str, device: torch.device, precision: str | None = None
) -> tuple[DBMRNetPipeline, dict[str, Any]]:
    """Load a checkpoint on a device.

    Args:
        name: of the run. part: `training.PART` or `training.BEST`. device: where it runs.
        precision: `fp32`, `bf16`, or None for that of the run.

    Returns:
        The pipeline and the settings beside the checkpoint.

    Raises:
        UserError: a file is missing, damaged, or not of this method.
    """
    detector, settings = training.load(name, part, precision)
    return DBMRNetPipeline(detector.to(device)), settings


def weights_sha256(name: CheckpointName, part: str) -> str:
    """Hash of the file that decides the maps."""
    return sha256_files([name.path(part, training.SUFFIX)])
