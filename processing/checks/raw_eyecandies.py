"""Check the raw release of Eyecandies before its conversion: counts, keys, sizes."""

import re
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path

from tqdm import tqdm

from datasets import eyecandies
from datasets.readers import open_image
from datasets.records import check_classes
from processing.checks.findings import Finding, in_part
from processing.eyecandies.files import RGB, Job, class_names, find_jobs
from utils.errors import UserError
from utils.parallel import run_parallel


def is_raw_eyecandies(root: Path) -> bool:
    """Whether a folder is laid out as the release."""
    return any(root.glob("*/train/data"))


def check(root: Path, names: Sequence[str] | None, workers: int) -> tuple[dict[str, dict[str, int]], list[Finding]]:
    """Samples of each split of each class, and what was found. Raises UserError for an unknown class."""
    there = class_names(root)
    check_classes(root, names or [], there)
    incomplete: list[str] = []
    jobs = find_jobs(root, root, incomplete)
    findings: list[Finding] = []
    lacking: list[str] = []  # the private test split has no labels and is never read
    counts = {name: _counts(root / name) for name in names or there}
    for name, found in counts.items():
        own = [text for text in incomplete if text.startswith(f"{root / name}/")]
        if own:
            findings.append(Finding(True, "unpaired", name, f"{len(own)} incomplete samples, the first: {own[0]}"))
        expected = {split: count for split, count in eyecandies.RAW_COUNTS.items() if split != "test_private"}
        parts = {split: (found[split], want) for split, want in expected.items() if found[split] < want}
        if parts and name in eyecandies.CLASSES and sum(b - a for a, b in parts.values()) > len(own):
            told = ", ".join(f"{split} {have} of {want}" for split, (have, want) in parts.items())
            lacking.append(f"{name} has {told}")
    if set(there) <= set(eyecandies.CLASSES) and (missing := sorted(set(eyecandies.CLASSES) - set(there))):
        lacking.append(f"without {', '.join(missing)}")
    if lacking:
        findings.append(in_part("Eyecandies", lacking))
    chosen = [job for job in jobs if job.folder.split("/")[0] in counts]
    faults: dict[tuple[str, str], list[tuple[str, str]]] = {}
    with closing(run_parallel(_fault, chosen, workers)) as finished:
        for job, kind, text in tqdm(finished, total=len(chosen), desc=root.name, unit="sample"):
            if kind:
                faults.setdefault((job.folder.split("/")[0], kind), []).append((f"{job.folder}/{job.index}", text))
    for (name, kind), found_here in sorted(faults.items()):
        samples = tuple(sorted(sample for sample, _ in found_here))
        findings.append(Finding(True, kind, name, found_here[0][1], samples))
    return counts, findings


def _counts(folder: Path) -> dict[str, int]:
    """Samples of each split, counted by their photographs."""
    return {
        split: sum(bool(re.fullmatch(rf"\d+_{RGB}", path.name)) for path in (folder / split / "data").glob(f"*_{RGB}"))
        for split in eyecandies.RAW_COUNTS
    }


def _fault(job: Job) -> tuple[Job, str, str]:
    """The job with kind and text of what is wrong with its images, both "" where nothing is."""
    try:
        sizes = {open_image(job.source(key)).size for key in job.images()}
        depth = open_image(job.source("depth.png"))
    except UserError as error:
        return job, "unreadable", str(error)
    if not depth.mode.startswith("I"):
        return job, "depth_type", f"expected 16-bit depth images, found mode {depth.mode}. Restore the release's files."
    if sizes | {depth.size} != {depth.size}:
        return job, "sizes", f"expected one size for all images of a sample, found {sorted(sizes | {depth.size})}."
    return job, "", ""
