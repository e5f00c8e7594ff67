"""Hidden local descriptors rebuilt, cell by cell, with the error to be expected.

A cell's descriptor of one modality is hidden, and rebuilt from that of the other at the same place and from those of
its own around it, beyond what the finer half of its scales looks at. From some hundred good parts the masked network
learns no more than a blur of hidden pixels; descriptors are learnt within a minute from as many. The error is measured
in units of the one that is usual for such a place: at rims, threads or glossy spots much is usual.

Two thirds of the cells around are hidden too, for some cells all. At inference each third is seen in a pass of its own,
and in one pass nothing: a defect among the cells seen spoils the expectation of good ones around it.

Sources: descriptors as what is to be rebuilt, MaskFeat (Wei et al., CVPR 2022); one modality from the other, CFM
(Costanzino et al., CVPR 2024); mean and deviation from one network (Nix and Weigend, ICNN 1994); inputs hidden at
random (Srivastava et al., JMLR 2014).
"""

import math

import torch
from torch import Tensor, nn
from torch.nn import functional

from models.dbmrnet.descriptors import CELLS, WIDTH
from models.dbmrnet.inputs import Inputs
from models.dbmrnet.masking import disjoint_masks
from models.dbmrnet.neighbours import take

HIDDEN = 0.4
"""Share of the other descriptor's numbers that is hidden in training."""

RINGS = 4.0, 8.0, 12.0
"""Distances in cells of the cells around; eight on each ring, and each ring is turned by half a step."""

SUMMARY = 32
"""Numbers of a cell around: the principal components of its descriptor."""

PASSES = 3
"""Disjoint parts of the cells around, each seen by itself; in training one of as many is seen at random."""

ALONE = 0.25
"""Share of the cells drawn that see nothing around."""

INNER = 256
CELLS_DRAWN = 128
"""Cells of each sample that a training step looks at."""

LIMIT = 8.0
"""Largest magnitude of a standardised number."""

LOG_SCALES = -4.0, 3.0
"""Bounds of the logarithm of the expected error."""

SHRINKAGE = 0.01
"""Added to the variances before whitening: directions that hardly vary count little."""

AROUND = tuple(
    (round(radius * math.sin(angle)), round(radius * math.cos(angle)))
    for ring, radius in enumerate(RINGS)
    for angle in ((step + ring / 2) * math.pi / 4 for step in range(8))
)
"""Where the A cells around are: cells down and to the right."""


