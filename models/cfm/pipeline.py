"""Crossmodal Feature Mapping from samples to maps: a frozen extractor and the mappers that were trained on it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from models.anomaly_map import AnomalyMap
from models.cfm import training
from models.cfm.detector import CrossmodalDetector
from models.extractors import Extractor, stored
from models.token_store import GridSample, extract_batch
from models.tokens import Tokens
from models.view_maps import make_view_map
from utils.checkpoint import CheckpointName
from utils.errors import UserError
from utils.view import ViewSettings

AGGREGATION = "product"  # the paper's


@dataclass(frozen=True)
class CFMPipeline:
    """Extractor and detector on one device; `aggregation` see `CrossmodalDetector.predict`."""

    extractor: Extractor
    detector: CrossmodalDetector
    device: torch.device
    aggregation: str = AGGREGATION

    @property
    def view(self) -> ViewSettings | None:
        """What of a sample the extractor looks at; samples are to be made with it."""
        return self.extractor.view

    @property
    def settings(self) -> dict[str, Any]:
        """What thresholds for the maps depend on besides the weights."""
        return {"aggregation": self.aggregation}

    def maps(self, samples: Sequence[GridSample]) -> list[AnomalyMap]:
        """The map of each sample of a batch, on the CPU."""
        tokens = extract_batch(samples, self.extractor, self.device)
        found = [self._map(*pair) for pair in zip(tokens, samples, strict=True)]
        return [anomaly_map.cpu() for anomaly_map in found]  # predicting does not wait for the GPU, this does

    def _map(self, tokens: Tokens, sample: GridSample) -> AnomalyMap:
        """On the frame's grid, whatever the extractor looked at."""
        if self.view is None or sample.view is None:
            return self.detector.predict(tokens, self.aggregation)
        found = self.detector.discrepancies(tokens)
        return make_view_map(*found, self.aggregation, sample.view.valid, sample.view.window)


def load_pipeline(
    name: CheckpointName,
    device: torch.device,
    precision: str | None = None,
    rgb_weights: Path | None = None,
    xyz_weights: Path | None = None,
    aggregation: str = AGGREGATION,
    given: Mapping[str, Any] | None = None,
) -> tuple[CFMPipeline, dict[str, Any] | None]:
    """Load a checkpoint, ours or the original authors', with its extractor.

    Args:
        name: of the run.
        device: where it runs.
        precision: `fp32`, `bf16`, or None for that of the run.
        rgb_weights, xyz_weights: of the extractor, instead of the public files.
        aggregation: of the maps.
        given: what is asked of the extractor: `extractor`, `mode`, `keep_blocks`, `backbone`, `view`.

    Returns:
        The pipeline, and the settings beside the checkpoint, None when there are none.

    Raises:
        UserError: a file is missing or damaged; what is asked for contradicts the checkpoint.
    """
    detector, settings, state = training.load(name, precision)
    chosen = extractor_settings(settings, given or {})
    extractor = stored.rebuild(chosen, device, detector.precision, rgb_weights, xyz_weights, state)
    training.check_extractor(extractor, detector, settings)
    return CFMPipeline(extractor, detector.to(device), device, aggregation), settings


def extractor_settings(settings: Mapping[str, Any] | None, given: Mapping[str, Any]) -> dict[str, Any]:
    """Name, mode and depth of the extractor: the checkpoint's, or those of the original authors where it has none.

    Raises:
        UserError: what is given contradicts the checkpoint.
    """
    if settings is None:
        if given.get("extractor") == "handcrafted":
            raise UserError(
                "--extractor handcrafted: its checkpoints need the JSON and CFM_extractor_….pth beside them. Restore "
                "them or train again."
            )
        return {"extractor": stored.DEFAULT, "mode": "batchnorm", "keep_blocks": 12, **given}
    chosen: dict[str, Any] = settings["config"]["extractor"]
    stored.check_given(chosen, given)
    return chosen
