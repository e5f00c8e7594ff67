"""What a check can find, in words: each once for a class, with the number of samples and the first few names."""

from collections.abc import Iterable
from dataclasses import asdict, dataclass
from typing import Any

from processing.manifest import MANIFEST

_SHOWN = 3


@dataclass(frozen=True)
class Finding:
    """One line of the report.

    Attributes:
        problem: False for a note, which does not change the exit status.
        kind: a word that names what was found, for programs.
        class_name: "" for the whole dataset.
        text: expected, found, what to do.
        samples: names of the samples concerned.
    """

    problem: bool
    kind: str
    class_name: str
    text: str
    samples: tuple[str, ...] = ()

    def __str__(self) -> str:
        count = len(self.samples)
        names = ", ".join(self.samples[:_SHOWN]) + (", …" if count > _SHOWN else "")
        where = f" [{count} sample{'s' * (count > 1)}: {names}]" if count else ""
        return f"{self.class_name or 'dataset'}: {self.text}{where}"

    def as_json(self) -> dict[str, Any]:
        return asdict(self)


# kind of a sample's fault: whether it is a problem, what was expected, what to do
KINDS = {
    "unreadable": (True, "files that can be read", ""),
    "rgb_type": (True, "8-bit colour images", "Convert them to 8-bit RGB."),
    "rgb_mode": (False, "8-bit RGB images", "They are converted when they are read."),
    "cloud_shape": (True, "organised clouds of shape (height, width, 3)", "Write x, y, z as the three channels."),
    "cloud_type": (True, "float32 clouds in metres", "Convert them to float32 metres."),
    "cloud_wide": (False, "float32 clouds", "They are rounded when they are read."),
    "not_finite": (True, "finite coordinates", "Write invalid points as (0, 0, 0)."),
    "cloud_size": (True, "clouds of the RGB's size or zero-padded to a square", "Record or convert them again."),
    "empty_cloud": (True, "clouds with measured points", "Preprocess them again or remove the samples."),
    "few_points": (False, "objects of some size", "Look at them."),
    "repeated": (
        False,
        "each point measured once",
        "Clouds enlarged by repeating pixels show steps that the part does not have; bring the RGB to their size.",
    ),
    "unit": (True, "coordinates in metres", "Multiply the clouds by that factor, or convert with the right unit."),
    "axes": (
        True,
        "x to the right, y downwards, z the distance along the optical axis",
        "Write the clouds again with their axes in that order and direction.",
    ),
    "no_mask": (False, "masks of the defects", "Without any in a class, only figures of its images are computed."),
    "mask_mode": (False, "8-bit grey masks", "Anomalous is what is above 0."),
    "mask_size": (True, "masks of their RGB's size", "Write the masks again at that size."),
    "mask_in_good": (True, "empty masks in good/", "Move the samples to a defect folder or clear their masks."),
    "mask_large": (False, "masks above 0 on the defect only", "Look at them; they may be inverted."),
    "mask_empty": (
        True,
        "anomalous pixels in the masks of a defect folder",
        "Draw them, or move the samples to good/: pixel metrics would take the defect for normal.",
    ),
}


def from_faults(class_name: str, faults: Iterable[tuple[str, str, str]]) -> list[Finding]:
    """Findings of a class, by kind, from (sample, kind, what was found)."""
    by_kind: dict[str, list[tuple[str, str]]] = {}
    for sample, kind, found in faults:
        by_kind.setdefault(kind, []).append((sample, found))
    findings = []
    for kind, (problem, expected, advice) in KINDS.items():
        if kind in by_kind:
            samples, found_texts = zip(*by_kind[kind], strict=True)
            text = f"expected {expected}; found: {found_texts[0].rstrip('.')}. {advice}".rstrip()
            findings.append(Finding(problem, kind, class_name, text, samples))
    return findings


def incomplete(root: str) -> Finding:
    """A manifest that says that its run was not finished."""
    text = f"{root}/{MANIFEST} says that preprocessing was not finished. Run the same command again; it continues."
    return Finding(True, "incomplete", "", text)


def in_part(release: str, lacking: Iterable[str]) -> Finding:
    """A dataset that holds less than its release; whether that is meant is not known. lacking: what, in words."""
    text = (
        f"a part of {release}: {'; '.join(lacking)}. Where it should be whole, complete the download; figures of a "
        "part do not compare with published ones."
    )
    return Finding(False, "subset", "", text)
