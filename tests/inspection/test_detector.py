"""inspection/detector.py: what a detector says of single parts agrees with the evaluation, and is consistent."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
from PIL import Image

import cfm_inference
import dbmrnet_inference
from datasets.readers import read_rgb, read_xyz
from datasets.records import Record, scan
from evaluation.thresholds import load_scores
from inspection import load_detector
from inspection.detector import Detector
from tests.trained import Trained
from utils.errors import UserError


def arrays(record: Record) -> tuple[np.ndarray, np.ndarray]:
    return read_rgb(record.rgb), read_xyz(record.xyz)


@pytest.fixture(scope="module")
def detectors(trained: Trained) -> dict[str, Detector]:
    return {"CFM": load_detector(trained.cfm, device="cpu"), "DBMRNet": load_detector(trained.dbmrnet, device="cpu")}


@pytest.mark.parametrize("method", ["CFM", "DBMRNet"])
def test_answers_are_those_of_the_evaluation(
    method: str, detectors: dict[str, Detector], trained: Trained, tmp_path: Path
) -> None:
    words = ["--dataset_path", str(trained.scenes), "--class_name", "cap", "--quantitative_folder", str(tmp_path)]
    words += ["--device", "cpu"]
    if method == "CFM":
        options = ["--checkpoint_folder", str(trained.cfm.parent), "--epochs_no", "8"]
        assert cfm_inference.main([*words, *options]) == 0
    else:
        options = ["--checkpoint_folder", str(trained.dbmrnet.parent), "--epochs_no", "2", "--batch_size", "4"]
        assert dbmrnet_inference.main([*words, *options]) == 0
    result = json.loads(next(tmp_path.glob("cap_*.json")).read_text())
    detector = detectors[method]
    assert detector.thresholds is not None
    assert result["thresholds"] == detector.thresholds.as_json()
    samples = {(sample["defect"], sample["stem"]): sample for sample in result["samples"]}
    for record in scan(trained.scenes, "cap", "test"):
        answer = detector.predict(*arrays(record))
        expected = samples[record.defect, record.stem]
        assert answer.score == pytest.approx(expected["raw_max"], rel=1e-4)  # one sample at a time, not a batch
        assert answer.anomalous == (answer.score > detector.thresholds.image)
        assert bool(answer.regions) == answer.anomalous
        assert answer.reasons == ()
        assert answer.map.shape == answer.labels.shape == (210, 240)
        assert answer.map.dtype == np.float32
        assert not answer.cleaned
        assert len(answer.regions) == answer.labels.max()


def _ten_points(rgb: np.ndarray, xyz: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    at = np.argwhere((xyz != 0).all(axis=2))
    few = np.zeros_like(xyz)
    rows, columns = at[:: len(at) // 10][:10].T
    few[rows, columns] = xyz[rows, columns]
    return rgb, few


def _half(rgb: np.ndarray, xyz: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    left = xyz.copy()
    left[:, int(np.median(np.nonzero((xyz != 0).all(axis=2))[1])) :] = 0
    return rgb, left


def _holes(rgb: np.ndarray, xyz: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    return rgb, xyz * (np.random.default_rng(0).random((*xyz.shape[:2], 1)) > 0.15).astype(np.float32)


def _dark(rgb: np.ndarray, xyz: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    return rgb // 2, xyz


@pytest.mark.parametrize("method", ["CFM", "DBMRNet"])
@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (_ten_points, "measured points: 0.0"),
        (_half, "measured points: "),
        (_holes, "unmeasured share within its outline: "),
        (_dark, "brightness: "),
    ],
)
def test_input_unlike_that_of_good_parts_is_told_whatever_the_score(
    method: str, change: Callable[..., Any], reason: str, detectors: dict[str, Detector], trained: Trained
) -> None:
    good = [record for record in scan(trained.scenes, "cap", "test") if record.is_good]
    for record in good:
        answer = detectors[method].predict(*change(*arrays(record)))
        assert answer.anomalous
        assert any(told.startswith(reason) for told in answer.reasons), answer.reasons


def test_thresholds_come_from_the_validation_images(detectors: dict[str, Detector], trained: Trained) -> None:
    for method, part in (("CFM", "CFM"), ("DBMRNet", "DBMRNet"), ("DBMRNet", "DBMRNet_best")):
        folder = trained.cfm if method == "CFM" else trained.dbmrnet
        scores = load_scores(next(folder.glob(f"{part}_thresholds_cap_*.json")))
        assert (scores.source, len(scores.maxima)) == ("validation", 6)
        if part == method:
            found = [detectors[method].predict(*arrays(r)).score for r in scan(trained.scenes, "cap", "validation")]
            assert scores.maxima == pytest.approx(found, rel=1e-4)
            assert all(level <= maximum for level, maximum in zip(scores.levels, scores.maxima, strict=True))


def test_what_decides_answers_is_in_the_fingerprint(trained: Trained, tmp_path: Path) -> None:
    """Of the same weights: the precision, and how raw scans are cleaned."""
    found = {load_detector(trained.cfm, device="cpu", precision=p).fingerprint for p in (None, "bf16")}
    copy = tmp_path / "cap"
    shutil.copytree(trained.cfm, copy)
    settings = copy / "CFM_cap_8ep_4bs.json"
    content = json.loads(settings.read_text())
    content["data_manifest"]["preprocessing"]["settings"]["plane_distance"] = 0.003
    settings.write_text(json.dumps(content))
    found.add(load_detector(copy, device="cpu").fingerprint)
    assert len(found) == 3


def test_rate_decides_the_thresholds(trained: Trained) -> None:
    scores = load_scores(next(trained.cfm.glob("CFM_thresholds_*.json")))
    detector = load_detector(trained.cfm, device="cpu", false_alarm_rate=0.5)
    assert detector.thresholds is not None
    assert detector.thresholds.image == sorted(scores.maxima)[3]  # ⌈7 · 0.5⌉ = 4
    assert detector.fingerprint != load_detector(trained.cfm, device="cpu").fingerprint
    with pytest.raises(ValueError, match=r"must lie in \(0, 1\)"):
        load_detector(trained.cfm, device="cpu", false_alarm_rate=1)


@pytest.mark.parametrize("method", ["CFM", "DBMRNet"])
def test_raw_scans_are_cleaned_first(method: str, detectors: dict[str, Detector], trained: Trained) -> None:
    """Apart from the random draws of the plane, a raw scan gives the answer of its preprocessed file."""
    detector = detectors[method]
    for raw, cleaned in zip(scan(trained.raw, "cap", "test"), scan(trained.scenes, "cap", "test"), strict=True):
        found, expected = detector.predict(*arrays(raw)), detector.predict(*arrays(cleaned))
        assert (found.cleaned, expected.cleaned) == (True, False)
        assert found.map.shape == expected.map.shape
        assert found.score == pytest.approx(expected.score, rel=0.25)
        difference = np.abs(found.map - expected.map)
        assert (difference > 0.1 * expected.score).mean() < 0.02
        kept = detector.prepare(*arrays(raw))[1]
        assert ((kept != 0).any(axis=2) != (arrays_unpadded(cleaned) != 0).any(axis=2)).mean() < 0.003


def arrays_unpadded(record: Record) -> np.ndarray:
    """The preprocessed cloud, 240×240 with the padding, at the image's 240×210."""
    return read_xyz(record.xyz)[15:225]


