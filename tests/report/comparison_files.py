"""Result files whose figures are known, for the tests of the comparison."""

import json
from pathlib import Path
from typing import Any

from evaluation.tables.runs import Run, load_folders

LIMITS = ("0.3", "0.1", "0.05", "0.01")


def figures(value: float | None, defects: dict[str, float | None]) -> dict[str, Any]:
    """Metrics in which I-AUROC is `value` and the other nine are value - 0.01, … value - 0.09.

    Args:
        value: None makes all ten undefined. defects: name → I-AUROC; P-AUROC and AUPRO@30% are half of it.
    """
    ten = [None if value is None else value - 0.01 * i for i in range(10)]
    halves = {name: None if own is None else own / 2 for name, own in defects.items()}
    return {
        "i_auroc": ten[0],
        "p_auroc": ten[1],
        "aupro": dict(zip(LIMITS, ten[2:6], strict=True)),
        "aupro_thresholds": 99,
        "aupro_exact": dict(zip(LIMITS, ten[6:], strict=True)),
        "per_defect": {d: {"i_auroc": defects[d], "p_auroc": h, "aupro_0.3": h} for d, h in halves.items()},
    }


def write(
    folder: Path,
    class_name: str,
    value: float | None,
    *,
    run: str = "50ep_4bs",
    defects: dict[str, float | None] | None = None,
    branches: dict[str, float] | None = None,
    parts: dict[str, Any] | None = None,
    **config: Any,
) -> Path:
    """Write the result file of a class of the method CFM.

    Args:
        value: see `figures`. run: end of the file's name. defects: see `figures`. branches: name → `value` of it.
        parts: more of the file, for example `samples` and `timing`. config: entries of `config`.
    """
    defects = {"hole": value} if defects is None else defects
    result = {"class_name": class_name, **figures(value, defects), **(parts or {})}
    if branches:
        result["branches"] = {name: figures(own, defects) for name, own in branches.items()}
    result["config"] = {"method": "CFM", **config}
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{class_name}_{run}.json"
    path.write_text(json.dumps(result))
    return path


def samples(good: list[float], bad: list[float]) -> dict[str, Any]:
    """Part of a result file: images with these scores."""
    images = [{"label": label, "image_score": score} for label, scores in enumerate((good, bad)) for score in scores]
    return {"samples": images}


def load(root: Path) -> list[Run]:
    """The runs of all folders in `root`, in the order of their names."""
    return load_folders(sorted(root.iterdir()))
