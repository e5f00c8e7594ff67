"""The page of one class: how good, where it fails, why."""

import json
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from evaluation.results import Prediction
from evaluation.tables.published import comparison_tables
from evaluation.tables.runs import RESULT_NAME, Run, load_runs, run_settings
from evaluation.tables.tables import Table, class_table
from report import decisions, pages, pictures
from report.curves import evaluation_curves
from report.figures.colours import ColourScale, colour_scale, depth_ends
from report.figures.sample import QualitativeInput, object_window
from utils.errors import UserError
from utils.files import read_text, read_with
from utils.palette import DEPTH, HEAT

MAX_SAMPLES = 150


@dataclass(frozen=True)
class ReportSample:
    """What a page shows of one test image. All on one grid (H, W)."""

    prediction: Prediction
    rgb: np.ndarray
    """(H, W, 3) uint8."""
    xyz: np.ndarray
    """(H, W, 3) float32 metres in the camera's frame: x right, y down, z forward; (0, 0, 0) = invalid."""
    map_2d: np.ndarray
    """(H, W) float32 ≥ 0, anomaly seen in the RGB image."""
    map_3d: np.ndarray
    """(H, W) float32 ≥ 0, anomaly seen in the geometry."""
    combined: np.ndarray
    """(H, W) float32 ≥ 0, the smoothed map before any normalisation; `prediction.raw_max` is its maximum."""


def write_report(result_path: Path, samples: Sequence[ReportSample]) -> Path:
    """Write `CLASS_50ep_4bs/report.html` beside a result file `CLASS_50ep_4bs.json`.

    All samples count for curves and tables; the gallery takes at most MAX_SAMPLES, those that deserve a look first.

    Args:
        result_path: what `evaluation.results.write_results` wrote, perhaps with `thresholds`, the JSON of
            `evaluation.thresholds.Thresholds.as_json`.
        samples: the test images behind it, at least one.

    Returns:
        The path of the page.

    Raises:
        UserError: the result file is missing or damaged, or belongs to other samples.
    """
    result = read_with(result_path, lambda path: dict(json.loads(read_text(path))), "Run the evaluation again.")
    predictions = [sample.prediction for sample in samples]
    _check(result_path, result, predictions)
    limits = result.get("thresholds") or {"image": None, "map": None}
    threshold = limits["image"]
    order = decisions.worst_first(predictions, threshold)[:MAX_SAMPLES]
    items = [drawn(sample, result["class_name"]) for sample in samples]
    scale = colour_scale(items)
    counts = None if threshold is None else decisions.counts(predictions, threshold)
    return pages.render(
        "evaluation.html.j2",
        pages.report_path(result_path),
        result=result,
        config=result.get("config") or {},
        settings=_settings(result_path, result),
        counts=counts,
        total=len(samples),
        defects=_defect_rows(result, predictions, threshold),
        **_tables(result_path, result),
        details=_details(result),
        index=_index([samples[i] for i in order], limits, scale),
        thumbnails=(pictures.thumbnail(items[i], scale) for i in order),
        views=(_view(samples[i], scale) for i in order),
        plots={
            "curves": evaluation_curves(predictions, result, threshold),
            "scores": decisions.histogram(predictions),
            "threshold": threshold,
        },
    )


def _check(path: Path, result: Mapping[str, Any], predictions: Sequence[Prediction]) -> None:
    expected = [(s["defect"], s["stem"]) for s in result.get("samples", [])]
    if not expected or expected != [(p.defect, p.stem) for p in predictions]:
        raise UserError(
            f"{path}: expected the results of {len(predictions)} samples, found those of {len(expected)} others; run "
            "the evaluation again."
        )


def drawn(sample: ReportSample, class_name: str) -> QualitativeInput:
    """The same sample as `report.figures` draw it."""
    p = sample.prediction
    return QualitativeInput(
        title=f"{class_name}, {p.defect}/{p.stem}",
        defect=p.defect,
        image_score=p.image_score,
        rgb=sample.rgb,
        gt=p.gt,
        depth=sample.xyz[..., 2],
        map_2d=sample.map_2d,
        map_3d=sample.map_3d,
        combined=sample.combined,
    )


def _settings(path: Path, result: Mapping[str, Any]) -> list[str]:
    """The settings in words, for the line under the title."""
    config = run_settings({"config": result.get("config")})
    told = [f"{key.replace('_', ' ')} {value}" for key, value in config.items() if key != "method"]
    match = RESULT_NAME.fullmatch(path.stem)
    if match:
        epochs, batch = match["run"].split("_")
        told.append(f"{epochs.removesuffix('ep')} epochs in batches of {batch.removesuffix('bs')}")
    return told


