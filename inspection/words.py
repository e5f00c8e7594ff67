"""Answers in words."""

from __future__ import annotations

from collections.abc import Collection
from typing import TYPE_CHECKING

from inspection.answer import Answer, Logged

if TYPE_CHECKING:
    from evaluation.thresholds import Thresholds


def decision(anomalous: bool | None) -> str:
    """Of a part."""
    return "no decision" if anomalous is None else "ANOMALOUS" if anomalous else "good"


def answer(found: Answer, thresholds: Thresholds | None) -> str:
    """Decision, score and threshold, whether it was cleaned, a line for each reason in the input and each region."""
    first = f"{decision(found.anomalous)}, score {found.score:.4g}"
    lines = [first if thresholds is None else f"{first}, threshold {thresholds.image:.4g}"]
    lines += ["  raw scan, cleaned of its background first"] if found.cleaned else []
    lines += [f"  input: {reason}" for reason in found.reasons]
    for number, region in enumerate(found.regions, 1):
        left, top, right, bottom = region.box
        place = f"{right - left}×{bottom - top} pixels at ({left}, {top})"
        line = f"  region {number}: {place}, peak {region.peak_score:.4g}"
        if region.area_mm2 is not None:
            line += f", {region.area_mm2:.3g} mm²"
        if region.centroid_m is not None:
            x, y, z = (1000 * value for value in region.centroid_m)
            line += f", around x {x:.1f}, y {y:.1f}, z {z:.1f} mm"
        lines.append(line)
    return "\n".join(lines)


def outcome(found: Logged, new: bool) -> str:
    """What became of a part. new: whether it was answered by this run."""
    before = "" if new else " (known before)"
    if found.error is not None:
        return f"failed: {found.error}{before}"
    reasons = "".join(f"; input: {reason}" for reason in found.reasons)
    return f"{decision(found.anomalous)}, score {found.score:.4g}{reasons}{before}"


def summary(outcomes: Collection[tuple[Logged, bool]], problems: int = 0) -> str:
    """What became of many parts.

    Args:
        outcomes: of each part, and whether it was answered by this run.
        problems: files that are no part.
    """
    answered = [(found.anomalous, new) for found, new in outcomes if found.error is None]
    counts = {decision(said).lower(): sum(one == said for one, _ in answered) for said in (True, False, None)}
    told = ", ".join(f"{count} {said}" for said, count in counts.items() if count) or "none"
    before = sum(not new for _, new in answered)
    failed = len(outcomes) - len(answered)
    known = f" ({before} before)" if before else ""
    cleaned = sum(found.cleaned for found, _ in outcomes)
    strange = sum(bool(found.reasons) for found, _ in outcomes)
    others = f"; raw scans, cleaned first: {cleaned}" if cleaned else ""
    others += f"; input unlike good parts': {strange}" if strange else ""
    others += f"; unpaired files: {problems}" if problems else ""
    return f"{len(answered)} of {len(outcomes)} parts answered{known}: {told}; {failed} failed{others}"
