"""From a trained run to one file for the line, held against the run before it is kept."""

import argparse
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tqdm import tqdm

from datasets.readers import read_rgb, read_xyz
from datasets.records import Record, scan
from evaluation.thresholds import NominalScores, load_scores
from exporting.equality import ENOUGH, Equality, Pair, compare
from exporting.graph import PartGraph, Range, imported, to_onnx
from exporting.int8 import Arrays, quantised
from inspection.detector import Detector, load_detector, part_arrays
from inspection.onnx_file import KEY, about_json, file_thresholds, open_file
from models.checkpoints import find_run, load_run, method_of
from models.method import TrainedRun
from utils.checkpoint import load_settings
from utils.errors import UserError
from utils.files import atomic_path
from utils.run_record import provenance

if TYPE_CHECKING:
    import onnx

CALIBRATION = 32
"""Nominal images that the ranges of 8 bits are taken from."""
PRECISIONS = ("fp32", "fp16", "int8")


def export_run(args: argparse.Namespace) -> None:
    """Export, compare, print the table, and write the file if the comparison holds.

    Args:
        args: options of export.py.

    Raises:
        UserError: the run cannot be exported, a package or the data are missing, or the answers differ.
    """
    if args.output.suffix != ".onnx":
        raise UserError(f"--output {args.output}: expected a name that ends in .onnx.")
    with imported():
        import onnx
        import onnxruntime
        import onnxscript  # noqa: F401
    run = find_run(args.checkpoint)
    weights = {name: getattr(args, name) for name in ("rgb_weights", "xyz_weights")}
    detector = load_detector(
        args.checkpoint, device="cpu", precision="fp32", false_alarm_rate=args.false_alarm_rate, **weights
    )
    if detector.thresholds is None:
        raise UserError(f"{run}: an exported file decides, so it takes thresholds. {detector.note}.")
    scores = load_scores(detector.thresholds_path)
    thresholds = file_thresholds(scores, args.false_alarm_rate)
    records = _records(args.dataset_path, run)
    shape = read_rgb(records[0].rgb).shape[:2]
    loaded = load_run(run, "cpu", "fp32", weights)
    maps: Any = method_of(run).graph(loaded, shape)
    points = thresholds.inputs.get("points", (None, None))
    layers = [f"maps.{name}" for name, module in maps.named_modules() if any(module is one for one in maps.dense)]
    if args.precision == "fp16":
        maps = maps.half()
    print(f"exporting {run}, frames of {shape[1]}×{shape[0]} (W×H), {args.precision}")
    graph = PartGraph(maps, shape, thresholds.image, points, _depths(detector.preprocessing))
    model = to_onnx(graph.eval(), shape)
    if args.precision == "int8":
        nominal = scan(args.dataset_path, run.name.class_name, "train")[:CALIBRATION]
        model = quantised(model, layers, _arrays(nominal, detector, "calibrating"))
    runtime = f"onnxruntime {onnxruntime.__version__}, CPU"
    with atomic_path(args.output) as temporary:
        _write(temporary, model, _about(run, detector, scores, shape, args, model, None))
        equality = _compare(temporary, records, detector, points, args.precision, runtime)
        print(equality.table())
        if equality.samples < ENOUGH:
            print(f"note: {equality.samples} samples; at least {ENOUGH} say more", file=sys.stderr)
        if faults := equality.faults():
            raise UserError(f"{args.output}: not written, since its answers are not the run's: {'; '.join(faults)}.")
        _write(temporary, model, _about(run, detector, scores, shape, args, model, equality))
        onnx.checker.check_model(str(temporary))
    size = args.output.stat().st_size / 1e6
    print(f"{detector.thresholds.statement()}\nwritten: {args.output} ({size:.1f} MB)")


def _records(dataset_path: Path, run: TrainedRun) -> list[Record]:
    """The samples that answers are compared on: of validation and test, as far as there are any."""
    folder, name = Path(dataset_path), run.name.class_name
    splits = [split for split in ("validation", "test") if (folder / name / split).is_dir()]
    if not splits:
        raise UserError(
            f"{folder / name}: no validation and no test images, on which the file is held against the run. Name the "
            "preprocessed dataset: --dataset_path."
        )
    return [record for split in splits for record in scan(folder, name, split)]