def test_a_raw_scan_can_be_declared_clean(detectors: dict[str, Detector], trained: Trained) -> None:
    raw = arrays(scan(trained.raw, "cap", "test")[0])
    kept = detectors["CFM"].prepare(*raw, raw=False)
    assert not kept[2]
    assert np.array_equal(kept[1], raw[1])


def test_images_may_be_pil_and_clouds_float64(detectors: dict[str, Detector], trained: Trained) -> None:
    rgb, xyz = arrays(scan(trained.scenes, "cap", "test")[-1])
    first = detectors["CFM"].predict(rgb, xyz)
    for kind in ("<f8", ">f4", ">f8"):
        other = detectors["CFM"].predict(Image.fromarray(rgb), xyz.astype(kind))
        assert np.array_equal(first.map, other.map)
        assert first.regions == other.regions


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda rgb, xyz: (rgb[..., 0], xyz), r"rgb: expected \(h, w, 3\) uint8"),
        (lambda rgb, xyz: (rgb / 255, xyz), "rgb: expected"),
        (lambda rgb, xyz: (rgb, xyz[:100]), "xyz: expected"),
        (lambda rgb, xyz: (rgb, xyz[..., 2]), "xyz: expected an organised cloud"),
        (lambda rgb, xyz: (rgb, (xyz * 1000).astype(np.int32)), "xyz: expected float32"),
        (lambda rgb, xyz: (rgb, np.where(xyz == 0, np.nan, xyz)), "xyz: .* points are NaN or infinite"),
        (lambda rgb, xyz: (rgb, 0 * xyz), "empty cloud"),
        (lambda rgb, xyz: (rgb, 1000 * xyz), r"xyz: expected metres, .* in millimetres \(z around 5"),
        (lambda rgb, xyz: (rgb, xyz / 1000), r"xyz: expected metres, .* in kilometres"),
        (
            lambda rgb, xyz: (Image.fromarray(257 * rgb[..., 0].astype(np.uint16)), xyz),
            "rgb: expected an 8-bit .* I;16",
        ),
        (lambda rgb, xyz: (Image.fromarray(rgb[..., 0]).convert("F"), xyz), "rgb: expected an 8-bit .* mode F"),
    ],
)
def test_other_arrays_are_refused(change: object, words: str, detectors: dict[str, Detector], trained: Trained) -> None:
    assert callable(change)
    with pytest.raises(UserError, match=words):
        detectors["CFM"].predict(*change(*arrays(scan(trained.scenes, "cap", "test")[0])))


