"""Frozen extractors: samples → tokens. EXTRACTORS maps a name to the function that builds it."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from utils.errors import UserError
from utils.view import ViewSettings

if TYPE_CHECKING:
    import torch
    from torch import Tensor

    from models.tokens import Tokens


@dataclass(frozen=True)
class ExtractorOptions:
    """What a user may choose about an extractor; each takes what concerns it.

    mode: `eval` or `batchnorm`.
    keep_blocks: 12, 8, 4 or 1.
    precision: `fp32` or `bf16`.
    rgb_weights, xyz_weights: files to use instead of the public ones.
    backbone: of `cnn_normals`.
    view: `object` or `frame`; None for the extractor's own.
    """

    mode: str = "eval"
    keep_blocks: int = 12
    precision: str = "fp32"
    rgb_weights: Path | None = None
    xyz_weights: Path | None = None
    backbone: str | None = None
    view: str | None = None


class Extractor(Protocol):
    """What every extractor offers."""

    @property
    def rgb_width(self) -> int:
        """D_2D, the width of the RGB tokens."""

    @property
    def xyz_width(self) -> int:
        """D_3D, the width of the geometry tokens."""

    @property
    def view(self) -> ViewSettings | None:
        """The view of a sample that it looks at; None: the sample's grid."""

    def extract(self, rgb: "Tensor", xyz: "Tensor", valid: "Tensor") -> "list[Tokens]":
        """Tokens of a batch: (B, 3, H, W) image and cloud, (B, H, W) mask, True = valid → one Tokens a sample.

        They are not standardised: that takes statistics of nominal samples.
        """

    def fit(self, nominal: "Iterable[Tokens]") -> None:
        """Learn statistics from what `extract` gave of nominal samples; an extractor without any looks at none."""

    def standardise(self, tokens: "Tokens") -> "Tokens":
        """What detection works on, made of what `extract` gave; the same where there are no statistics."""

    def fingerprint(self) -> dict[str, Any]:
        """Everything that the result of `extract` depends on besides the sample, as JSON values."""

    def state_dict(self) -> "dict[str, Tensor]":
        """Learned statistics; empty for an extractor without any."""


def _dino_pointmae(device: "torch.device", options: ExtractorOptions, state: "Mapping[str, Tensor]") -> Extractor:
    from models.extractors.dino_pointmae import build_dino_pointmae

    own = options.mode, options.keep_blocks, options.precision, options.rgb_weights, options.xyz_weights
    return build_dino_pointmae(device, *own, _view(options))


def _handcrafted(device: "torch.device", options: ExtractorOptions, state: "Mapping[str, Tensor]") -> Extractor:
    from models.extractors.handcrafted import Handcrafted

    extractor = Handcrafted.from_state(state) if state else Handcrafted()
    extractor.view = _view(options)
    return extractor


def _cnn_normals(device: "torch.device", options: ExtractorOptions, state: "Mapping[str, Tensor]") -> Extractor:
    from models.extractors import backbone, cnn_normals

    name, view = options.backbone or backbone.DEFAULT, options.view or "object"
    return cnn_normals.build_cnn_normals(device, name, options.precision, view, options.rgb_weights, state)


def _view(options: ExtractorOptions) -> ViewSettings | None:
    """The frame is what the paper's extractor looks at, and the sample's grid shows it."""
    return ViewSettings("object") if options.view == "object" else None


EXTRACTORS: "dict[str, Callable[[torch.device, ExtractorOptions, Mapping[str, Tensor]], Extractor]]" = {
    "dino_pointmae": _dino_pointmae,
    "cnn_normals": _cnn_normals,
    "handcrafted": _handcrafted,
}


def build_extractor(
    name: str, device: "torch.device", options: ExtractorOptions, state: "Mapping[str, Tensor] | None" = None
) -> Extractor:
    """Build an extractor in evaluation mode.

    Args:
        name: a key of EXTRACTORS.
        device: where it runs.
        options: see ExtractorOptions.
        state: statistics learned in training, for one that has any.

    Raises:
        UserError: unknown name; a weight file is missing, damaged or of another model.
    """
    if name not in EXTRACTORS:
        raise UserError(f"extractor {name!r}: expected one of {', '.join(EXTRACTORS)}.")
    return EXTRACTORS[name](device, options, state or {})
