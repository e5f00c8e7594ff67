"""One small pretrained CNN for both modalities: it looks at the colours, and at the surface normals drawn as colours.

Both images are seen in the same view, so their features share one grid of cells: no sampling of points, no neighbours,
no groups. Features are standardised with mean and deviation over the foreground of nominal samples. How far a cell lies
from those, with regard to their covariance (Mahalanobis, 1936), is kept beside it: what no relation between modalities
can tell, since a mapping may carry on what it has never seen.

Sources: normals through a network for images, TRD (arXiv 2412.08949), CPMAD (CVPR 2026), FIND (ICCV 2025); distance to
a Gaussian of pretrained features, PaDiM (Defard et al., ICPR Workshops 2021), here one for all places.
"""

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor
from torch.nn import functional

from models.extractors.backbone import Backbone, colours, load_backbone
from models.normals import NormalSettings, estimate_normals
from models.resampling import box, linear
from models.tokens import Tokens, cell_tokens
from utils.devices import autocast
from utils.errors import UserError
from utils.view import ViewSettings

VERSION = 2
"""Part of the fingerprint: to be raised when the features change."""

SIZE = 320
"""Pixels a side of the view."""

SHRINKAGE = 0.01
"""Added to the variances of the standardised features: directions that hardly vary say nothing of other samples."""


@dataclass(frozen=True)
class CnnNormalsSettings:
    """What decides the tokens.

    backbone: see `backbone.load_backbone`.
    weights_sha256: of its weights.
    precision: of its products on a GPU, `fp32` or `bf16`.
    view: what it looks at.
    normals: how they are made.
    cell: pixels of the view a side of a cell.
    smoothing: side of the box that each level is averaged with.
    foreground: a cell belongs to the object when more than this share of its pixels is valid.
    """

    backbone: str
    weights_sha256: str
    precision: str
    view: ViewSettings
    normals: NormalSettings = field(default_factory=NormalSettings)
    cell: int = 8
    smoothing: int = 3
    foreground: float = 0.5


