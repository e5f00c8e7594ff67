"""Metrics of one class and the two result files."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from evaluation.metrics import aupro, auroc, pro_curve, sort_pixels
from evaluation.results import Prediction, evaluate, map_metrics, write_results
from utils.errors import UserError


def prediction(defect: str, number: int, rng: np.random.Generator, strength: float = 0.5) -> Prediction:
    """A 16×16 image; a defect is a 4×4 square that scores `strength` higher."""
    gt = np.zeros((16, 16), dtype=bool)
    if defect != "good":
        y, x = rng.integers(0, 12, 2)
        gt[y : y + 4, x : x + 4] = True
    scores = (rng.random((16, 16)) + strength * gt).astype(np.float32)
    return Prediction(
        defect, f"{number:03d}", float(scores.max()), float(scores.max()) / 3, 0.25, scores, scores**2, gt
    )


@pytest.fixture
def predictions() -> list[Prediction]:
    rng = np.random.default_rng(0)
    return [prediction(d, i, rng) for d in ("good", "hole", "cut") for i in range(5)]


def test_metrics_are_those_of_the_stacked_maps(predictions: list[Prediction]) -> None:
    metrics = evaluate(predictions)
    gts = np.stack([p.gt for p in predictions if p.gt is not None])
    pixels = sort_pixels(np.stack([p.aupro_map for p in predictions]), gts)
    for key, thresholds in (("aupro", 99), ("aupro_exact", None)):
        curve = pro_curve(pixels, thresholds)
        assert metrics[key] == {s: aupro(*curve, float(s)) for s in ("0.3", "0.1", "0.05", "0.01")}
    assert metrics["aupro_thresholds"] == 99
    assert metrics["p_auroc"] == auroc(gts, np.stack([p.pixel_map for p in predictions]))
    scores = np.array([p.image_score for p in predictions])
    assert metrics["i_auroc"] == auroc(np.array([p.defect != "good" for p in predictions]), scores)


def test_metrics_of_maps_are_the_exact_ones(predictions: list[Prediction]) -> None:
    maps, gts, labels = ([getattr(p, name) for p in predictions] for name in ("aupro_map", "gt", "label"))
    metrics = evaluate([replace(p, pixel_map=p.aupro_map) for p in predictions])  # the score is the maximum already
    found = map_metrics(maps, gts, labels)
    assert found == {
        "au_pro": metrics["aupro_exact"]["0.3"],
        "au_roc": metrics["i_auroc"],
        "p_auroc": metrics["p_auroc"],
    }
    assert map_metrics(maps, gts, labels, 0.05, 99)["au_pro"] == metrics["aupro"]["0.05"]


def test_metrics_of_maps_may_be_undefined(predictions: list[Prediction]) -> None:
    def metrics(chosen: list[Prediction]) -> dict[str, float | None]:
        return map_metrics([p.aupro_map for p in chosen], [p.gt for p in chosen], [p.label for p in chosen])

    assert metrics(predictions[:5]) == {"au_pro": None, "au_roc": None, "p_auroc": None}
    only_bad = metrics(predictions[5:])
    assert only_bad["au_roc"] is None
    assert only_bad["au_pro"] == evaluate(predictions[5:])["aupro_exact"]["0.3"]
    vanished = metrics([replace(p, gt=np.zeros((16, 16), bool)) for p in predictions])
    assert vanished == {"au_pro": None, "au_roc": evaluate(predictions)["i_auroc"], "p_auroc": None}
    full = metrics([replace(p, gt=np.ones((16, 16), bool)) for p in predictions])
    assert full == vanished


def test_per_defect_is_against_all_good_images(predictions: list[Prediction]) -> None:
    per_defect = evaluate(predictions)["per_defect"]
    assert list(per_defect) == ["cut", "hole"]
    for defect, row in per_defect.items():
        alone = evaluate([p for p in predictions if p.defect in ("good", defect)])
        assert row == {
            **{key: alone[key] for key in ("i_auroc", "i_auroc_interval", "p_auroc")},
            "aupro_0.3": alone["aupro"]["0.3"],
        }


def test_planted_weak_defect_scores_lower_than_strong_one() -> None:
    rng = np.random.default_rng(1)
    images = [prediction("good", i, rng) for i in range(6)]
    images += [prediction("weak", i, rng, 0.05) for i in range(6)] + [
        prediction("strong", i, rng, 2.0) for i in range(6)
    ]
    per_defect = evaluate(images)["per_defect"]
    figures = ("i_auroc", "p_auroc", "aupro_0.3")
    assert [per_defect["strong"][key] for key in figures] == pytest.approx([1, 1, 1], abs=1e-12)
    assert per_defect["strong"]["i_auroc_interval"] is None, "every draw gives 1"
    assert all(per_defect["weak"][key] < 0.8 for key in figures)


def test_label_comes_from_the_folder_even_when_the_mask_vanished(predictions: list[Prediction]) -> None:
    lost = replace(predictions[5], gt=np.zeros((16, 16), dtype=bool), image_score=100.0)
    assert lost.label
    metrics = evaluate([*predictions[:5], lost])
    assert metrics["i_auroc"] == 1.0
    assert metrics["p_auroc"] is None
    assert metrics["aupro"] == metrics["aupro_exact"] == {"0.3": None, "0.1": None, "0.05": None, "0.01": None}


def test_undefined_metrics_are_none(predictions: list[Prediction]) -> None:
    only_good, only_bad = evaluate(predictions[:5]), evaluate(predictions[5:])
    assert only_good["i_auroc"] is only_good["p_auroc"] is only_good["aupro"]["0.3"] is None
    assert only_good["per_defect"] == {}
    assert only_bad["i_auroc"] is None
    assert 0.5 < only_bad["p_auroc"] < 1


def test_without_masks_only_images_are_scored(predictions: list[Prediction]) -> None:
    """The same figures of images; none of pixels, for the whole class and each defect."""
    known = evaluate(predictions)
    metrics = evaluate([replace(p, gt=None) if p.label else p for p in predictions])
    assert metrics["i_auroc"] == known["i_auroc"]
    assert metrics["p_auroc"] is None
    assert {*metrics["aupro"].values(), *metrics["aupro_exact"].values()} == {None}
    for defect, figures in metrics["per_defect"].items():
        assert figures == known["per_defect"][defect] | {"p_auroc": None, "aupro_0.3": None}


def test_all_zero_maps_give_chance_not_nan(predictions: list[Prediction]) -> None:
    zero = np.zeros((16, 16), dtype=np.float32)
    metrics = evaluate([replace(p, image_score=0.0, aupro_map=zero, pixel_map=zero) for p in predictions])
    assert metrics["i_auroc"] == metrics["p_auroc"] == 0.5
    assert metrics["aupro"]["0.3"] == 0.0
    assert metrics["aupro_exact"]["0.3"] == pytest.approx(0.15)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"image_score": float("nan")}, "good/003.*NaN or infinite"),
        ({"aupro_map": np.full((16, 16), np.inf, dtype=np.float32)}, "good/003.*NaN or infinite"),
        ({"gt": np.eye(16, dtype=bool)}, "good/003.*empty mask, found 16"),
        ({"pixel_map": np.zeros((8, 8), dtype=np.float32)}, r"good/003.*\(16, 16\).*\(8, 8\)"),
    ],
)
def test_refusals_name_the_image(predictions: list[Prediction], change: dict[str, Any], message: str) -> None:
    predictions[3] = replace(predictions[3], **change)
    with pytest.raises(UserError, match=message):
        evaluate(predictions)


def test_refuses_an_empty_list() -> None:
    with pytest.raises(UserError, match="at least one test image"):
        evaluate([])


def test_result_files(predictions: list[Prediction], tmp_path: Path) -> None:
    predictions[6] = replace(predictions[6], image_score=0.0)  # so that the interval is defined
    metrics = evaluate(predictions)
    config, versions, timing = {"extractor": "handcrafted"}, {"numpy": "2"}, {"seconds": 1.5}
    path = write_results(
        tmp_path / "q", "bagel", 50, 4, metrics, predictions, config, versions, timing, maps="AnomalyMap"
    )
    low, high = metrics["i_auroc_interval"]
    assert 0 <= low < metrics["i_auroc"] < high <= 1
    assert sorted(p.name for p in (tmp_path / "q").iterdir()) == ["bagel_50ep_4bs.json", "bagel_50ep_4bs.md"]
    figures = [metrics["aupro"][k] for k in ("0.3", "0.1", "0.05", "0.01")] + [metrics["p_auroc"], metrics["i_auroc"]]
    assert path.with_suffix(".md").read_text() == (
        "Metrics for class bagel with 50ep_4bs\n"
        "AUPRO@30% & AUPRO@10% & AUPRO@5% & AUPRO@1% & P-AUROC & I-AUROC\n"
        + " & ".join(f"{figure:.3f}" for figure in figures)
        + f"\nI-AUROC, 95 % interval over images: {low:.3f} to {high:.3f}\n"
    )
    record = json.loads(path.read_text())
    assert list(record) == [
        *("class_name", "format", "protocol", "aupro", "aupro_thresholds", "aupro_exact"),
        *("p_auroc", "i_auroc", "i_auroc_interval", "per_defect", "samples", "config", "versions", "timing"),
    ]
    assert {key: record[key] for key in metrics} == metrics, "full precision"
    assert (record["class_name"], record["config"], record["versions"]) == ("bagel", config, versions)
    assert record["timing"] == timing
    assert record["format"] == 1
    told = {"version": 1, "grid": "16×16", "maps": "AnomalyMap", "aupro_thresholds": 99}
    assert {key: record["protocol"][key] for key in told} == told
    assert record["protocol"]["aupro_limits"] == [0.3, 0.1, 0.05, 0.01]
    p = predictions[7]
    assert record["samples"][7] == {
        **{"defect": "hole", "stem": "002", "label": 1, "seconds": 0.25},
        **{"image_score": p.image_score, "raw_max": p.raw_max},
    }
    assert [s["label"] for s in record["samples"]] == [0] * 5 + [1] * 10


def test_undefined_metrics_are_null_and_nan_in_the_files(predictions: list[Prediction], tmp_path: Path) -> None:
    good = predictions[:5]
    path = write_results(tmp_path, "bagel", 1, 2, evaluate(good), good, {}, {}, {})
    assert path.with_suffix(".md").read_text().splitlines()[2] == "nan & nan & nan & nan & nan & nan"
    assert json.loads(path.read_text())["i_auroc"] is None


def test_branches_follow_in_both_files(predictions: list[Prediction], tmp_path: Path) -> None:
    metrics, good = evaluate(predictions), predictions[:5]
    branches = {
        "2D only": evaluate([replace(p, image_score=-p.image_score, aupro_map=-p.aupro_map) for p in predictions]),
        "3D only": evaluate(good),
    }
    without = write_results(tmp_path / "without", "bagel", 50, 4, metrics, predictions, {}, {}, {})
    path = write_results(tmp_path / "with", "bagel", 50, 4, metrics, predictions, {}, {}, {}, branches)
    assert json.loads(path.read_text()) == json.loads(without.read_text()) | {"branches": branches}
    lines = path.with_suffix(".md").read_text().splitlines()
    assert lines[:3] == without.with_suffix(".md").read_text().splitlines()
    aupro_2d = [f"{branches['2D only']['aupro'][limit]:.3f}" for limit in ("0.3", "0.1", "0.05", "0.01")]
    image_auroc = 1 - metrics["i_auroc"]
    assert lines[3:] == [
        "2D only",
        " & ".join([*aupro_2d, f"{metrics['p_auroc']:.3f}", f"{image_auroc:.3f}"]),
        "3D only",
        "nan & nan & nan & nan & nan & nan",
    ]
