"""AST as a detector: where the student fails to say what the teacher says (Rudolph et al., WACV 2023).

What differs from the release: maps are enlarged to the sample's grid of 224×224, where it has 192×192; what is read,
see `models.ast.depth`; batches, see `models.ast.training`. Of its two scores of an image it is the maximum of the map.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from models.anomaly_map import DefectMap
from models.ast import depth
from models.ast.flow import Flow
from models.ast.inputs import Inputs, prepare, view_of
from models.ast.scoring import distance, enlarge
from models.ast.settings import ASTSettings
from models.ast.student import Student
from models.extractors.backbone import Backbone
from models.token_store import GridSample
from utils.devices import autocast
from utils.view import ViewSettings


class Networks(nn.Module):
    """Teacher and student."""

    def __init__(self, channels: int, width: int, precision: str, seed: int) -> None:
        """Both with torch's default initialisation, drawn from `seed` without touching the CPU's global generator.

        Args:
            channels: D of the features.
            width: of the student.
            precision: type of the student's products, `fp32` or `bf16`; the teacher's are exact.
        """
        super().__init__()
        self.precision = precision
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            self.teacher = Flow(channels, depth.CELLS)
            self.student = Student(channels, width, depth.CELLS)

    def guess(self, features: Tensor) -> Tensor:
        """What the student says of (B, D, 24, 24) features: the same shape, float32."""
        with autocast(features.device, self.precision):
            found: Tensor = self.student(features)
        return found

    @torch.no_grad()
    def score(self, inputs: Inputs) -> Tensor:
        """How far the student is from the teacher at each cell, (B, 24, 24); as released masked a second time."""
        z, _ = self.teacher(inputs.features)
        return distance(z, self.guess(inputs.features), inputs.mask) * inputs.mask


@dataclass(frozen=True)
class ASTPipeline:
    """Networks with what features are made by; backbone: None where only depth is looked at."""

    chosen: ASTSettings
    backbone: Backbone | None
    networks: Networks
    device: torch.device

    @property
    def view(self) -> ViewSettings:
        """What of a sample is looked at."""
        return view_of(self.chosen)

    @property
    def settings(self) -> dict[str, Any]:
        """What thresholds for the maps depend on besides the weights: nothing."""
        return {}

    def maps(self, samples: Sequence[GridSample]) -> list[DefectMap]:
        """The map of each sample of a batch, on the CPU."""
        scores = self.networks.score(prepare(samples, self.chosen, self.backbone, self.device)).cpu()
        return [enlarge(score, sample.valid) for score, sample in zip(scores, samples, strict=True)]