class CnnNormals:
    """Samples → tokens of the foreground's cells, (P, D) of either modality. Their statistics come from `fit` or a
    checkpoint."""

    name = "cnn_normals"

    def __init__(self, backbone: Backbone, settings: CnnNormalsSettings) -> None:
        self.backbone, self.settings = backbone, settings
        self.view = settings.view
        self.rgb_width = self.xyz_width = sum(backbone.widths)
        self._statistics: dict[str, Tensor] = {}

    def load_state(self, state: Mapping[str, Tensor]) -> None:
        """Take the statistics that `state_dict` gave.

        Raises:
            UserError: the state is not one of this extractor.
        """
        width = self.rgb_width
        expected = {"mean": (2, width), "deviation": (2, width), "whitening": (2, width, width)}
        found = {name: tuple(value.shape) if isinstance(value, Tensor) else value for name, value in state.items()}
        if found != expected or any(value.dtype != torch.float32 for value in state.values()):
            raise UserError(f"statistics of `{self.name}`: expected {expected}, found {found}. Train again.")
        device = self.backbone.mean.device
        self._statistics = {name: value.to(device) for name, value in state.items()}

    def state_dict(self) -> dict[str, Tensor]:
        """Over nominal foreground, float32: `mean` and `deviation` (2, D), and `whitening` (2, D, D) of what was
        standardised with them; index 0 is RGB, 1 the normals."""
        return {name: value.cpu() for name, value in self._statistics.items()}

    def fingerprint(self) -> dict[str, Any]:
        """Everything that the tokens depend on besides the sample, as JSON values."""
        return {"extractor": self.name, "version": VERSION, **asdict(self.settings)}

    @torch.no_grad()
    def fit(self, nominal: Iterable[Tokens]) -> None:
        """Take the statistics of nominal samples.

        Raises:
            UserError: they have not a single valid point, or there are none.
        """
        width = self.rgb_width
        count, total, squares = 0, torch.zeros(2, width).double(), torch.zeros(2, width, width).double()
        for tokens in nominal:
            values = torch.stack([tokens.rgb.tokens, tokens.xyz.tokens]).cpu()  # (2, P, D)
            count += values.shape[1]
            total += values.sum(dim=1, dtype=torch.float64)
            squares += (values.transpose(1, 2) @ values).double()
        if not count:
            raise UserError(f"the extractor {self.name} was given no valid point to take statistics of.")
        mean = total / count  # (2, D)
        covariance = squares / count - mean[:, :, None] * mean[:, None, :]
        deviation = covariance.diagonal(dim1=1, dim2=2).clamp(min=1e-12).sqrt()
        correlation = covariance / (deviation[:, :, None] * deviation[:, None, :])
        shrunk = correlation + SHRINKAGE * torch.eye(width).double()
        whitening = torch.linalg.cholesky(torch.linalg.inv(shrunk))
        self.load_state({"mean": mean.float(), "deviation": deviation.float(), "whitening": whitening.float()})

    @torch.no_grad()
    def extract(self, rgb: Tensor, xyz: Tensor, valid: Tensor) -> list[Tokens]:
        """Extract the tokens of a batch of views.

        Args:
            rgb: (B, 3, S, S) ImageNet-normalised.
            xyz: (B, 3, S, S) metres.
            valid: (B, S, S) bool, True = the pixel holds a point.

        Returns:
            One Tokens a sample, on the device of the input, not standardised.
        """
        if rgb.device.type == "cpu" and len(rgb) > 1:  # image by image, which takes less memory
            return [self.extract(*(values[i : i + 1] for values in (rgb, xyz, valid)))[0] for i in range(len(rgb))]
        features = self._features(torch.cat([colours(rgb), self.normals(xyz, valid)]))  # (2·B, D, c, c)
        both = features.unflatten(0, (2, len(rgb))).permute(1, 0, 3, 4, 2)  # (B, 2, c, c, D)
        share = functional.adaptive_avg_pool2d(valid.float(), both.shape[2])  # (B, c, c)
        return [self._tokens(*sample) for sample in zip(both, share > self.settings.foreground, strict=True)]

    def normals(self, xyz: Tensor, valid: Tensor) -> Tensor:
        """Normals as colours in [0, 1], the middle where they are unknown: (B, 3, S, S)."""
        return (1 - estimate_normals(xyz, valid, self.settings.normals)[0]) / 2

    def _features(self, images: Tensor) -> Tensor:
        """All levels on the grid of cells: (B, D, c, c) float32. On a CPU one by one, as above."""
        if images.device.type == "cpu" and len(images) > 1:
            return torch.cat([self._features(image[None]) for image in images])
        on_gpu = images.device.type == "cuda"  # on CPUs small convolutions are no faster in bf16
        with autocast(images.device, self.settings.precision if on_gpu else "fp32"):
            levels = self.backbone(images)
        return self.to_cells(levels, images.shape[-1] // self.settings.cell)

    def to_cells(self, levels: Iterable[Tensor], cells: int) -> Tensor:
        """The network's levels, (B, D_i, s_i, s_i) each, averaged and brought to one grid: (B, D, cells, cells)."""
        found = []
        for level in levels:
            length, device = level.shape[-1], level.device
            matrix = linear(length, cells, device) @ box(length, self.settings.smoothing, device)
            found.append(matrix @ (level.float().contiguous() @ matrix.T))
        return torch.cat(found, dim=1)

    def _tokens(self, features: Tensor, foreground: Tensor) -> Tokens:
        """Of one sample: (2, c, c, D) features and (c, c) bool."""
        places = foreground.flatten().nonzero().flatten()
        return cell_tokens(features[:, foreground], None, places, len(foreground))

    @torch.no_grad()
    def standardise(self, tokens: Tokens) -> Tokens:
        """With the statistics, and how rare each is by them.

        Raises:
            UserError: there are none yet.
        """
        if not self._statistics:
            raise UserError(f"the extractor {self.name} has no statistics: fit it on nominal samples first.")
        both = torch.stack([tokens.rgb.tokens, tokens.xyz.tokens])
        return cell_tokens(*standardised(both, **self._statistics), tokens.foreground, tokens.size)


def standardised(values: Tensor, mean: Tensor, deviation: Tensor, whitening: Tensor) -> tuple[Tensor, Tensor]:
    """Features by their statistics, and how rare each cell is, see `ModalityTokens`: (2, P, D) → (2, P, D), (2, P).

    Args:
        values: of RGB and normals.
        mean, deviation, whitening: see `CnnNormals.state_dict`.
    """
    values = (values - mean[:, None]) / deviation[:, None]
    return values, (values @ whitening).square().mean(dim=2)


def build_cnn_normals(
    device: torch.device,
    backbone: str,
    precision: str,
    view: str,
    weights: Path | None,
    state: Mapping[str, Tensor],
) -> CnnNormals:
    """Load the network strictly.

    Args:
        device: where it runs.
        backbone, precision: see CnnNormalsSettings.
        view: `object` or `frame`.
        weights: file to use instead of the package's or the hub's.
        state: statistics of a checkpoint, perhaps empty.

    Raises:
        UserError: the weights or the statistics are missing, damaged or of another network.
    """
    network, sha256 = load_backbone(backbone, weights)
    kind: Literal["object", "frame"] = "frame" if view == "frame" else "object"
    extractor = CnnNormals(
        network.drop_later_layers().to(device),
        CnnNormalsSettings(backbone, sha256, precision, ViewSettings(kind, SIZE)),
    )
    if state:
        extractor.load_state(state)
    return extractor
