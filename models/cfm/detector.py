"""Crossmodal Feature Mapping (Costanzino et al., CVPR 2024): two mappers trained on nominal tokens, and their maps."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from models.anomaly_map import AnomalyMap, make_anomaly_map
from models.cfm.losses import cosine_distances
from models.cfm.mappers import CrossmodalMapper, mapper_variant, mapper_widths
from models.cfm.scoring import discrepancy, scatter_to_grid
from models.tokens import Tokens

LEARNING_RATE = 1e-3


class CrossmodalDetector(nn.Module):
    """M_2D→3D and M_3D→2D. Loss and score look at the foreground pixels only; P is their number."""

    def __init__(self, rgb_width: int, xyz_width: int, variant: str, precision: str, seed: int = 0) -> None:
        """Mappers with torch's default initialisation, drawn from `seed` without touching the global generator.

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

    def map_tokens(self, tokens: Tokens) -> tuple[Tensor, Tensor]:
        """Mapped features at the foreground pixels: M_2D→3D(E_2D) (P, D_3D) and M_3D→2D(E_3D) (P, D_2D)."""
        bf16 = self.precision == "bf16"
        with torch.autocast(tokens.rgb.device.type, torch.bfloat16, enabled=bf16):
            return (
                self.rgb_to_xyz.forward_lifted(tokens.rgb, tokens.rgb_lift),
                self.xyz_to_rgb.forward_lifted(tokens.xyz, tokens.xyz_lift),
            )

    def backward(self, batch: Sequence[Tokens]) -> dict[str, Tensor]:
        """Add the gradients of the batch's loss, one image at a time.

        The loss is the mean over the foreground pixels of all images of 1 − cos(M_2D→3D(E_2D), E_3D), plus the same
        for 3D→2D. Its gradient is a sum over images, so only one image's activations are in memory.

        Returns:
            The two means, `loss_2Dto3D` and `loss_3Dto2D`, scalars without gradient.
        """
        n_pixels = sum(len(tokens.foreground) for tokens in batch)
        losses = torch.zeros(2, device=batch[0].rgb.device)
        for tokens in batch:
            mapped_xyz, mapped_rgb = self.map_tokens(tokens)
            pair = (
                (mapped_xyz, tokens.xyz_lift.lift(tokens.xyz)),
                (mapped_rgb, tokens.rgb_lift.lift(tokens.rgb)),
            )
            loss = torch.stack([cosine_distances(*features).sum() / n_pixels for features in pair])
            loss.sum().backward()
            losses += loss.detach()
        return {"loss_2Dto3D": losses[0], "loss_3Dto2D": losses[1]}

    @torch.inference_mode()
    def predict(self, tokens: Tokens, aggregation: str = "product") -> AnomalyMap:
        """Anomaly map of one sample; all zero when it has no foreground.

        Args:
            tokens: of the sample. aggregation: one of AGGREGATIONS; the paper's is `product`.
        """
        mapped_xyz, mapped_rgb = self.map_tokens(tokens)
        psi_3d = discrepancy(mapped_xyz, tokens.xyz_lift.lift(tokens.xyz))
        psi_2d = discrepancy(mapped_rgb, tokens.rgb_lift.lift(tokens.rgb))
        return make_anomaly_map(
            scatter_to_grid(psi_2d, tokens.foreground, tokens.size),
            scatter_to_grid(psi_3d, tokens.foreground, tokens.size),
            aggregation,
        )
