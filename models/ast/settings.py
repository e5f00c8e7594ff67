"""What is chosen of AST. Imported for a command line's help: nothing heavy here."""

from dataclasses import dataclass

MODES = ("both", "rgb", "depth")
BACKBONE, PAPER_BACKBONE = "efficientnet_lite0", "tf_efficientnet_b5.aa_in1k"


@dataclass(frozen=True)
class ASTSettings:
    """What decides the networks, besides the samples, the seed and how long they are trained.

    mode: one of MODES, what is looked at.
    width: channels of the student; the paper's is 1024.
    backbone: see `load_backbone`, and weights_sha256 of its weights; None where only depth is looked at.
    """

    mode: str = "both"
    width: int = 1024
    backbone: str | None = None
    weights_sha256: str | None = None
