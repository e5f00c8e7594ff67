"""What is chosen of BTF. Imported for a command line's help: nothing heavy here."""

from dataclasses import dataclass

FEATURES = ("btf", "rgb", "depth", "raw", "hog", "sift", "fpfh")
"""Published as BTF, RGB iNet, Depth iNet, Raw, HoG, SIFT and FPFH."""
WITH_NETWORK = ("btf", "rgb", "depth")
PAPER_BACKBONE = "wide_resnet50_2"


@dataclass(frozen=True)
class BTFSettings:
    """What decides the bank, besides the samples and the seed.

    features: one of FEATURES.
    backbone: see `load_backbone`, and weights_sha256 of its weights; None without a network.
    fraction: of the nominal rows that the bank keeps, in (0, 1].
    """

    features: str = "btf"
    backbone: str | None = None
    weights_sha256: str | None = None
    fraction: float = 0.1
