"""DBMRNet as a detector: reconstruct a sample without its defects, and map where it differs."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

from models.dbmrnet import scoring
from models.dbmrnet.inputs import Inputs, prepare
from models.dbmrnet.masking import disjoint_masks
from models.dbmrnet.neighbours import CANDIDATES, nearest_in_plane
from models.dbmrnet.network import MaskedReconstruction, Reconstruction, unpatchify
from models.dbmrnet.part_map import PartMap, make_part_map
from models.dbmrnet.scoring import Discrepancies
from models.dbmrnet.settings import ModelSettings
from models.token_store import GridSample
from utils.devices import autocast


@dataclass(frozen=True)
class Rebuilt:
    """Reconstruction of B samples, averaged over the passes. image: (B, 3, S, S). points: (B, P, 3), normalised."""

    image: Tensor
    points: Tensor


class DBMRNetDetector(nn.Module):
    """A network with the scales of its maps.

    Attributes:
        local_means, feature_means, residual_means: (2,) buffers μ for 2D and 3D: mean over the foreground of nominal
            samples.
    """

    local_means: Tensor
    feature_means: Tensor
    residual_means: Tensor

    def __init__(self, settings: ModelSettings, precision: str, seed: int) -> None:
        """precision: type of the matrix products, `fp32` or `bf16`. seed: of weights, sampling and inference masks."""
        super().__init__()
        self.settings, self.precision, self.seed = settings, precision, seed
        self.network = MaskedReconstruction(settings, seed)
        self.register_buffer("local_means", torch.ones(2))
        self.register_buffer("feature_means", torch.ones(2))
        self.register_buffer("residual_means", torch.ones(2))

    @property
    def device(self) -> torch.device:
        return self.feature_means.device

    def prepare(self, samples: Sequence[GridSample]) -> Inputs:
        """Inputs of samples on the detector's device; they depend on the settings and the seed, not on the weights."""
        return prepare(samples, self.settings, self.seed, self.device)

    def autocast(self) -> torch.autocast:
        return autocast(self.device, self.precision)

    def fit_means(self, inputs: Inputs, batch_size: int) -> None:
        """Set the scales of the six maps: their means over all valid pixels of nominal samples, each at least 1e-6."""
        totals = torch.zeros(3, 2, dtype=torch.float64, device=self.device)
        for batch in torch.arange(len(inputs), device=self.device).split(batch_size):
            chosen = inputs.select(batch)
            rebuilt = self.reconstruct(chosen)
            local, both = (self.discrepancies(chosen, rebuilt, score) for score in ("local", "both"))
            for i, maps in enumerate((local.local, both.features, both.residuals)):
                totals[i] += torch.stack([m.double().sum() for m in maps or ()])
        means = (totals / inputs.valid.sum().clamp(min=1)).clamp(min=1e-6)
        for scale, mean in zip((self.local_means, self.feature_means, self.residual_means), means, strict=True):
            scale.copy_(mean)

    def maps(self, found: Discrepancies, fusion: str) -> list[PartMap]:
        """The map of each sample: of both modalities the sum of the maps found, each over its μ, fused and smoothed
        (`make_part_map`).

        Args:
            found: of B samples.
            fusion: `max`, `product`, `sum`, `2d` or `3d`.
        """
        scaled = [
            [m / mean for m, mean in zip(maps, means, strict=True)]
            for maps, means in (
                (found.local, self.local_means),
                (found.features, self.feature_means),
                (found.residuals, self.residual_means),
            )
            if maps is not None
        ]
        psi_2d, psi_3d = (torch.stack(maps).sum(dim=0) for maps in zip(*scaled, strict=True))
        return [make_part_map(a, b, fusion, valid) for a, b, valid in zip(psi_2d, psi_3d, found.valid, strict=True)]

    @torch.no_grad()
    def reconstruct(self, inputs: Inputs) -> Rebuilt:
        """Rebuild samples in K passes with different tokens visible; each token is the mean of those that hid it."""
        settings, sizes = self.settings, self.settings.sizes
        generator = torch.Generator().manual_seed(self.seed)
        counts = sizes.centres[2], sizes.image_grid**2
        parts = settings.passes, settings.visible_parts
        masks = [disjoint_masks(n, *parts, generator).to(self.device) for n in counts]
        points = torch.zeros(len(inputs), counts[0], sizes.rebuilt, 3, device=self.device)
        patches = torch.zeros(len(inputs), counts[1], 3 * sizes.token_pixels**2, device=self.device)
        for j in range(settings.passes):
            point_mask, image_mask = (mask.pass_for(j, len(inputs)) for mask in masks)
            with self.autocast():
                found = self.network(inputs, point_mask, image_mask)
            points += self.network.rebuilt_points(found) * ~point_mask.visible[..., None, None]
            patches += found.patches * ~image_mask.visible[..., None]
        hidden_times = settings.passes - settings.visible_parts
        image = unpatchify(patches / hidden_times, sizes.token_pixels)
        return Rebuilt(image, (points / hidden_times).flatten(1, 2))

    @torch.no_grad()
    def discrepancies(self, inputs: Inputs, rebuilt: Rebuilt | None, score: str) -> Discrepancies:
        """How samples differ from their reconstruction.

        Args:
            rebuilt: from `reconstruct`; `local` does without.
            score: `local`, of descriptors; `residual`, `feature`, or `both` of the latter. For features the frozen
                network, nothing hidden, looks at the samples, and at them with one modality replaced.
        """
        if score == "local":
            image, surface = self.network.local.errors(inputs).split(1, dim=1)
            return Discrepancies(
                inputs.valid, local=(scoring.to_pixels(inputs, image), scoring.to_pixels(inputs, surface))
            )
        if rebuilt is None:
            raise ValueError(f"score {score} compares with a reconstruction")
        features = residuals = None
        if score != "residual":
            true = self._look(inputs)
            other_image = self._look(replace(inputs, image=rebuilt.image))
            other_cloud = self._look(self._with_points(inputs, rebuilt.points))
            features = (
                scoring.image_feature_distance(inputs, true, other_image),
                scoring.point_feature_distance(inputs, true, other_cloud),
            )
        if score != "feature":
            residuals = (
                scoring.image_residual(inputs, rebuilt.image),
                scoring.point_residual(inputs, rebuilt.points),
            )
        return Discrepancies(inputs.valid, features, residuals)

    def _look(self, inputs: Inputs) -> Reconstruction:
        with self.autocast():
            found: Reconstruction = self.network(inputs)
        return found

    def _with_points(self, inputs: Inputs, points: Tensor) -> Inputs:
        """The inputs with other points around the same centres."""
        k = CANDIDATES * self.settings.sizes.neighbours[0]
        near = nearest_in_plane(inputs.centres, points, k)
        return replace(inputs, points=points, near=(near, *inputs.near[1:]))
