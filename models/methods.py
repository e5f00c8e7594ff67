"""Scores of nominal images, from which thresholds come."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Protocol

from evaluation.thresholds import NominalScores, measure
from models.anomaly_map import AnomalyMap
from models.token_store import GridSample, batches
from utils.view import ViewSettings

BATCH_SIZE = 4


class Pipeline(Protocol):
    """What every method offers for samples: their maps, and the settings that thresholds for those depend on.

    view: with which samples are to be made, see `datasets.sample.make_sample`.
    """

    @property
    def view(self) -> ViewSettings | None: ...
    @property
    def settings(self) -> dict[str, Any]: ...
    def maps(self, samples: Sequence[GridSample]) -> Sequence[AnomalyMap]: ...


def nominal_scores(
    pipeline: Pipeline, samples: Iterable[GridSample], source: str, weights: str
) -> NominalScores | None:
    """Scores of samples without defects that the weights were not trained on.

    Args:
        pipeline: of the detector. source, weights: see `NominalScores`.

    Returns:
        None without any sample.
    """
    measured = [
        measure(anomaly_map.smoothed.numpy(), sample.valid.numpy())
        for batch in batches(samples, BATCH_SIZE)
        for sample, anomaly_map in zip(batch, pipeline.maps(batch), strict=True)
    ]
    if not measured:
        return None
    settings: Mapping[str, Any] = pipeline.settings
    maxima, levels, medians = (list(values) for values in zip(*measured, strict=True))
    return NominalScores(source, settings, weights, maxima, levels, medians)
