"""The whole network: embed, hide, encode jointly, decode, rebuild image and cloud."""

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from models.dbmrnet.camera import project
from models.dbmrnet.embedding import ImageEmbedding, PointEmbedding
from models.dbmrnet.inputs import Inputs, grid_pixels, to_window
from models.dbmrnet.local import LocalReconstruction
from models.dbmrnet.masking import Mask, interpolate_depth
from models.dbmrnet.neighbours import take, visible_neighbours
from models.dbmrnet.settings import ModelSettings
from models.dbmrnet.transformer import Block, CrossBlock, alignment_bias, sincos_positions


@dataclass(frozen=True)
class Reconstruction:
    """What the network makes of a batch.

    offsets: (B, T3, R, 3) rebuilt points of each group, from its origin, in units of the group radius.
    origins: (B, T3, 3).
    colours: (B, T3, R, 3) of those points, for the cross-modal loss `rgb`, else None.
    patches: (B, T2, 3·p²) rebuilt pixels.
    point_tokens: (B, T3, D) and image_tokens: (B, T2, D), Y_3 and Y_2.
    image_features: (B, 2g, 2g, C) of the second stage.
    """

    offsets: Tensor
    origins: Tensor
    colours: Tensor | None
    patches: Tensor
    point_tokens: Tensor
    image_tokens: Tensor
    image_features: Tensor


class MaskedReconstruction(nn.Module):
    """Joint masked autoencoder of image and cloud, and beside it `local`, the reconstruction of local descriptors.

    Attributes:
        radii: (4,) buffer in units of the normalised cloud: median distance of the farthest neighbour at the three
            stages, and of the farthest point of a group that is to be rebuilt.
    """

    radii: Tensor
    image_positions: Tensor

    def __init__(self, settings: ModelSettings, seed: int = 0) -> None:
        """Weights are drawn from `seed` without touching the CPU's global generator."""
        super().__init__()
        self.settings, sizes = settings, settings.sizes
        width, heads = sizes.widths[2], sizes.heads
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            self.image_embedding, self.point_embedding = ImageEmbedding(sizes), PointEmbedding(sizes)
            self.encoder_position, self.decoder_position = position_mlp(width), position_mlp(width)
            # Row 0 belongs to the point modality, row 1 to the image.
            self.encoder_modality = nn.Parameter(0.02 * torch.randn(2, width))
            self.decoder_modality = nn.Parameter(0.02 * torch.randn(2, width))
            self.mask_tokens = nn.Parameter(0.02 * torch.randn(2, width))
            self.encoder = blocks(Block, sizes.encoder_depth, width, heads)
            self.encoder_norm = nn.LayerNorm(width)
            self.decoder_input = nn.Linear(width, width)
            self.shared_decoder = blocks(Block, sizes.shared_depth, width, heads)
            self.point_decoder = blocks(CrossBlock, sizes.specific_depth, width, heads)
            self.image_decoder = blocks(CrossBlock, sizes.specific_depth, width, heads)
            self.point_norm, self.image_norm = nn.LayerNorm(width), nn.LayerNorm(width)
            values = 6 if settings.cross_loss == "rgb" else 3
            self.point_head = nn.Linear(width, values * sizes.rebuilt)
            self.image_head = nn.Linear(width, 3 * sizes.token_pixels**2)
            self.local = LocalReconstruction()
        self.register_buffer("image_positions", sincos_positions(sizes.image_grid, width), persistent=False)
        self.register_buffer("radii", torch.ones(4))

    @torch.no_grad()
    def fit_radii(self, inputs: Inputs) -> None:
        """Set `radii` to the medians over all centres of these samples, nothing hidden."""
        sizes = self.settings.sizes
        farthest: list[list[Tensor]] = [[], [], [], []]
        for some in (inputs.select(part) for part in torch.arange(len(inputs), device=self.radii.device).split(16)):
            stages = [some.points, *(some.centres[:, :count] for count in sizes.centres)]
            for i, k in enumerate(sizes.neighbours):
                _, distances = visible_neighbours(stages[i + 1], stages[i], some.near[i], None, k)
                farthest[i].append(distances[..., -1])
            farthest[3].append((take(some.points, some.groups[..., -1]) - stages[3]).norm(dim=-1))
        for i, radii in enumerate(farthest):
            self.radii[i] = torch.cat(radii).median().clamp(min=1e-6)

    def forward(self, inputs: Inputs, point_mask: Mask | None = None, image_mask: Mask | None = None) -> Reconstruction:
        """Rebuild all tokens from the visible ones; None hides nothing."""
        encoded_points, encoded_image, features = self.encode(inputs, point_mask, image_mask)
        return self.decode(inputs, encoded_points, encoded_image, features, point_mask, image_mask)

    def encode(self, inputs: Inputs, point_mask: Mask | None, image_mask: Mask | None) -> tuple[Tensor, Tensor, Tensor]:
        """Encoder outputs of the visible tokens, (B, V3, D) and (B, V2, D), and the features of the second stage."""
        n_tokens = self.settings.sizes.centres[2]
        centres = inputs.centres[:, :n_tokens]
        points = self.point_embedding(inputs, point_mask and point_mask.visible, self.radii)
        image, features = self.image_embedding(inputs.image, image_mask and image_mask.visible)
        positions = self.image_positions.expand(len(inputs), -1, -1)
        grid = grid_pixels(self.settings.sizes.image_grid, centres.device).expand(len(inputs), -1, -1)
        if point_mask is not None:
            points, centres = take(points, point_mask.kept), take(centres, point_mask.kept)
        if image_mask is not None:
            image, positions, grid = (take(part, image_mask.kept) for part in (image, positions, grid))
        points = points + exact(self.encoder_position, centres) + self.encoder_modality[0]
        x = torch.cat([points, image + positions + self.encoder_modality[1]], dim=1)
        bias = alignment_bias(
            self.to_grid(inputs, centres), grid, self.settings.alignment_radius, self.settings.alignment
        )
        local = self.settings.local_layers
        for i, block in enumerate(self.encoder):
            x = block(x, bias if local is None or i < local else None)
        x = self.encoder_norm(x)
        return x[:, : centres.shape[1]], x[:, centres.shape[1] :], features

    def decode(
        self,
        inputs: Inputs,
        encoded_points: Tensor,
        encoded_image: Tensor,
        features: Tensor,
        point_mask: Mask | None,
        image_mask: Mask | None,
    ) -> Reconstruction:
        """Rebuild all tokens from encoder outputs."""
        origins = inputs.centres[:, : self.settings.sizes.centres[2]]
        if point_mask is not None and self.settings.masked_centres == "xyi":
            origins = interpolate_depth(origins, point_mask)
        points = self._with_mask_tokens(self.decoder_input(encoded_points), 0, point_mask)
        image = self._with_mask_tokens(self.decoder_input(encoded_image), 1, image_mask)
        points = points + exact(self.decoder_position, origins) + self.decoder_modality[0]
        x = torch.cat([points, image + self.image_positions + self.decoder_modality[1]], dim=1)
        for block in self.shared_decoder:
            x = block(x)
        points, image = x[:, : origins.shape[1]], x[:, origins.shape[1] :]
        for point_block, image_block in zip(self.point_decoder, self.image_decoder, strict=True):
            points, image = point_block(points, encoded_points), image_block(image, encoded_image)
        points, image = self.point_norm(points), self.image_norm(image)
        rebuilt = exact(self.point_head, points).unflatten(-1, (self.settings.sizes.rebuilt, -1))
        colours = rebuilt[..., 3:] if self.settings.cross_loss == "rgb" else None
        return Reconstruction(
            offsets=rebuilt[..., :3],
            origins=origins,
            colours=colours,
            patches=exact(self.image_head, image),
            point_tokens=points.float(),
            image_tokens=image.float(),
            image_features=features.float(),
        )

    def rebuilt_points(self, found: Reconstruction) -> Tensor:
        """Rebuilt points in the normalised cloud, (B, T3, R, 3)."""
        return found.origins[:, :, None] + found.offsets * self.radii[3]

    def to_grid(self, inputs: Inputs, points: Tensor) -> Tensor:
        """Where points (B, V, 3) project to, in image tokens, (B, V, 2): whole at the tokens' centres."""
        return to_window(inputs, project(inputs.camera, points), self.settings.sizes.image_grid)

    def _with_mask_tokens(self, encoded: Tensor, modality: int, mask: Mask | None) -> Tensor:
        """All tokens of a modality: encoder outputs where visible, the mask token elsewhere."""
        if mask is None:
            return encoded
        n_tokens = mask.kept.shape[1] + mask.hidden.shape[1]
        tokens = self.mask_tokens[modality].to(encoded.dtype).expand(len(encoded), n_tokens, -1)
        return tokens.scatter(1, mask.kept[..., None].expand_as(encoded), encoded)


