"""Check one dataset in the layout of MVTec 3D-AD: measure every sample, then say what does not fit together."""

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import closing
from dataclasses import asdict, dataclass, field
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
from tqdm import tqdm

from datasets import eyecandies, mvtec3d
from datasets.records import SPLITS, SUFFIXES, Record, check_classes, class_names, scan
from processing.background.kept_parts import doubts
from processing.checks.alignment import MIN_SAMPLES, TURNS, Alignment, align
from processing.checks.findings import Finding, from_faults, in_part, incomplete
from processing.checks.sample_checks import Figures, measure, read_edges
from processing.manifest import MANIFEST, read_manifest
from utils.errors import UserError
from utils.parallel import run_parallel

RELEASES = {"MVTec 3D-AD": mvtec3d.RELEASED_COUNTS, "Eyecandies": eyecandies.RELEASED_COUNTS}
ALIGNED_SAMPLES = 12  # of a class, that are compared with their images
PARTS = ("train", "validation", "test/good", "test/defects")
DOCUMENTS = (".txt", ".md", ".json")  # licences and descriptions that releases put beside the splits of a class

_COMPARED = 10  # images of a part, fewer are not compared with the training images
_DRIFTED = 0.25  # share of a part's images whose exposure no training image has, above which it is told


@dataclass
class ClassCheck:
    """One class: its samples, the figures of the table, and how its clouds lie on the images.

    Attributes:
        figures: of every complete sample.
        unpaired: a message for each incomplete one.
        alignment: None where it was not judged; `alignment_note` says why.
    """

    name: str
    figures: list[Figures] = field(default_factory=list)
    unpaired: list[str] = field(default_factory=list)
    findings: list[Finding] = field(default_factory=list)
    alignment: Alignment | None = None
    alignment_note: str = ""

    def part(self, name: str) -> list[Figures]:
        """Complete samples of one of PARTS."""
        return [f for f in self.figures if _part(f.record) == name]

    @property
    def counts(self) -> tuple[int, int, int, int]:
        """Complete samples by PARTS."""
        train, validation, good, defects = (len(self.part(part)) for part in PARTS)
        return train, validation, good, defects

    @property
    def state(self) -> str:
        """ "raw", "preprocessed", "mixed", or "" where no sample could be judged."""
        states = {f.raw for f in self.figures if f.raw is not None}
        return {(): "", (True,): "raw", (False,): "preprocessed"}.get(tuple(states), "mixed")

    @property
    def families(self) -> list[str]:
        """How the preprocessed samples were made, as the stamps of their clouds say; "elsewhere" without a stamp."""
        made = {
            str(f.stamp["preprocessing"].get("family")) if f.stamp else "elsewhere"
            for f in self.figures
            if f.raw is False
        }
        return sorted(made)

    def exposures(self, part: str) -> list[float]:
        """Mean RGB on the measured points of each sample of one of PARTS."""
        return [f.exposure for f in self.part(part) if f.exposure is not None]

    def as_json(self) -> dict[str, Any]:
        found = [f for f in self.figures if f.depth is not None and f.extent is not None]
        return {
            "counts": dict(zip(PARTS, self.counts, strict=True)),
            "state": self.state,
            "families": self.families,
            "valid_share": {"median": median(f.valid_share or 0 for f in found), "lowest": _lowest(found)}
            if found
            else None,
            "exposure": {part: _spread(self.exposures(part)) for part in PARTS},
            "alignment": asdict(self.alignment) if self.alignment else None,
            "alignment_note": self.alignment_note,
        }


