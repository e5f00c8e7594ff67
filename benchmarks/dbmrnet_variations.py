"""DBMRNet's choices, one changed at a time, and which networks that takes."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from models.dbmrnet.settings import ModelSettings

METRICS = {
    "i_auroc": "I-AUROC",
    "i_auroc_dent_3d": "I-AUROC of dents, A_3D",
    "i_auroc_stain_2d": "I-AUROC of stains, A_2D",
    "p_auroc": "P-AUROC",
    "aupro_0.3": "AUPRO@30%",
}
"""Figures of a row, with their headings."""


@dataclass(frozen=True)
class Variation:
    """What differs from BASE and the defaults.

    model: fields of ModelSettings; a network with others is trained anew.
    score, fusion, checkpoint: options of `dbmrnet_inference.py`.
    to_points: the 3D residual is the distance to the nearest rebuilt point, not to its plane.
    """

    model: Mapping[str, Any] = field(default_factory=dict)
    score: str = "residual"
    fusion: str = "product"
    checkpoint: str = "last"
    to_points: bool = False


BASE: Mapping[str, Any] = {"sampler": "random"}
"""Fields of ModelSettings that all rows share unless they name them. The sampler and the fusion that did best among
these rows became the defaults afterwards."""

VARIATIONS = {
    "base": Variation(),
    "masked_centres=xyz": Variation({"masked_centres": "xyz"}),
    "view=frame": Variation({"view": "frame"}),
    "mask_ratio=0.5,passes=2": Variation({"mask_ratio": 0.5, "passes": 2}),
    "mask_ratio=0.25": Variation({"mask_ratio": 0.25}),
    "cross_loss=splat": Variation({"cross_loss": "splat"}),
    "cross_loss=rgb": Variation({"cross_loss": "rgb"}),
    "cross_weight=0": Variation({"cross_weight": 0.0}),
    "alignment_radius=-1": Variation({"alignment_radius": -1.0}),
    "sampler=fps": Variation({"sampler": "fps"}),
    "sampler=geometry": Variation({"sampler": "geometry"}),
    "score=local": Variation(score="local"),
    "score=feature": Variation(score="feature"),
    "score=both": Variation(score="both"),
    "fusion=sum": Variation(fusion="sum"),
    "fusion=max": Variation(fusion="max"),
    "fusion=2d": Variation(fusion="2d"),
    "fusion=3d": Variation(fusion="3d"),
    "checkpoint=best": Variation(checkpoint="best"),
    "residual=points": Variation(to_points=True),
}


@dataclass(frozen=True)
class Plan:
    """What all rows share: the preset, the scenes (classes; training, validation and test images as in
    `processing/make_scenes.py`) and the length of a training."""

    preset: str = "small"
    classes: tuple[str, ...] = ("biscuit", "cap", "gear")
    train: int = 100
    validation: int = 10
    test: int = 6
    epochs: int = 50
    batch_size: int = 8

    def scene_options(self) -> list[str]:
        """Words for `make_scenes`."""
        counts = {"--train": self.train, "--validation": self.validation, "--test": self.test, "--seed": 0}
        return ["--classes", *self.classes, *(str(word) for option in counts.items() for word in option)]


@dataclass(frozen=True)
class Training:
    """One network to train on one class, and the names of the variations that are evaluated with it."""

    class_name: str
    seed: int
    model: ModelSettings
    names: tuple[str, ...]


def trainings(
    plan: Plan, names: Iterable[str], seeds: Iterable[int], done: set[tuple[str, str, int]]
) -> list[Training]:
    """The networks to train, class by class; each serves all variations of its settings.

    Args:
        names: keys of VARIATIONS.
        done: (variation, class, seed) of rows that are there already.
    """
    groups: dict[tuple[str, int, ModelSettings], list[str]] = {}
    for class_name in plan.classes:
        for seed in seeds:
            for name in names:
                if (name, class_name, seed) not in done:
                    model = ModelSettings(plan.preset, **{**BASE, **VARIATIONS[name].model})
                    groups.setdefault((class_name, seed, model), []).append(name)
    return [Training(*key, tuple(found)) for key, found in groups.items()]
