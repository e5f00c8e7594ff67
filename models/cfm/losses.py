"""The training loss of Crossmodal Feature Mapping (CFM paper, section 3.2)."""

from torch import Tensor
from torch.nn import functional


def cosine_distances(mapped: Tensor, target: Tensor) -> Tensor:
    """1 − cosine similarity, row by row, in float32: (P, D) and (P, D) → (P,) in [0, 2]."""
    return 1 - functional.cosine_similarity(mapped.float(), target.float(), dim=1, eps=1e-6)