def check(root: Path, names: Sequence[str] | None, workers: int) -> tuple[list[ClassCheck], list[Finding]]:
    """Check classes of a dataset.

    Args:
        root: of the dataset.
        names: classes to check, None = all.
        workers: processes.

    Returns:
        The classes, and the findings that concern the whole dataset.

    Raises:
        UserError: no dataset, an unknown class, a broken manifest, or a worker died.
    """
    there = class_names(root)
    check_classes(root, names or [], there)
    manifest = read_manifest(root)
    camera_axes = manifest["family"] != "eyecandies" if manifest else not set(there) <= set(eyecandies.CLASSES)
    classes = {name: ClassCheck(name) for name in names or there}
    jobs = [(r, camera_axes) for c in classes.values() for r in _scan(root, c)]
    with closing(run_parallel(measure, jobs, workers)) as finished:
        for figures in tqdm(finished, total=len(jobs), desc=root.name, unit="sample"):
            classes[figures.record.class_name].figures.append(figures)
    for one in classes.values():
        one.figures.sort(key=lambda f: (SPLITS.index(f.record.split), not f.record.is_good, str(f.record)))
    with closing(run_parallel(_align, list(classes.values()), workers)) as aligned:
        for name, alignment, note in tqdm(aligned, total=len(classes), desc="alignment", unit="class"):
            classes[name].alignment, classes[name].alignment_note = alignment, note
    for one in classes.values():
        one.findings += _class_findings(root, one)
    whole = _count_findings(there, classes) + _history_findings(root, manifest, list(classes.values()), names is None)
    return list(classes.values()), whole


def _part(record: Record) -> str:
    """One of PARTS."""
    if record.split != "test":
        return record.split
    return "test/good" if record.is_good else "test/defects"


def _scan(root: Path, one: ClassCheck) -> list[Record]:
    """Records of a class; what keeps its files from being records goes into its findings."""
    records: list[Record] = []
    for split in SPLITS:
        if not (root / one.name / split).is_dir():
            if split == "train":
                one.findings.append(Finding(True, "structure", one.name, "no train/: nothing to learn from."))
            if split == "test":
                one.findings.append(Finding(False, "structure", one.name, "no test/: it cannot be evaluated."))
            continue
        try:
            records += scan(root, one.name, split, one.unpaired)
        except UserError as error:
            one.findings.append(Finding(True, "structure", one.name, str(error)))
    return records


def _align(one: ClassCheck) -> tuple[str, Alignment | None, str]:
    """The class's name, how its clouds lie on the images, and why that is not known."""
    spoilt = {"cloud_type", "cloud_wide", "cloud_size", "empty_cloud", "unreadable", "rgb_type", "cloud_shape"}
    fit = [f for f in one.figures if f.raw is not None and not spoilt & set(f.faults)]
    fit = [f for f in fit if "channels" not in f.faults.get("axes", "") and "order" not in f.faults.get("axes", "")]
    sizes = Counter(f.rgb_size for f in fit)
    fit = [f for f in fit if f.rgb_size == sizes.most_common(1)[0][0]]
    seen = [f for f in fit if not f.black]
    if fit and not seen:
        return one.name, None, "blackened images show the cloud's own outline"
    chosen = [seen[i] for i in np.unique(np.linspace(0, len(seen) - 1, min(len(seen), ALIGNED_SAMPLES)).astype(int))]
    if len(chosen) < MIN_SAMPLES:
        return one.name, None, f"{len(chosen)} usable samples, at least {MIN_SAMPLES} are needed"
    try:
        alignment = align([read_edges(f) for f in chosen])
    except UserError as error:
        return one.name, None, str(error)
    return one.name, alignment, alignment.reason


def _class_findings(root: Path, one: ClassCheck) -> list[Finding]:
    findings = []
    if one.unpaired:
        text = f"{len(one.unpaired)} incomplete samples, the first: {one.unpaired[0]}"
        findings.append(Finding(True, "unpaired", one.name, text))
    misaligned = one.alignment is not None and one.alignment.aligned is False
    turned = misaligned and one.alignment is not None and one.alignment.turn != TURNS[0]
    faults = [(str(f.record), kind, found) for f in one.figures for kind, found in f.faults.items()]
    findings += from_faults(one.name, [fault for fault in faults if not (turned and fault[1] == "axes")])
    if one.alignment is not None and misaligned:
        findings.append(Finding(True, "alignment", one.name, describe(one.alignment, one.figures)))
    if len(sizes := Counter(f.rgb_size for f in one.figures if f.rgb_size)) > 1:
        listed = ", ".join(f"{w}×{h} ({n})" for (w, h), n in sizes.most_common(5))
        findings.append(Finding(False, "sizes", one.name, f"images of several sizes: {listed}."))
    findings += doubts(one.name, {str(f.record): f.kept for f in one.figures if f.kept is not None})
    findings += _duplicates(one) + _exposure_findings(one)
    if foreign := _foreign(root / one.name):
        text = f"files that are no part of the layout and are not read: {len(foreign)}, the first: {foreign[0]}"
        findings.append(Finding(False, "foreign", one.name, text))
    return findings


