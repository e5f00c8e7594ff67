"""What the MVTec 3D-AD release holds (Bergmann et al., VISAPP 2022)."""

from collections.abc import Mapping

# class: samples of train/good, validation/good, test/good and all defects of test together
RELEASED_COUNTS = {
    "bagel": (244, 22, 22, 88),
    "cable_gland": (223, 23, 21, 87),
    "carrot": (286, 29, 27, 132),
    "cookie": (210, 22, 28, 103),
    "dowel": (288, 34, 26, 104),
    "foam": (236, 27, 20, 80),
    "peach": (361, 42, 26, 106),
    "potato": (300, 33, 22, 92),
    "rope": (298, 33, 32, 69),
    "tire": (210, 29, 25, 87),
}


def missing_samples(found: Mapping[str, int]) -> dict[str, int]:
    """Samples that a copy of the release lacks, by class; empty for datasets with other class names.

    Args:
        found: number of samples of each class of the dataset, all splits together.
    """
    if not set(found) <= set(RELEASED_COUNTS):
        return {}
    missing = {name: sum(RELEASED_COUNTS[name]) - count for name, count in found.items()}
    return {name: count for name, count in missing.items() if count > 0}
