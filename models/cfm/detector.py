"""Crossmodal Feature Mapping (Costanzino et al., CVPR 2024): two mappers trained on nominal tokens, and their maps."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import cast

import torch
from torch import Tensor, nn

from models.anomaly_map import AnomalyMap, make_anomaly_map
from models.cfm.losses import cosine_distances
from models.cfm.mappers import CrossmodalMapper, mapper_variant, mapper_widths
from models.cfm.scoring import discrepancy, scatter_to_grid
from models.lifting import LiftingOperator
from models.tokens import Tokens

LEARNING_RATE = 1e-3

PIXELS_A_BLOCK = {"cpu": 2048, "cuda": 1 << 17}
"""Pixels mapped at a time: few enough for a processor's cache, enough to fill a GPU."""


class CrossmodalDetector(nn.Module):
    """M_2D→3D and M_3D→2D. Loss and score look at the foreground pixels only; P is their number."""

    def __init__(self, rgb_width: int, xyz_width: int, variant: str, precision: str, seed: int = 0) -> None:
        """Mappers with torch's default initialisation, drawn from `seed` without touching the CPU's global generator.

        Args:
            rgb_width, xyz_width: widths D_2D and D_3D of the tokens. variant: one of MAPPERS.
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
            RuntimeError, KeyError: the states are not those of a pair of mappers.
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
        directions = zip(*(self._directions(tokens) for tokens in batch), strict=True)
        losses = (torch.stack([self._backward(way, n_pixels) for way in ways]).sum() for ways in directions)
        return dict(zip(("loss_2Dto3D", "loss_3Dto2D"), losses, strict=True))

    @torch.no_grad()
    def predict(self, tokens: Tokens, aggregation: str = "product") -> AnomalyMap:
        """Anomaly map of one sample; all zero when it has no foreground.

        Args:
            tokens: of the sample. aggregation: `product` (the paper's), `sum`, `max`, `2d` or `3d`.
        """
        psi_3d, psi_2d = (
            scatter_to_grid(self._discrepancies(way), tokens.foreground, tokens.size)
            for way in self._directions(tokens)
        )
        return make_anomaly_map(psi_2d, psi_3d, aggregation)

    def _directions(self, tokens: Tokens) -> tuple["Direction", "Direction"]:
        """2D→3D and 3D→2D of one sample."""
        return (
            Direction(self.rgb_to_xyz, tokens.rgb, tokens.rgb_lift, tokens.xyz, tokens.xyz_lift),
            Direction(self.xyz_to_rgb, tokens.xyz, tokens.xyz_lift, tokens.rgb, tokens.rgb_lift),
        )

    def _autocast(self, device: torch.device) -> torch.autocast:
        return torch.autocast(device.type, torch.bfloat16, enabled=self.precision == "bf16")

    def _discrepancies(self, way: "Direction") -> Tensor:
        """Discrepancy at each foreground pixel, (P,)."""
        found = [torch.zeros(0, device=way.source.device)]
        with self._autocast(way.source.device):
            hidden = way.mapper.hidden_tokens(way.source)
            for lift, target_lift in way.blocks():
                mapped = way.mapper.from_lifted(lift.multiply(hidden))
                found.append(discrepancy(mapped, target_lift.multiply(way.target)))
        return torch.cat(found)

    def _backward(self, way: "Direction", n_pixels: int) -> Tensor:
        """Add the gradients of one direction of one sample; its part of the loss, a scalar without gradient."""
        gradients, total = [], torch.zeros((), device=way.source.device)
        with self._autocast(way.source.device):
            hidden = way.mapper.hidden_tokens(way.source)  # (T, h)
        for lift, target_lift in way.blocks():
            lifted = lift.multiply(hidden.detach()).requires_grad_()
            with self._autocast(way.source.device):
                mapped = way.mapper.from_lifted(lifted)
            loss = cosine_distances(mapped, target_lift.multiply(way.target)).sum() / n_pixels
            loss.backward()
            gradients.append(cast(Tensor, lifted.grad))
            total += loss.detach()
        if gradients:
            hidden.backward(way.lift.transposed().multiply(torch.cat(gradients)))
        return total


@dataclass(frozen=True)
class Direction:
    """One mapper with the tokens it maps, (T, in), those it is compared with, (G, out), and their operators."""

    mapper: CrossmodalMapper
    source: Tensor
    lift: LiftingOperator
    target: Tensor
    target_lift: LiftingOperator

    def blocks(self) -> Iterator[tuple[LiftingOperator, LiftingOperator]]:
        """Both operators cut into the same blocks of pixels."""
        size = PIXELS_A_BLOCK[self.source.device.type]
        return zip(self.lift.blocks(size), self.target_lift.blocks(size), strict=True)