def test_without_thresholds_nothing_is_decided(trained: Trained, tmp_path: Path) -> None:
    copy = tmp_path / "cap"
    copy.mkdir()
    for path in trained.cfm.iterdir():
        if "thresholds" not in path.name:
            (copy / path.name).write_bytes(path.read_bytes())
    detector = load_detector(copy, device="cpu")
    assert detector.thresholds is None
    assert detector.note is not None
    assert "calibrate.py" in detector.note
    record = scan(trained.scenes, "cap", "test")[-1]
    answer = detector.predict(*arrays(record))
    assert (answer.anomalous, answer.regions, answer.labels.max()) == (None, [], 0)
    assert answer.score == load_detector(trained.cfm, device="cpu").predict(*arrays(record)).score


def test_thresholds_of_other_weights_are_refused(trained: Trained, tmp_path: Path) -> None:
    copy = tmp_path / "cap"
    copy.mkdir()
    for path in trained.dbmrnet.iterdir():
        (copy / path.name).write_bytes(path.read_bytes())
    scores = copy / "DBMRNet_thresholds_cap_2ep_4bs.json"
    scores.write_text(json.dumps({**json.loads(scores.read_text()), "weights": "those of another run"}))
    with pytest.raises(UserError, match=r"other weights.*calibrate\.py"):
        load_detector(copy / "DBMRNet_cap_2ep_4bs.safetensors", device="cpu")
    assert load_detector(copy / "DBMRNet_best_cap_2ep_4bs.safetensors", device="cpu").name.endswith("(best)")


def test_the_map_has_no_padding(detectors: dict[str, Detector], trained: Trained, tmp_path: Path) -> None:
    """It equals what the evaluation saves at the images' size, before that is normalised by the image."""
    words = ["--dataset_path", str(trained.scenes), "--class_name", "cap", "--quantitative_folder", str(tmp_path)]
    options = ["--checkpoint_folder", str(trained.cfm.parent), "--epochs_no", "8", "--batch_size", "4"]
    maps = ["--save_maps", str(tmp_path / "maps"), "--map_size", "native", "--device", "cpu"]
    assert cfm_inference.main([*words, *options, *maps]) == 0
    for record in scan(trained.scenes, "cap", "test"):
        saved = tifffile.imread(tmp_path / f"maps/cap/test/{record.defect}/{record.stem}.tiff")
        found = detectors["CFM"].predict(*arrays(record)).map
        factor = found.max() / saved.max()
        np.testing.assert_allclose(found, saved * factor, atol=1e-4 * found.max())
