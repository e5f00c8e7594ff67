"""Whether an exported file gives the answers of the run that it was made of, sample by sample."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from scipy.stats import spearmanr

from evaluation.metrics.auroc import auroc
from inspection.answer import Answer

MAX_MAP = 1e-4
"""fp32: largest difference of a map, over the maximum of the run's."""
MIN_RANK = 0.9999  # fp16: rank correlation of the scores
MAX_AUROC_LOSS = 0.01  # int8: of the I-AUROC; without defects, of the rank correlation
ENOUGH = 50
"""Samples that the comparison should have."""


@dataclass(frozen=True)
class Pair:
    """What the run and the file say of one sample. defective: None where it is not known."""

    run: Answer
    file_map: np.ndarray
    file_score: float
    file_anomalous: bool
    run_anomalous: bool
    defective: bool


@dataclass(frozen=True)
class Equality:
    """How much a file's answers differ from its run's.

    Attributes:
        precision: of the file, `fp32`, `fp16` or `int8`.
        samples, defective: number of them, and of those with a defect.
        map: largest difference of a map over the run's maximum.
        score: largest difference of a score over the largest score.
        rank: Spearman's rank correlation of the scores; None for fewer than two different ones.
        decisions: how many changed.
        auroc_run, auroc_file: I-AUROC of either; None without good and defective samples, or a finite score.
        runtime: what ran the file.
    """

    precision: str
    samples: int
    defective: int
    map: float
    score: float
    rank: float | None
    decisions: int
    auroc_run: float | None
    auroc_file: float | None
    runtime: str

    def as_json(self) -> dict[str, Any]:
        """JSON values."""
        return asdict(self)

    def faults(self) -> list[str]:
        """What is not as the precision promises."""
        found = []
        rank = 1.0 if self.rank is None else self.rank
        if self.precision == "fp32" and not self.map <= MAX_MAP:
            found.append(f"maps differ by {self.map:.2g} of their maximum, expected at most {MAX_MAP:g}")
        if self.precision == "fp32" and self.decisions:
            found.append(f"{self.decisions} decisions changed, expected none")
        if self.precision == "fp16" and not rank >= MIN_RANK:
            found.append(f"rank correlation of the scores {rank:.6f}, expected at least {MIN_RANK}")
        if self.precision == "int8":
            before, after = (1.0, rank) if self.auroc_run is None else (self.auroc_run, self.auroc_file or 0.0)
            if not after >= before - MAX_AUROC_LOSS:
                what = "I-AUROC" if self.auroc_run is not None else "rank correlation of the scores"
                found.append(f"{what} {after:.4f} after {before:.4f}, expected a loss of at most {MAX_AUROC_LOSS}")
        return found

    def table(self) -> str:
        """As text, a line each."""
        rows = [
            ("samples (with a defect)", f"{self.samples} ({self.defective})"),
            ("largest difference of a map, over its maximum", f"{self.map:.2g}"),
            ("largest difference of a score, over the largest", f"{self.score:.2g}"),
            ("rank correlation of the scores", "unknown" if self.rank is None else f"{self.rank:.6f}"),
            ("decisions changed", str(self.decisions)),
        ]
        if self.auroc_run is not None:
            rows.append(("I-AUROC of run and file", f"{self.auroc_run:.4f} {self.auroc_file or 0:.4f}"))
        width = max(len(name) for name, _ in rows)
        return "\n".join(f"  {name.ljust(width)}  {value}" for name, value in rows)


def compare(pairs: Sequence[Pair], precision: str, runtime: str) -> Equality:
    """The differences over samples, at least one."""
    scores = np.array([[pair.run.score, pair.file_score] for pair in pairs])
    labels = np.array([pair.defective for pair in pairs])
    maps = [float(np.abs(pair.file_map - pair.run.map).max()) / max(float(pair.run.map.max()), 1e-30) for pair in pairs]
    varied = len(set(scores[:, 0])) > 1 and len(set(scores[:, 1])) > 1
    both = labels.any() and not labels.all()
    aurocs = [float(auroc(labels, values)) if both and np.isfinite(values).all() else None for values in scores.T]
    return Equality(
        precision,
        len(pairs),
        int(labels.sum()),
        float(np.max(maps)),  # NaN stays NaN
        float(np.abs(scores[:, 1] - scores[:, 0]).max() / max(scores[:, 0].max(), 1e-30)),
        float(spearmanr(scores[:, 0], scores[:, 1]).statistic) if varied else None,
        sum(pair.file_anomalous != pair.run_anomalous for pair in pairs),
        aurocs[0],
        aurocs[1],
        runtime,
    )