def describe(alignment: Alignment, figures: Sequence[Figures]) -> str:
    """A misalignment in words, in pixels of the images."""
    side = max(next(f.rgb_size for f in figures if f.rgb_size is not None))
    ways = []
    if alignment.turn != TURNS[0]:
        ways.append(f"{alignment.turn}")
    if alignment.scale != (1.0, 1.0):
        ways.append(f"stretched about {alignment.scale[0]:.2f} times in x and {alignment.scale[1]:.2f} in y")
    right, down = (round(share * side) for share in alignment.shift)
    if max(abs(right), abs(down)) > 0.01 * side:
        ways.append(f"moved {abs(right)} px {'right' if right > 0 else 'left'} and {abs(down)} px "
                    f"{'down' if down > 0 else 'up'}")  # fmt: skip
    return (
        f"expected clouds that lie on their images; edges fit {alignment.best:.2f} instead of {alignment.identity:.2f} "
        f"(correlation, {alignment.samples} samples) when the cloud is {', '.join(ways)}. Align depth to colour in the "
        "camera's software, and crop or resize both alike."
    )


def _duplicates(one: ClassCheck) -> list[Finding]:
    by_hash: dict[str, list[Figures]] = {}
    for f in one.figures:
        if f.rgb_hash is not None:
            by_hash.setdefault(f.rgb_hash, []).append(f)
    leaks: list[str] = []
    twins: list[str] = []
    for group in by_hash.values():
        if len(group) > 1:
            tested = [f for f in group if f.record.split == "test"]
            leaked = 0 < len(tested) < len(group)
            names = f"{group[0].record} = {tested[0].record if leaked else group[1].record}"
            (leaks if leaked else twins).append(names)
    findings = []
    if leaks:
        text = "the same image in training and test: results would be too good. Remove one of each."
        findings.append(Finding(True, "leak", one.name, text, tuple(leaks)))
    if twins:
        findings.append(Finding(False, "duplicates", one.name, "the same image twice.", tuple(twins)))
    return findings


def _exposure_findings(one: ClassCheck) -> list[Finding]:
    """Parts of a class that are brighter or darker than all of its training images. Raw scans show their background."""
    trained = one.exposures("train")
    if one.state != "preprocessed" or len(trained) < _COMPARED:
        return []
    low, high = min(trained), max(trained)
    told, samples = [], []
    for part in PARTS[1:]:
        outside = [f for f in one.part(part) if f.exposure is not None and not low <= f.exposure <= high]
        count = len(one.exposures(part))
        if count >= _COMPARED and len(outside) > _DRIFTED * count:
            told.append(f"{part} {median(one.exposures(part)):.0f}, {len(outside)} of {count} outside that range")
            samples += [str(f.record) for f in outside]
    if not told:
        return []
    text = (
        f"images of another exposure than those of train (mean RGB on the object {median(trained):.0f}, {low:.0f} to "
        f"{high:.0f}): {'; '.join(told)}. A method may take that for an anomaly, or be led by it."
    )
    return [Finding(False, "exposure", one.name, text, tuple(samples))]


def _foreign(folder: Path) -> list[str]:
    """Visible files of a class folder that are neither samples nor its calibration or DOCUMENTS."""
    found = []
    for path in sorted(folder.rglob("*")):
        parts = path.relative_to(folder).parts
        if path.is_dir() or any(part.startswith(".") for part in parts) or parts[0] == "calibration":
            continue
        if len(parts) == 1 and path.suffix.lower() in DOCUMENTS:
            continue
        known = len(parts) == 4 and parts[0] in SPLITS and parts[2] in SUFFIXES
        if not known or path.suffix.lower() not in SUFFIXES[parts[2]]:
            found.append("/".join((folder.name, *parts)))
    return found


