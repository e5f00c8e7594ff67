"""What is chosen of M3DM. Imported for a command line's help: nothing heavy here."""

from collections.abc import Mapping
from dataclasses import dataclass

BANKS: Mapping[str, tuple[str, ...]] = {"both": ("rgb", "xyz", "fusion"), "rgb": ("rgb",), "xyz": ("xyz",)}
"""Modalities → the banks that there are of them."""
DECISIONS = ("zscore", "svm")


@dataclass(frozen=True)
class M3DMSettings:
    """What decides the banks and what is made of them, besides the extractor, the samples and the seed.

    modalities: a key of BANKS.
    fraction: of the nominal rows that each bank keeps, in (0, 1].
    uff: whether rows of the fusion bank come from the trained network; otherwise both modalities' stand side by side.
    decision: one of DECISIONS, see `decision`.
    as_released: with two faults of the release, see `banks`.
    """

    modalities: str = "both"
    fraction: float = 0.1
    uff: bool = False
    decision: str = DECISIONS[0]
    as_released: bool = False

    @property
    def banks(self) -> tuple[str, ...]:
        """Names of the banks."""
        return BANKS[self.modalities]
