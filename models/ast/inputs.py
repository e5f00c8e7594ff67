"""From samples to what teacher and student take: features of cells, of colours and depths, and the object's mask.

The mask comes from the cloud in every mode. Colours are seen on a grid that has twice as many pixels a side as that of
depths; then every second one is taken of these, up to a quarter of a pixel from those of depths alone.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from models.ast import depth
from models.ast.settings import ASTSettings
from models.extractors.backbone import Backbone, colours
from models.token_store import Grid, GridSample, seen_by
from utils.devices import send
from utils.errors import UserError
from utils.view import ViewSettings

STAGES, STRIDE = 6, 32  # stages of the network that are run, of seven; the paper's has 304 channels there
SIZE = STRIDE * depth.CELLS  # pixels a side that the network sees, 768: twice those of the depths


@dataclass(frozen=True)
class Inputs:
    """Of B samples: features (B, D, 24, 24), of colours, then of depths; mask (B, 24, 24) in [0, 1]."""

    features: Tensor
    mask: Tensor

    def __len__(self) -> int:
        return len(self.mask)

    def select(self, indices: Tensor) -> "Inputs":
        """The samples of these indices, (B',) int64 on the device of the inputs."""
        return Inputs(self.features[indices], self.mask[indices])

    @staticmethod
    def concatenate(items: Sequence["Inputs"]) -> "Inputs":
        """One batch of several."""
        return Inputs(torch.cat([item.features for item in items]), torch.cat([item.mask for item in items]))


def view_of(settings: ASTSettings) -> ViewSettings:
    """What of a sample is looked at: the whole frame, twice as large where there is a network to look at it."""
    return ViewSettings("frame", depth.GRID if settings.mode == "depth" else SIZE)


def channels(settings: ASTSettings, backbone: Backbone | None) -> int:
    """D of the features that `prepare` makes."""
    of_colours = 0 if backbone is None else len(sixth_stage(torch.zeros(3, 64, 64), backbone))
    return of_colours + depth.CHANNELS * (settings.mode != "rgb")


def prepare(
    samples: Sequence[GridSample], settings: ASTSettings, backbone: Backbone | None, device: torch.device
) -> Inputs:
    """Prepare samples on `device`, each by itself.

    Args:
        samples: at least one, made with `view_of`.
        settings: which features.
        backbone: on `device`, where colours are looked at.
    """
    prepared = [_prepare(seen, settings, backbone, device) for seen in seen_by(view_of(settings), samples)]
    features, masks = zip(*prepared, strict=True)
    return Inputs(torch.stack(features), torch.stack(masks))


def _prepare(
    seen: Grid, settings: ASTSettings, backbone: Backbone | None, device: torch.device
) -> tuple[Tensor, Tensor]:
    """(D, 24, 24) and (24, 24)."""
    step = seen.xyz.shape[-1] // depth.GRID
    cells, mask = depth.depth_cells(seen.xyz[2, ::step, ::step])
    parts = [] if settings.mode == "rgb" else [send(cells, device)]
    if backbone is not None:
        parts.insert(0, sixth_stage(colours(send(seen.rgb, device)), backbone))
    return torch.cat(parts), send(mask, device)


@torch.no_grad()
def sixth_stage(image: Tensor, backbone: Backbone) -> Tensor:
    """What the network's sixth stage says, of stride 32: (3, S, S) colours in [0, 1] → (D, S / 32, S / 32).

    Raises:
        UserError: the network has no such stage.
    """
    network = backbone.network
    if not (hasattr(network, "conv_stem") and hasattr(network, "blocks")):
        raise UserError(f"--backbone {backbone.name}: expected an EfficientNet of timm, for its sixth stage.")
    x = ((image - backbone.mean) / backbone.std)[None]
    x = network.bn1(network.conv_stem(x))
    for stage in network.blocks[:STAGES]:
        x = stage(x)
    if x.shape[-1] * STRIDE != image.shape[-1]:
        raise UserError(
            f"--backbone {backbone.name}: expected a sixth stage of stride {STRIDE}, as of EfficientNet, found "
            f"{image.shape[-1] / x.shape[-1]:g}."
        )
    return x[0]