def _index(samples: Sequence[ReportSample], limits: Mapping[str, Any], scale: ColourScale) -> dict[str, Any]:
    """What the gallery knows of its samples before it looks at one; they stand in their order, worst first."""
    return {
        "samples": [
            {
                "defect": p.defect,
                "stem": p.stem,
                "score": p.raw_max,
                "image_score": p.image_score,
                "seconds": p.seconds,
                "verdict": decisions.verdict(p.label, p.raw_max, limits["image"]),
            }
            for p in (sample.prediction for sample in samples)
        ],
        "thresholds": {"image": limits["image"], "map": limits["map"]},
        "scale": {name: list(getattr(scale, name)) for name in ("map_2d", "map_3d", "combined")},
        "colours": {
            "heat": pictures.palette(HEAT, 17),
            "depth": pictures.palette(DEPTH, 17),
        },
    }


def _view(sample: ReportSample, scale: ColourScale) -> dict[str, Any]:
    """The pictures and the cloud of one sample, with the window that holds the object: left, top, side in pixels."""
    depth = sample.xyz[..., 2]
    ends = depth_ends(depth)
    rows, columns = object_window(drawn(sample, ""))
    height, width = depth.shape
    return {
        "size": [width, height],
        "window": [columns.start or 0, rows.start or 0, min((rows.stop or height) - (rows.start or 0), height)],
        "depth_ends": list(ends),
        "rgb": pictures.jpeg(sample.rgb),
        "mask": None if (gt := sample.prediction.gt) is None else pictures.mask_png(gt),
        "depth": pictures.map_png(np.where(depth == 0, np.nan, depth), ends, DEPTH),
        **{
            name: pictures.map_png(getattr(sample, name), getattr(scale, name), HEAT)
            for name in ("map_2d", "map_3d", "combined")
        },
        "cloud": pictures.cloud(sample.xyz),
    }


def _defect_rows(
    result: Mapping[str, Any], predictions: Sequence[Prediction], threshold: float | None
) -> list[dict[str, Any]]:
    """One row a defect: its figures, how many samples, and how many of them were caught and missed."""
    rows = []
    for name, figures in result["per_defect"].items():
        own = [p for p in predictions if p.defect == name]
        counts = None if threshold is None else decisions.counts(own, threshold)
        rows.append({"name": name, "count": len(own), "figures": figures, "counts": counts})
    return rows


def _tables(path: Path, result: Mapping[str, Any]) -> dict[str, Any]:
    """The classes of the same run, with links to their pages; branches of the detector; published figures."""
    name, folder = result["class_name"], path.parent
    nothing: dict[str, Any] = {"classes": None, "links": {}, "branches": None, "published": [], "complaint": None}
    try:
        runs = load_runs(folder)
    except UserError as error:  # another class's file; this page need not fail for it
        return {**nothing, "complaint": str(error)}
    run = next((run for run in runs if run.results.get(name) == result), None)
    if run is None:
        return {**nothing, "complaint": f"{path.name}: expected a name like {name}_50ep_4bs.json; rename it."}
    methods = [f"{run.method} ({branch})" for branch in result.get("branches", {})]
    branches = [r for r in runs if r.name == run.name and r.method in methods]
    return {
        "classes": class_table(run),
        "links": dict(_links(folder, path, run, name)),
        "branches": _branch_table([run, *branches], name) if branches else None,
        "published": comparison_tables([run, *branches], "auto"),
        "complaint": None,
    }


def _links(folder: Path, path: Path, run: Run, own: str) -> Iterator[tuple[str, str]]:
    """Class → address of its page, seen from this class's, of those that exist."""
    for name in run.results:
        page = pages.report_path(folder / f"{name}{path.name.removeprefix(own)}")
        if name != own and page.is_file():
            yield name, pages.address(page, pages.report_path(path))


def _branch_table(runs: Sequence[Run], class_name: str) -> Table:
    """One row for the detector and one for each branch of it, for one class."""
    tables = [class_table(replace(run, results={class_name: run.results[class_name]})) for run in runs]
    rows = [(run.method, table.rows[0][1]) for run, table in zip(runs, tables, strict=True)]
    return Table("The detector and its branches, this class", "map", tables[0].columns, rows)


def _details(result: Mapping[str, Any]) -> dict[str, list[tuple[str, str]]]:
    """Heading → names and values of all that the result file says of how it was made."""
    parts = ("config", "protocol", "versions", "timing", "thresholds")
    names = {"config": "Settings"}
    return {names.get(key, key.capitalize()): list(_flat(result[key])) for key in parts if result.get(key)}


def _flat(values: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, str]]:
    """Nested settings as one list: names joined by dots."""
    for key, value in values.items():
        if isinstance(value, dict) and value:
            yield from _flat(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", _told(value)


def _told(value: object) -> str:
    if value is None:
        return "-"
    if isinstance(value, float) and math.isfinite(value):
        return f"{value:.6g}"
    return value if isinstance(value, str) else json.dumps(value)
