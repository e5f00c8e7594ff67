"""The decision over the banks: a weighted sum of their image scores, and one of their maps.

The release fits two linear one-class support vector machines to nominal vectors x of (score of each bank), one to
images and one to cells (Wang et al., CVPR 2023, section 3.4), and scores by w·x. So six numbers are all of it. Its w
is larger for a bank whose nominal scores are larger. `zscore` measures each bank in deviations of its nominal scores
instead; subtracting their means too would add the same to every image, so that is left out and maps stay ≥ 0.

Both look at scores of the images that the banks were made of, which lie nearer to them than others do.
"""

import torch
from torch import Tensor

NU, MAX_EPOCHS, SEED = 0.5, 1000, 42  # of the release's machines
SCALES = {"rgb": 0.1, "xyz": 1.0, "fusion": 1.0}
"""The release's factors of the banks' scores before its machines see them."""


def weigh(scores: Tensor, banks: tuple[str, ...], decision: str) -> Tensor:
    """Weights of the banks' scores.

    Args:
        scores: (n, B) ≥ 0 of nominal images or cells.
        banks: their names.
        decision: `zscore` or `svm`; with one bank there is nothing to weigh.

    Returns:
        (B,) float32 ≥ 0.
    """
    if len(banks) == 1:
        return torch.ones(1)
    if decision == "zscore":
        deviation = scores.double().std(dim=0, unbiased=False)
        return (1 / deviation.clamp(min=1e-6 * float(scores.max().clamp(min=1)))).float()
    scales = torch.tensor([SCALES[bank] for bank in banks])
    return svm_direction(scores * scales) * scales


def svm_direction(vectors: Tensor) -> Tensor:
    """The w of a linear one-class support vector machine, fitted by stochastic gradient descent as in the release.

    It minimises ½‖w‖² − ρ + mean(max(0, ρ − w·x))/ν over w and ρ (Schölkopf et al., 2001).

    Args:
        vectors: (n, B).

    Returns:
        (B,) float32; values below 0, which large scores could only have by chance, are 0.
    """
    from sklearn.linear_model import SGDOneClassSVM

    machine = SGDOneClassSVM(nu=NU, max_iter=MAX_EPOCHS, random_state=SEED).fit(vectors.double().numpy())
    return torch.from_numpy(machine.coef_.ravel()).float().clamp(min=0)