def exact(module: nn.Module, x: Tensor) -> Tensor:
    """The module in float32, whatever the precision: bfloat16 keeps but three digits of coordinates and colours."""
    with torch.autocast(x.device.type, enabled=False):
        result: Tensor = module(x.float())
    return result


def position_mlp(width: int) -> nn.Sequential:
    """Position of a centre: 3 → 128 → D."""
    return nn.Sequential(nn.Linear(3, 128), nn.GELU(), nn.Linear(128, width))


def blocks(kind: type[nn.Module], depth: int, width: int, heads: int) -> nn.ModuleList:
    """`depth` transformer blocks."""
    return nn.ModuleList([kind(width, heads) for _ in range(depth)])


def patchify(image: Tensor, side: int) -> Tensor:
    """(B, 3, S, S) → (B, T2, 3·side²): patches row-major, in each channel, row, column."""
    b, c, size, _ = image.shape
    grid = size // side
    return image.view(b, c, grid, side, grid, side).permute(0, 2, 4, 1, 3, 5).reshape(b, grid * grid, c * side * side)


def unpatchify(patches: Tensor, side: int) -> Tensor:
    """The inverse of `patchify`."""
    b, count, _ = patches.shape
    grid = round(count**0.5)
    return patches.view(b, grid, grid, 3, side, side).permute(0, 3, 1, 4, 2, 5).reshape(b, 3, grid * side, grid * side)
