"""What can be chosen about DBMRNet. Its public sources leave most of this open, so the defaults are this project's."""

import math
from collections.abc import Collection
from dataclasses import dataclass

from utils.errors import UserError


@dataclass(frozen=True)
class Preset:
    """Sizes of a network.

    image_size: S, pixels.
    patch: side of a patch of the first stage, pixels; two merges follow, so that a token is 4 · patch pixels wide.
    widths: of the three stages; the last is D.
    points: N.
    centres: G0, G1, G2.
    neighbours: k of the three stages.
    rebuilt: R.
    encoder_depth, shared_depth, specific_depth: transformer blocks of the joint encoder, the shared decoder and each
        specific decoder.
    heads: of every attention.
    learning_rate: peak that suits the size.
    """

    image_size: int
    patch: int
    widths: tuple[int, int, int]
    points: int
    centres: tuple[int, int, int]
    neighbours: tuple[int, int, int]
    rebuilt: int
    encoder_depth: int
    shared_depth: int
    specific_depth: int
    heads: int
    learning_rate: float

    @property
    def token_pixels(self) -> int:
        """Side of an image token in pixels."""
        return 4 * self.patch

    @property
    def image_grid(self) -> int:
        """Image tokens a side; T2 is its square."""
        return self.image_size // self.token_pixels


PRESETS = {
    "full": Preset(224, 4, (96, 192, 384), 8192, (1024, 512, 256), (16, 8, 8), 32, 6, 2, 1, 6, 5e-4),
    "mid": Preset(112, 2, (48, 96, 192), 4096, (512, 256, 128), (16, 8, 8), 16, 4, 1, 1, 4, 1e-3),
    "small": Preset(64, 2, (32, 64, 128), 1024, (256, 128, 64), (16, 8, 8), 16, 3, 1, 1, 4, 2e-3),
}

VIEWS = ("object", "frame")
SAMPLERS = ("geometry", "random", "fps")
MASKED_CENTRES = ("xyi", "xyz")
ALIGNMENTS = ("two_way", "one_way")
CROSS_LOSSES = ("depth", "splat", "rgb")
SCORES = ("local", "residual", "feature", "both")
FUSIONS = ("max", "product", "sum", "2d", "3d")
CHOICES: dict[str, Collection[str]] = {
    "preset": PRESETS,
    "view": VIEWS,
    "sampler": SAMPLERS,
    "masked_centres": MASKED_CENTRES,
    "alignment": ALIGNMENTS,
    "cross_loss": CROSS_LOSSES,
}
"""Values of those fields of ModelSettings that have a name."""

WARMUP_EPOCHS = 10
MASKED_SHARE = 0.25
"""Of each batch, for the masked network: the default of the command line."""


@dataclass(frozen=True)
class ModelSettings:
    """Everything that decides what the network computes.

    preset: a key of PRESETS.
    view: what of the image is seen: the square around the `object` (the valid points), or the whole `frame`.
    sampler: how the N points are drawn: `geometry` (more where normals change), `random` or `fps` (farthest points).
    masked_centres: `xyi` keeps (x, y) of a masked centre and interpolates its z from visible ones; `xyz` keeps all
        three, from which the network can rebuild a defect.
    mask_ratio: share of the tokens of each modality that is hidden, in (0, 1).
    passes: K, reconstructions of a sample with different tokens visible; (1 − mask_ratio) · K must be whole.
    alignment_radius: ρ, in image tokens: in the encoder, tokens of different modalities see each other up to this
        distance; below 0 never.
    alignment: `two_way`, or `one_way`: only point tokens are kept from distant image tokens.
    local_layers: encoder blocks with this restriction, the first ones; None for all.
    cross_loss: `depth`, `splat` or `rgb`, see `losses`.
    cross_weight: its factor λ ≥ 0.
    """

    preset: str = "full"
    view: str = "object"
    sampler: str = "geometry"
    masked_centres: str = "xyi"
    mask_ratio: float = 0.75
    passes: int = 4
    alignment_radius: float = 1.5
    alignment: str = "two_way"
    local_layers: int | None = None
    cross_loss: str = "depth"
    cross_weight: float = 1.0

    def __post_init__(self) -> None:
        """Raises UserError where a value is not one of those above, or the tokens cannot be cut as it takes."""
        for name, choices in CHOICES.items():
            if getattr(self, name) not in choices:
                raise UserError(f"--{name} {getattr(self, name)}: expected one of {', '.join(choices)}.")
        if not 0 <= self.cross_weight < math.inf:
            raise UserError(f"--cross_weight {self.cross_weight:g}: expected a number of at least 0.")
        if not math.isfinite(self.alignment_radius):
            raise UserError(f"--alignment_radius {self.alignment_radius:g}: expected a number.")
        if self.local_layers is not None and not 1 <= self.local_layers <= self.sizes.encoder_depth:
            raise UserError(
                f"--local_layers {self.local_layers}: expected 1 to {self.sizes.encoder_depth}, the encoder blocks of "
                f"preset {self.preset}. Leave it out for all."
            )
        visible = (1 - self.mask_ratio) * self.passes
        if abs(visible - round(visible)) > 1e-6 or not 0 < round(visible) < self.passes:
            raise UserError(
                f"--mask_ratio {self.mask_ratio:g}, --passes {self.passes}: the visible share 1 − mask_ratio must be a "
                f"whole number of {self.passes} parts, at least 1 and not all, for example 0.75 with 4."
            )
        for name, count in (("image", self.sizes.image_grid**2), ("point", self.sizes.centres[2])):
            if count % self.passes:
                raise UserError(
                    f"--passes {self.passes}: the {count} {name} tokens of preset {self.preset} cannot be cut into "
                    f"{self.passes} equal parts. Take --passes 4 with --mask_ratio 0.75, or 2 with 0.5."
                )

    @property
    def sizes(self) -> Preset:
        """The sizes of the preset."""
        return PRESETS[self.preset]

    @property
    def visible_parts(self) -> int:
        """How many of the K parts of the tokens a pass sees."""
        return round((1 - self.mask_ratio) * self.passes)
