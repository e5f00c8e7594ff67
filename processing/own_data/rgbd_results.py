"""What is said of converted samples: the size of the parts, and doubts about what was kept of the frames."""

from collections.abc import Mapping, Sequence

import numpy as np

from datasets.frames import valid_points
from datasets.readers import read_xyz
from processing.background.kept_parts import Kept, doubts, measure_kept
from processing.checks.findings import Finding
from processing.own_data.rgbd_depth import extent
from processing.own_data.rgbd_jobs import Job


def kept_doubts(jobs: Sequence[Job], listed: Mapping[str, float | None]) -> list[Finding]:
    """Notes on samples that may hold another thing than the part, where points decided what to cut away.

    Args:
        jobs: of a call.
        listed: share of valid points by name, None = not finished (`bulk.Done`).
    """
    kept: dict[str, dict[str, Kept]] = {}
    for job in jobs:
        if job.done.background in ("plane", "depth-range") and listed.get(job.name) is not None:
            valid = valid_points(read_xyz(job.target / job.name))
            of_class = kept.setdefault(job.folder.split("/")[0], {})
            of_class[f"{job.folder}/{job.stem}"] = measure_kept(valid, job.folder.endswith("/good"))
    return [finding for name, samples in kept.items() for finding in doubts(name, samples)]


def extents(jobs: Sequence[Job]) -> str:
    """The size of the parts in words, from 20 samples at most; a wrong unit shows in it."""
    chosen = jobs[:: -(-len(jobs) // 20)]
    sizes = np.array([extent(read_xyz(job.target / job.name)) for job in chosen]) * 100
    width, height, depth = np.median(sizes, axis=0)
    return (
        f"Size of what is left: {width:.3g} × {height:.3g} × {depth:.3g} cm (width × height × depth, median of "
        f"{len(chosen)} samples). If the part has another size, --unit or the camera is wrong."
    )
