"""Crossmodal Feature Mapping (Costanzino et al., CVPR 2024): two mappers trained on nominal tokens, and their maps."""

from collections.abc import Sequence
from typing import cast

import torch
from torch import Tensor, nn

from models.anomaly_map import AnomalyMap, make_anomaly_map
from models.cfm.losses import LastLayerLoss
from models.cfm.mappers import CrossmodalMapper, mapper_variant, mapper_widths
from models.cfm.scoring import discrepancy, scatter_to_grid
from models.tokens import ModalityTokens, Tokens
from utils.devices import autocast, product_type

LEARNING_RATE = 1e-3
RARITY_POWERS = (1.0, 1.5)
"""Of RGB's and of geometry's rarity in a discrepancy: how a part is lit changes its colours, but not its shape."""


class CrossmodalDetector(nn.Module):
    """M_2D→3D and M_3D→2D. Loss and score look at the foreground pixels only; P is their number."""

    def __init__(self, rgb_width: int, xyz_width: int, variant: str, precision: str, seed: int = 0) -> None:
        """Mappers with torch's default initialisation, drawn from `seed` without touching the CPU's global generator.

        Args:
            rgb_width, xyz_width: widths D_2D and D_3D of the tokens.
            variant: one of MAPPERS.
            precision: type of the matrix products, `fp32` or `bf16`; the weights are float32 in either case.
        """
        super().__init__()
        self.variant, self.precision = variant, precision
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            self.rgb_to_xyz = CrossmodalMapper(rgb_width, xyz_width, variant)
            self.xyz_to_rgb = CrossmodalMapper(xyz_width, rgb_width, variant)

    @classmethod
    def from_states(
        cls, rgb_to_xyz: dict[str, Tensor], xyz_to_rgb: dict[str, Tensor], precision: str
    ) -> "CrossmodalDetector":
        """A detector from the state dicts of a checkpoint; the mapper variant is read from the parameter names.

        Raises:
            RuntimeError, KeyError, ValueError: the states are not those of a pair of mappers.
        """
        detector = cls(*mapper_widths(rgb_to_xyz), mapper_variant(rgb_to_xyz), precision)
        detector.rgb_to_xyz.load_state_dict(rgb_to_xyz)
        detector.xyz_to_rgb.load_state_dict(xyz_to_rgb)
        return detector.eval()

    def backward(self, batch: Sequence[Tokens]) -> dict[str, Tensor]:
        """Add the gradients of the batch's loss.

        The loss is the mean over the foreground pixels of all images of 1 − cos(M_2D→3D(E_2D), E_3D), plus the same
        for 3D→2D. Its gradient is a sum over pixels, so it is made one block of pixels of one image at a time.

        Returns:
            The two means, `loss_2Dto3D` and `loss_3Dto2D`, scalars without gradient.
        """
        n_pixels = sum(len(tokens.foreground) for tokens in batch)
        return {
            "loss_2Dto3D": self._backward(self.rgb_to_xyz, [(tokens.rgb, tokens.xyz) for tokens in batch], n_pixels),
            "loss_3Dto2D": self._backward(self.xyz_to_rgb, [(tokens.xyz, tokens.rgb) for tokens in batch], n_pixels),
        }

    @torch.no_grad()
    def predict(self, tokens: Tokens, aggregation: str = "product") -> AnomalyMap:
        """Anomaly map of one sample on its pixel grid; all zero when it has no foreground.

        Args:
            tokens: of the sample.
            aggregation: `product` (the paper's), `sum`, `max`, `2d` or `3d`.
        """
        return make_anomaly_map(*self.discrepancies(tokens), aggregation)

    @torch.no_grad()
    def discrepancies(self, tokens: Tokens) -> tuple[Tensor, Tensor]:
        """Discrepancy of RGB and of geometry on the grid of the tokens, (size, size) each, 0 on the background.

        Where the extractor tells how rare a token is, it is the squared distance times a power of that: both are
        squared distances, of an observation from what the other modality lets expect, and from all nominal ones.
        """
        found = []
        ways = (self.xyz_to_rgb, tokens.xyz, tokens.rgb), (self.rgb_to_xyz, tokens.rgb, tokens.xyz)
        for (mapper, source, target), power in zip(ways, RARITY_POWERS, strict=True):
            psi = self._discrepancies(mapper, source, target)
            psi = psi if target.rarity is None else psi.square() * target.rarity**power
            found.append(scatter_to_grid(psi, tokens.foreground, tokens.size))
        return found[0], found[1]

    def _discrepancies(self, mapper: CrossmodalMapper, source: ModalityTokens, target: ModalityTokens) -> Tensor:
        """Discrepancy at each foreground pixel, (P,)."""
        found = [torch.zeros(0, device=source.tokens.device)]
        with autocast(source.tokens.device, self.precision):
            hidden = mapper.hidden_tokens(source.tokens)
            for lift, target_lift in zip(source.blocks, target.blocks, strict=True):
                mapped = mapper.from_lifted(lift.multiply(hidden))
                found.append(discrepancy(mapped, target_lift.multiply(target.tokens)))
        return torch.cat(found)

    def _backward(
        self, mapper: CrossmodalMapper, images: Sequence[tuple[ModalityTokens, ModalityTokens]], n_pixels: int
    ) -> Tensor:
        """Add the gradients of one direction for images of (source, target); its loss, a scalar without gradient."""
        loss = LastLayerLoss(mapper.output, product_type(mapper.output.weight.device, self.precision), n_pixels)
        for source, target in images:
            with autocast(source.tokens.device, self.precision):
                hidden = mapper.hidden_tokens(source.tokens)  # (T, h)
            lowered = torch.zeros_like(hidden, dtype=torch.float32)
            loss.begin(target.tokens)
            for lift, target_lift, norms in zip(source.blocks, target.blocks, target.norms, strict=True):
                lifted = lift.multiply(hidden.detach()).requires_grad_()
                with autocast(source.tokens.device, self.precision):
                    activations = mapper.before_output(lifted)
                activations.backward(loss.add(activations.detach(), target_lift, norms))
                lowered += lift.transposed.multiply(cast(Tensor, lifted.grad))
            hidden.backward(lowered.to(hidden.dtype))
            loss.end()
        loss.backward()
        return loss.total
