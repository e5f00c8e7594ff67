"""The paper's pair of extractors: DINO ViT-B/8 for the image, Point-MAE for the cloud, both frozen."""

from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from models.extractors import dino, point_mae, weights
from models.point_ops import group_points
from models.tokens import PointGroups, Tokens, group_clouds, make_tokens
from utils.devices import product_type
from utils.view import ViewSettings


@dataclass(frozen=True)
class DinoPointMAESettings:
    """What decides the tokens.

    mode: `eval` normalises with the running statistics of the Point-MAE release; `batchnorm` with those of the current
        cloud, the deterministic mean of what the published CFM checkpoints were trained on (their extractors were left
        in training mode).
    keep_blocks: transformer blocks kept of both extractors: 12, 8, 4 or 1.
    precision: type of the matrix products, `fp32` or `bf16`.
    rgb_sha256, xyz_sha256: of the weight files.
    view: what it looks at; None: the sample's grid.
    """

    mode: str
    keep_blocks: int
    precision: str
    rgb_sha256: str
    xyz_sha256: str
    view: ViewSettings | None = None


class DinoPointMAE:
    """Samples → tokens: RGB (784, 768), geometry (1024, 1152), or (1024, 384) when one block is kept."""

    name = "dino_pointmae"

    def __init__(
        self, image: dino.DinoEncoder, cloud: point_mae.PointMAEEncoder, settings: DinoPointMAESettings
    ) -> None:
        self.image, self.cloud, self.settings = image, cloud, settings
        self.rgb_width, self.xyz_width = dino.WIDTH, cloud.width
        self.view = settings.view

    def state_dict(self) -> dict[str, Tensor]:
        """Empty: the weights stay in their own files, known by their sha256."""
        return {}

    def fingerprint(self) -> dict[str, Any]:
        """Everything that the tokens depend on besides the sample, as JSON values."""
        found = {"extractor": self.name, **asdict(self.settings)}
        return found if self.view else {name: value for name, value in found.items() if name != "view"}

    @torch.no_grad()
    def extract(self, rgb: Tensor, xyz: Tensor, valid: Tensor) -> list[Tokens]:
        """Extract the tokens of a batch.

        Args:
            rgb: (B, 3, 224, 224) ImageNet-normalised.
            xyz: (B, 3, 224, 224) metres.
            valid: (B, 224, 224) bool, True = the pixel holds a point.

        Returns:
            One Tokens a sample, on the device of the input.
        """
        rgb_tokens = self.image(rgb)  # (B, 784, 768)
        groups = group_clouds(xyz, valid, point_mae.N_GROUPS)
        group_tokens = torch.stack([self._describe(g) for g in groups])  # (B, 1024, 384)
        xyz_tokens = self.cloud(group_tokens, torch.stack([g.centres for g in groups]))
        size = rgb.shape[-1]
        return [make_tokens(*sample, size=size) for sample in zip(rgb_tokens, xyz_tokens, groups, strict=True)]

    def fit(self, nominal: Iterable[Tokens]) -> None:
        """There is nothing to learn."""

    def standardise(self, tokens: Tokens) -> Tokens:
        """They stay as they are."""
        return tokens

    def _describe(self, groups: PointGroups) -> Tensor:
        """(G, 384) mini-PointNet tokens of one cloud; zeros for a cloud without points."""
        if len(groups.points) == 0:
            return groups.centres.new_zeros(point_mae.N_GROUPS, point_mae.WIDTH)
        offsets = group_points(groups.points, groups.centres, point_mae.GROUP_SIZE)
        return self.cloud.describe_groups(offsets, current_statistics=self.settings.mode == "batchnorm")


def blank_encoders() -> tuple[dino.DinoEncoder, point_mae.PointMAEEncoder]:
    """Both encoders with memory for their weights, all of which are to be loaded: random ones take a second to draw."""
    with torch.device("meta"):
        image, cloud = dino.DinoEncoder(), point_mae.PointMAEEncoder()
    return image.to_empty(device="cpu"), cloud.to_empty(device="cpu")


def build_dino_pointmae(
    device: torch.device,
    mode: str,
    keep_blocks: int,
    precision: str,
    rgb_weights: Path | None,
    xyz_weights: Path | None,
    view: ViewSettings | None = None,
) -> DinoPointMAE:
    """Load both extractors strictly.

    Args:
        device: where they run.
        mode, keep_blocks, precision, view: see DinoPointMAESettings.
        rgb_weights, xyz_weights: files to use instead of the public ones, which are downloaded on first use.

    Raises:
        UserError: a weight file is missing, damaged or of another model.
    """
    rgb_path = weights.find_or_download("dino", rgb_weights)
    xyz_path = weights.find_or_download("point_mae", xyz_weights)
    image, cloud = blank_encoders()
    weights.load_strict(image.vit, weights.dino_state(rgb_path), rgb_path)
    weights.load_strict(cloud, weights.point_mae_encoder_state(xyz_path), xyz_path)
    for encoder in (image, cloud):
        encoder.prune(keep_blocks)
        encoder.set_precision(product_type(device, precision))
        encoder.to(device)
    hashes = weights.weight_sha256(rgb_path), weights.weight_sha256(xyz_path)
    settings = DinoPointMAESettings(mode, keep_blocks, precision, *hashes, view)
    return DinoPointMAE(image, cloud, settings)
