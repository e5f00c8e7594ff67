"""The whole of CFM on a GPU, from a batch of samples to maps and scores, against expected values of the CPU."""

from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np
import pytest
import torch

from models.cfm.detector import CrossmodalDetector
from models.token_store import extract_batch
from tests.gpu import GPU, needs_gpu

if TYPE_CHECKING:
    from datasets.sample import Sample
    from models.extractors.dino_pointmae import DinoPointMAE

pytestmark = needs_gpu


@pytest.mark.slow
@pytest.mark.parametrize(("precision", "tolerance"), [("fp32", 2e-4), ("bf16", 3e-3)])
def test_maps_and_scores(
    precision: str,
    tolerance: float,
    golden: dict[str, dict[str, np.ndarray]],
    golden_samples: "dict[str, Sample]",
    build_dino_pointmae: "Callable[..., DinoPointMAE]",
    golden_detector: Callable[..., CrossmodalDetector],
    record_property: Callable[[str, float], None],
) -> None:
    extractor = build_dino_pointmae(precision=precision)
    extractor.image.to(GPU)
    extractor.cloud.to(GPU)
    tokens = extract_batch(list(golden_samples.values()), extractor, GPU)
    detector = golden_detector(precision=precision).to(GPU)
    deviations, scores = [], []
    for case, of_one in zip(golden_samples, tokens, strict=True):
        found, expected = detector.predict(of_one).cpu(), torch.from_numpy(golden[case]["eval/smoothed"])
        deviations.append(float((found.smoothed - expected).abs().max() / expected.abs().max()))
        scores.append(abs(found.image_score() / float(golden[case]["eval/image_score"]) - 1))
    record_property(f"map_deviation_{precision}", max(deviations))
    record_property(f"score_deviation_{precision}", max(scores))
    assert max(deviations) < tolerance
    assert max(scores) < tolerance