def _arrays(records: list[Record], detector: Detector, label: str) -> Iterator[Arrays]:
    """Image and cloud of each record, as the detector takes them."""
    for record in tqdm(records, label, unit="image"):
        yield part_arrays(read_rgb(record.rgb), read_xyz(record.xyz), False, detector.preprocessing)[:2]


def _depths(preprocessing: Mapping[str, Any] | None) -> tuple[float, float] | None:
    """Between which depths the training data was kept, where that is how it was cleaned."""
    settings = (preprocessing or {}).get("settings") or {}
    if settings.get("background") != "depth-range":
        return None
    near, far = settings["depth_range"]
    return float(near), float(far)


def _compare(
    path: Path, records: list[Record], detector: Detector, points: Range, precision: str, runtime: str
) -> Equality:
    """What run and file say of the records."""
    session, _ = open_file(path, "cpu")
    threshold = detector.thresholds.image if detector.thresholds else 0.0
    low, high = points
    pairs = []
    for record, (image, cloud) in zip(records, _arrays(records, detector, "comparing"), strict=True):
        answer = detector.predict(image, cloud, raw=False)
        found, score, anomalous, share, _ = session.run(None, {"rgb": image[None], "xyz": cloud[None]})
        unusual = (low is not None and share[0] < low) or (high is not None and share[0] > high)
        decided = answer.score > threshold or bool(unusual)
        pairs.append(Pair(answer, found[0], float(score[0]), bool(anomalous[0]), decided, not record.is_good))
    return compare(pairs, precision, runtime)


def _about(
    run: TrainedRun,
    detector: Detector,
    scores: NominalScores,
    shape: tuple[int, int],
    args: argparse.Namespace,
    model: "onnx.ModelProto",
    equality: Equality | None,
) -> str:
    """What the file says of itself, as the text of a JSON object."""
    thresholds = file_thresholds(scores, args.false_alarm_rate)
    settings = load_settings(run.name, run.method) or {}
    more = {
        "class": run.name.class_name,
        "precision": args.precision,
        "inputs": {
            "rgb": "uint8 (1, height, width, 3), red first, as the camera gives it",
            "xyz": "float32 (1, height, width, 3), metres in the camera's frame, unmeasured points (0, 0, 0)",
        },
        "outputs": {
            "map": "float32 (1, height, width), anomaly map",
            "score": "float32 (1,), its maximum on the detector's grid",
            "anomalous": "bool (1,), score above the threshold, or points outside their limits",
            "points": "float32 (1,), share of the padded square frame that is measured",
            "grid": "float32 (1, 224, 224), map of the padded square frame, for regions",
        },
        "background": background(detector.preprocessing),
        "threshold": thresholds.image,
        "promise": thresholds.statement(),
        "points": list(thresholds.inputs.get("points", (None, None))),
        "thresholds": thresholds.as_json(),
        "weights_sha256": detector.weights,
        "extractor": settings.get("config", {}).get("extractor"),
        "opset": {one.domain or "ai.onnx": one.version for one in model.opset_import},
        "equality": None if equality is None else equality.as_json(),
        **provenance(),
    }
    return about_json(str(run), shape, detector.preprocessing, scores, f"{detector.fingerprint} {args.precision}", more)


def background(preprocessing: Mapping[str, Any] | None) -> str:
    """What is to be done with a raw cloud before it is given to the file, in a sentence."""
    if _depths(preprocessing) is not None:
        return "inside: what lies outside the depth range of the training data is cut off"
    settings = (preprocessing or {}).get("settings") or {}
    if settings.get("background") == "none":
        return "kept: give clouds as the camera measures them"
    return (
        "outside: give clouds without their background, removed as in the training data (predict.py does so; "
        f"settings: {dict(settings) or 'the published ones'})"
    )


def _write(path: Path, model: "onnx.ModelProto", text: str) -> None:
    del model.metadata_props[:]
    entry = model.metadata_props.add()
    entry.key, entry.value = KEY, text
    path.write_bytes(model.SerializeToString())