class LocalReconstruction(nn.Module):
    """Two small networks, one for the descriptors of each modality.

    Attributes:
        mean, deviation: (2, W) buffers, of nominal descriptors of image and surface.
        whitening: (2, W, W) buffer, of what was standardised with them.
        components: (2, W, SUMMARY) buffer, from the same to principal components of variance 1.
    """

    mean: Tensor
    deviation: Tensor
    whitening: Tensor
    components: Tensor
    moves: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.heads = nn.ModuleList([_head(), _head()])  # of the image, of the surface
        self.register_buffer("mean", torch.zeros(2, WIDTH))
        self.register_buffer("deviation", torch.ones(2, WIDTH))
        self.register_buffer("whitening", torch.eye(WIDTH).repeat(2, 1, 1))
        self.register_buffer("moves", torch.tensor(AROUND), persistent=False)
        self.register_buffer("components", torch.eye(WIDTH)[:, :SUMMARY].repeat(2, 1, 1))

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
            variances, directions = torch.linalg.eigh(shrunk)  # ascending
            self.components[m] = (directions / variances.sqrt())[:, -SUMMARY:].float()

    def loss(self, inputs: Inputs, generator: torch.Generator) -> Tensor:
        """Negative log-likelihood of whitened descriptors, a Gaussian each, without its constant; both are added.

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
            kept = torch.rand(*cells.shape, WIDTH, generator=generator).to(covered.device) >= HIDDEN
            seen = torch.rand(*cells.shape, len(AROUND), generator=generator).to(covered.device) < 1 / PASSES
            seen &= torch.rand(*cells.shape, 1, generator=generator).to(covered.device) >= ALONE
            other = self._standardised(take(inputs.descriptors[:, 1 - m], cells), 1 - m) * kept / (1 - HIDDEN)
            expected, log_scale = self._expect(other, *self._around(inputs, cells, m), seen, m)
            error = self._whitened(take(inputs.descriptors[:, m], cells), m) - expected
            likely = ((error * torch.exp(-log_scale)).square() / 2 + log_scale).mean(dim=2)
            total = total + (likely * weights).sum() / weights.sum().clamp(min=1)
        return total

    def errors(self, inputs: Inputs) -> Tensor:
        """Mean squared error of each cell's descriptor over the expected one, over the median of the sample's cells.

        It is the mean of the passes that see something around and of the one that does not. The median, since scans
        differ in noise and sharpness as a whole.

        Returns:
            (B, 2, C, C), 0 beside the object; index 0 is the image, 1 the surface.
        """
        found = torch.zeros(len(inputs), 2, CELLS * CELLS, device=inputs.covered.device)
        for i in range(len(inputs)):
            cells = inputs.covered[i].nonzero().T  # (1, n): a half of all or fewer
            if not cells.shape[1]:
                continue
            one = inputs.select(torch.tensor([i], device=cells.device))
            for m in range(2):
                errors = self._cell_errors(one, cells, m)[0]
                found[i, m, cells[0]] = errors / errors.median().clamp(min=1e-6)
        return found.unflatten(2, (CELLS, CELLS))

    def _cell_errors(self, inputs: Inputs, cells: Tensor, m: int) -> Tensor:
        """Of modality m at cells (B, n): (B, n)."""
        other = self._standardised(take(inputs.descriptors[:, 1 - m], cells), 1 - m)
        true = self._whitened(take(inputs.descriptors[:, m], cells), m)
        around = self._around(inputs, cells, m)
        parts = disjoint_masks(len(AROUND), PASSES, 1, torch.Generator().manual_seed(0)).kept.to(cells.device)
        total = torch.zeros(cells.shape, device=cells.device)
        for part in (parts[0, :0], *parts):
            expected, log_scale = self._expect(other, *around, None, m, part)
            weight = 1 / PASSES if len(part) else 1
            total += ((true - expected) * torch.exp(-log_scale)).square().mean(dim=2) * weight
        return total / 2

    def _around(self, inputs: Inputs, cells: Tensor, m: int) -> tuple[Tensor, Tensor]:
        """Around cells (B, n): summaries (B, n, A, SUMMARY), and which of them are on the object, (B, n, A) bool."""
        places = torch.stack([cells // CELLS, cells % CELLS], dim=-1)[:, :, None] + self.moves  # (B, n, A, 2)
        inside = ((places >= 0) & (places < CELLS)).all(dim=-1)
        places = places.clamp(0, CELLS - 1)
        places = places[..., 0] * CELLS + places[..., 1]
        matrix = self.components[m] / self.deviation[m][:, None]
        summaries = (inputs.descriptors[:, m].float() - self.mean[m]) @ matrix  # of all cells, (B, C·C, SUMMARY)
        return take(summaries.clamp(-LIMIT, LIMIT), places), take(inputs.covered, places) & inside

    def _standardised(self, descriptors: Tensor, m: int) -> Tensor:
        """(…, W) of modality m."""
        return ((descriptors.float() - self.mean[m]) / self.deviation[m]).clamp(-LIMIT, LIMIT)

    def _whitened(self, descriptors: Tensor, m: int) -> Tensor:
        """(…, W) of modality m: uncorrelated numbers of variance 1 over nominal cells."""
        return self._standardised(descriptors, m) @ self.whitening[m]

    def _expect(
        self, other: Tensor, around: Tensor, known: Tensor, seen: Tensor | None, m: int, part: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """Expected whitened descriptors of modality m and logarithms of their errors, (…, W) each.

        Args:
            other: (…, W) standardised descriptors of the other modality at the cells.
            around, known: see `_around`.
            seen: bool as `known`, None where all are; what is not seen around is 0.
            part: indices of cells around; the others are not seen, and not computed with.
        """
        layers: list[nn.Module] = [*self.heads[m].children()]
        first = layers[0]
        assert isinstance(first, nn.Linear)
        weight: Tensor = first.weight
        if part is not None:
            around, known = around[..., part, :], known[..., part]
            summaries, flags = weight[:, WIDTH : -len(AROUND)].unflatten(1, (-1, SUMMARY)), weight[:, -len(AROUND) :]
            weight = torch.cat([weight[:, :WIDTH], summaries[:, part].flatten(1), flags[:, part]], dim=1)
        given = known if seen is None else known & seen
        x = torch.cat([other, around.masked_fill(~given[..., None], 0).flatten(-2), given.float()], dim=-1)
        x = functional.linear(x, weight, first.bias)
        for layer in layers[1:]:
            x = layer(x)
        expected, log_scale = x.chunk(2, dim=-1)
        return expected, log_scale.clamp(*LOG_SCALES)


def _head() -> nn.Sequential:
    width = WIDTH + len(AROUND) * (SUMMARY + 1)
    return nn.Sequential(
        nn.Linear(width, INNER), nn.GELU(), nn.Linear(INNER, INNER), nn.GELU(), nn.Linear(INNER, 2 * WIDTH)
    )
