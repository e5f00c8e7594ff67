"""Local descriptors of one modality rebuilt from those of the other, cell by cell, with the error to be expected.

From some hundred good parts the masked network learns no more than a blur of what is hidden. What the shape of a place
says of its image, and its image of its shape, is learnt within a minute from as many. The error is measured in units of
the one that is usual for such a place: at rims, threads or glossy spots much is usual.

Sources: one modality from the other, CFM (Costanzino et al., CVPR 2024); mean and deviation from one network (Nix and
Weigend, ICNN 1994); inputs hidden at random (Srivastava et al., JMLR 2014).
"""

import torch
from torch import Tensor, nn

from models.dbmrnet.descriptors import WIDTH
from models.dbmrnet.inputs import Inputs
from models.dbmrnet.neighbours import take

HIDDEN = 0.4
"""Share of the other descriptor's numbers that is hidden in training."""

INNER = 256
CELLS_DRAWN = 128
"""Cells of each sample that a training step looks at."""

LIMIT = 8.0
"""Largest magnitude of a standardised number."""

LOG_SCALES = -4.0, 3.0
"""Bounds of the logarithm of the expected error."""

SHRINKAGE = 0.01
"""Added to the variances before whitening: directions that hardly vary count little."""


class LocalReconstruction(nn.Module):
    """Two small networks, each from the descriptors of one modality to those of the other.

    Attributes:
        mean, deviation: (2, W) buffers, of nominal descriptors of image and surface.
        whitening: (2, W, W) buffer, of what was standardised with them.
    """

    mean: Tensor
    deviation: Tensor
    whitening: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.heads = nn.ModuleList([_head(), _head()])  # of the image, of the surface
        self.register_buffer("mean", torch.zeros(2, WIDTH))
        self.register_buffer("deviation", torch.ones(2, WIDTH))
        self.register_buffer("whitening", torch.eye(WIDTH).repeat(2, 1, 1))

    @torch.no_grad()
    def fit(self, inputs: Inputs) -> None:
        """Take the statistics of the object's cells of nominal samples; without any they stay as they are."""
        if not inputs.covered.any():
            return
        for m in range(2):
            values = inputs.descriptors[:, m][inputs.covered].float()  # (P, W)
            self.mean[m], self.deviation[m] = values.mean(dim=0), values.std(dim=0, correction=0).clamp(min=1e-6)
            scaled = self._standardised(inputs.descriptors[:, m][inputs.covered], m).double()
            correlation = scaled.T @ scaled / len(scaled)
            shrunk = correlation + SHRINKAGE * torch.eye(WIDTH, dtype=torch.float64, device=scaled.device)
            self.whitening[m] = torch.linalg.cholesky(torch.linalg.inv(shrunk)).float()

    def loss(self, inputs: Inputs, generator: torch.Generator) -> Tensor:
        """Negative log-likelihood of whitened descriptors, a Gaussian each, without its constant; both ways added.

        Args:
            inputs: of the samples.
            generator: on the CPU; draws the cells and what is hidden.
        """
        covered = inputs.covered
        order = torch.rand(covered.shape, generator=generator).to(covered.device)
        cells = torch.where(covered, order, -1.0).topk(CELLS_DRAWN, dim=1).indices  # (B, n)
        weights = take(covered, cells).float()
        total = torch.zeros((), device=covered.device)
        for m in range(2):
            seen = self._standardised(take(inputs.descriptors[:, 1 - m], cells), 1 - m)  # (B, n, W)
            kept = torch.rand(seen.shape, generator=generator).to(seen.device) >= HIDDEN
            expected, log_scale = self._expect(seen * kept / (1 - HIDDEN), m)
            error = self._whitened(take(inputs.descriptors[:, m], cells), m) - expected
            likely = ((error * torch.exp(-log_scale)).square() / 2 + log_scale).mean(dim=2)
            total = total + (likely * weights).sum() / weights.sum().clamp(min=1)
        return total

    def errors(self, inputs: Inputs) -> Tensor:
        """Mean squared error of each cell's descriptor over the one to be expected: (B, 2, C, C), 0 beside the object;
        index 0 is the image, rebuilt from the surface, 1 the surface, rebuilt from the image."""
        found = []
        for m in range(2):
            expected, log_scale = self._expect(self._standardised(inputs.descriptors[:, 1 - m], 1 - m), m)
            error = self._whitened(inputs.descriptors[:, m], m) - expected
            found.append((error * torch.exp(-log_scale)).square().mean(dim=2))
        side = round(inputs.covered.shape[1] ** 0.5)
        return (torch.stack(found, dim=1) * inputs.covered[:, None]).unflatten(2, (side, side))

    def _standardised(self, descriptors: Tensor, m: int) -> Tensor:
        """(…, W) of modality m."""
        return ((descriptors.float() - self.mean[m]) / self.deviation[m]).clamp(-LIMIT, LIMIT)

    def _whitened(self, descriptors: Tensor, m: int) -> Tensor:
        """(…, W) of modality m: uncorrelated numbers of variance 1 over nominal cells."""
        return self._standardised(descriptors, m) @ self.whitening[m]

    def _expect(self, seen: Tensor, m: int) -> tuple[Tensor, Tensor]:
        """Expected whitened descriptors of modality m and logarithms of their errors, (…, W) each."""
        expected, log_scale = self.heads[m](seen).chunk(2, dim=-1)
        return expected, log_scale.clamp(*LOG_SCALES)


def _head() -> nn.Sequential:
    return nn.Sequential(
        nn.Linear(WIDTH, INNER), nn.GELU(), nn.Linear(INNER, INNER), nn.GELU(), nn.Linear(INNER, 2 * WIDTH)
    )