def _count_findings(there: Sequence[str], classes: Mapping[str, ClassCheck]) -> list[Finding]:
    """Too few or too many samples, and missing classes, of a dataset whose classes are all of one release."""
    findings = []
    for release, published in RELEASES.items():
        if not set(there) <= set(published):
            continue
        lacking = []
        for name, one in classes.items():
            expected, found = published[name], one.counts
            parts = list(zip(PARTS, found, expected, strict=True))
            told = ", ".join(f"{part} {have} of {want}" for part, have, want in parts if have != want)
            if sum(max(0, want - have) for _, have, want in parts) > len(one.unpaired):
                lacking.append(f"{name} has {told}")
            elif sum(found) > sum(expected):
                findings.append(Finding(False, "counts", name, f"more samples than {release} has ({told})."))
        if missing := sorted(set(published) - set(there)):
            lacking.append(f"without {', '.join(missing)}")
        if lacking:
            findings.append(in_part(release, lacking))
    return findings


def _history_findings(
    root: Path, manifest: dict[str, Any] | None, classes: list[ClassCheck], whole: bool
) -> list[Finding]:
    """Whether all samples were preprocessed in one way. `whole`: all classes of the dataset were checked."""
    figures = [f for one in classes for f in one.figures if f.raw is not None]
    if manifest is not None and not manifest["complete"]:
        return [incomplete(str(root))]
    raw = [str(f.record) for f in figures if f.raw]
    if raw and len(raw) < len(figures):
        text = f"{len(raw)} raw samples among {len(figures)}, with their background. Preprocess all of them."
        return [Finding(True, "mixed", "", text, tuple(raw))]
    if raw or not figures:
        return []
    made = {str(f.record): _way(f) for f in figures}
    ways = Counter(made.values())
    findings = []
    if len(ways) > 1:
        usual = ways.most_common(1)[0][0]
        others = tuple(name for name, way in made.items() if way != usual)
        text = f"clouds preprocessed in {len(ways)} ways (settings in their files differ). Preprocess all in one way."
        findings.append(Finding(True, "mixed", "", text, others))
    elif manifest is None:
        text = f"preprocessed elsewhere: no {MANIFEST}. Compare its settings with those of published results."
        findings.append(Finding(False, "elsewhere", "", text))
    elif whole and (gone := _gone(root, manifest["files"])):
        text = f"{len(gone)} samples that {MANIFEST} lists are gone. Restore them, or preprocess again."
        findings.append(Finding(True, "gone", "", text, tuple(gone)))
    black = [str(f.record) for f in figures if f.black]
    if 0 < len(black) < sum(f.black is not None for f in figures):
        text = "some images are black outside the object, others are not. Preprocess all of them in one family."
        findings.append(Finding(True, "family", "", text, tuple(black)))
    return findings


def _way(figures: Figures) -> str:
    """How a sample was preprocessed, as its stamp says; without its camera, which may differ from image to image."""
    done = dict(figures.stamp["preprocessing"]) if figures.stamp else {}
    if isinstance(settings := done.get("settings"), dict):
        done["settings"] = {name: value for name, value in settings.items() if name != "camera"}
    return json.dumps(done, sort_keys=True)


def _gone(root: Path, files: Mapping[str, Any]) -> list[str]:
    """Samples of the manifest of which neither cloud nor image is there."""
    gone = []
    for name in map(str, files):
        cloud = root / name
        if cloud.exists():
            continue
        images = cloud.parents[1] / "rgb"
        if not images.is_dir() or cloud.stem not in {path.stem for path in images.iterdir()}:
            gone.append(name)
    return gone


def _spread(values: Sequence[float]) -> dict[str, float] | None:
    if not values:
        return None
    return {"median": median(values), "lowest": min(values), "highest": max(values)}


def _lowest(figures: Sequence[Figures]) -> list[Any]:
    lowest = min(figures, key=lambda f: f.valid_share or 0)
    return [str(lowest.record), lowest.valid_share]
