"""Descriptors that need no pretrained weights: local colour statistics and local shape at several scales.

RGB tokens (72 wide, 56×56 grid): Gaussian derivatives up to the second order of opponent colours. Geometry tokens (38
wide, 1024 groups): the Gaussian-weighted mean, covariance and normal of the surface around a centre, and how
they change from scale to scale. Both are standardised with the mean and deviation over the foreground of nominal
samples, and clipped, so that the direction of a feature carries meaning. Scales are standard deviations in pixels.

Sources of the parts: opponent colours (van de Sande et al., PAMI 2010), Gaussian derivatives (Koenderink and van Doorn,
1987), surface variation from covariances (Pauly et al., IEEE Visualization 2002).
"""

from collections.abc import Iterable, Mapping
from dataclasses import asdict
from itertools import combinations
from typing import Any

import torch
from torch import Tensor

from models.gaussian import gaussian_matrix
from models.tokens import ModalityTokens, Tokens, group_clouds, make_tokens
from utils.errors import UserError
from utils.view import ViewSettings

VERSION = 1
"""Part of the fingerprint: to be raised when the descriptors change."""

GRID_SIDE = 56
N_GROUPS = 1024
SCALES = (1.5, 3.0, 6.0, 12.0)
NORMAL_SCALES = (1.5, 3.0, 6.0)
CLIP = 3.0
"""Largest magnitude of a standardised feature."""


class Handcrafted:
    """Samples → tokens: RGB (3136, 72), geometry (1024, 38). Its statistics come from `fit` or from a checkpoint."""

    name = "handcrafted"
    rgb_width = 3 * 6 * len(SCALES)
    xyz_width = 5 * len(SCALES) + 2 * len(NORMAL_SCALES) + len(SCALES) * (len(SCALES) - 1)

    def __init__(self) -> None:
        self._statistics: dict[str, Tensor] = {}
        self.view: ViewSettings | None = None

    @classmethod
    def from_state(cls, state: Mapping[str, Tensor]) -> "Handcrafted":
        """An extractor with the statistics that `state_dict` gave.

        Raises:
            UserError: the state is not one of this extractor.
        """
        extractor = cls()
        widths = {"rgb": cls.rgb_width, "xyz": cls.xyz_width}
        expected = {f"{kind}_{part}": (width,) for kind, width in widths.items() for part in ("mean", "deviation")}
        found = {name: tuple(value.shape) if isinstance(value, Tensor) else value for name, value in state.items()}
        if found != expected or any(value.dtype != torch.float32 for value in state.values()):
            raise UserError(f"statistics of `handcrafted`: expected {expected}, found {found}. Train again.")
        extractor._statistics = dict(state)
        return extractor

    def state_dict(self) -> dict[str, Tensor]:
        """Means and deviations over the foreground of the nominal samples: (72,) and (38,) float32 each."""
        return dict(self._statistics)

    def fingerprint(self) -> dict[str, Any]:
        """Everything that the tokens depend on besides the sample, as JSON values."""
        view = {"view": asdict(self.view)} if self.view else {}
        return {"extractor": self.name, "version": VERSION, **view}

    @torch.no_grad()
    def fit(self, nominal: Iterable[Tokens]) -> None:
        """Take the statistics of nominal samples.

        Raises:
            UserError: they have not a single valid point, or there are none.
        """
        sums = {"rgb": torch.zeros(3, self.rgb_width).double(), "xyz": torch.zeros(3, self.xyz_width).double()}
        for tokens in nominal:
            for kind, part in (("rgb", tokens.rgb), ("xyz", tokens.xyz)):
                values = part.lifted().cpu().double()
                sums[kind] += torch.stack([torch.ones_like(values), values, values.square()]).sum(dim=1)
        if not sums["xyz"][0].any():
            raise UserError("the handcrafted extractor was given no valid point to take statistics of.")
        for kind, (count, total, squares) in sums.items():
            mean = total / count
            deviation = (squares / count - mean.square()).clamp(min=1e-12).sqrt()
            self._statistics |= {f"{kind}_mean": mean.float(), f"{kind}_deviation": deviation.float()}

    @torch.no_grad()
    def extract(self, rgb: Tensor, xyz: Tensor, valid: Tensor) -> list[Tokens]:
        """Extract the tokens of a batch.

        Args:
            rgb: (B, 3, H, W) ImageNet-normalised.
            xyz: (B, 3, H, W) metres.
            valid: (B, H, W) bool, True = the pixel holds a point.

        Returns:
            One Tokens a sample, on the device of the input, not standardised.
        """
        found = []
        for image, cloud, mask, groups in zip(rgb, xyz, valid, group_clouds(xyz, valid, N_GROUPS), strict=True):
            described = describe_colours(image), describe_shape(cloud, mask, groups.picks)
            found.append(make_tokens(*described, groups, image.shape[-1]))
        return found

    @torch.no_grad()
    def standardise(self, tokens: Tokens) -> Tokens:
        """With the statistics, and clipped.

        Raises:
            UserError: there are none yet.
        """
        if not self._statistics:
            raise UserError("the handcrafted extractor has no statistics: fit it on nominal samples first.")
        rgb, xyz = self._standardise(tokens.rgb, "rgb"), self._standardise(tokens.xyz, "xyz")
        return Tokens(rgb, xyz, tokens.foreground, tokens.size)

    def _standardise(self, part: ModalityTokens, kind: str) -> ModalityTokens:
        values = part.tokens
        mean, deviation = (self._statistics[f"{kind}_{name}"].to(values.device) for name in ("mean", "deviation"))
        return ModalityTokens(((values - mean) / deviation).clamp(-CLIP, CLIP), part.lift)


def describe_colours(rgb: Tensor) -> Tensor:
    """(3, S, S) normalised image → (56·56, 72) float32, cells row-major."""
    red, green, blue = rgb
    opponent = torch.stack([(red + green + blue) / 3, red - green, (red + green) / 2 - blue])  # (3, S, S)

    def derive(scale: float, rows: int, columns: int) -> Tensor:
        """Gaussian derivative of these orders along rows and columns at the cell centres: (3, 56, 56)."""
        size, device = rgb.shape[-1], rgb.device
        down = gaussian_matrix(size, GRID_SIDE, scale, rows, device=device)
        across = gaussian_matrix(size, GRID_SIDE, scale, columns, device=device)
        return down @ opponent @ across.T

    features = []
    for scale in SCALES:
        features += [derive(scale, *orders) for orders in ((0, 0), (0, 1), (1, 0), (1, 1))]
        across, down = derive(scale, 0, 2), derive(scale, 2, 0)
        features += [across + down, across - down]
    return torch.cat(features).flatten(1).T.contiguous()


def describe_shape(xyz: Tensor, valid: Tensor, picks: Tensor) -> Tensor:
    """Local shape around the centres of groups.

    At each scale: distance from the local plane, spread along the normal, shares of the two smaller eigenvalues, share
    of the window that is valid, direction of the normal. For each pair of scales: distance between the local means
    along the coarser normal, and cosine between the normals. Moving the cloud does not change them.

    Args:
        xyz: (3, H, W) metres.
        valid: (H, W) bool.
        picks: (G,) which valid points, row-major, are the centres.

    Returns:
        (G, 38) float32, zeros for a cloud without points.
    """
    if not valid.any():
        return xyz.new_zeros(len(picks), Handcrafted.xyz_width)
    down, across = (slice(int(places.min()), int(places.max()) + 1) for places in valid.nonzero(as_tuple=True))
    xyz, valid = xyz[:, down, across], valid[down, across]  # what lies around the object is zero and weighs nothing
    millimetres = (xyz - xyz[:, valid].mean(dim=1)[:, None, None]).double() * 1000 * valid  # (3, h, w)
    centres = millimetres[:, valid].T[picks]  # (G, 3)
    rows, columns = (places[picks] for places in valid.nonzero(as_tuple=True))
    moments = {scale: _local_moments(millimetres, valid, rows, columns, scale) for scale in SCALES}
    features, means, normals = [], {}, {}
    for scale, (weight, mean, covariance) in moments.items():
        eigenvalues, eigenvectors = torch.linalg.eigh(covariance)
        eigenvalues = eigenvalues.clamp(min=0)
        spread = eigenvalues.sum(dim=1).clamp(min=1e-9)
        normal = eigenvectors[:, :, 0]
        normal = torch.where(normal[:, 2:] > 0, -normal, normal)  # towards the camera
        features += [((centres - mean) * normal).sum(dim=1) / scale, eigenvalues[:, 0].sqrt() / scale]
        features += [eigenvalues[:, 1] / spread, eigenvalues[:, 0] / spread, weight]
        features += [normal[:, 0], normal[:, 1]] if scale in NORMAL_SCALES else []
        means[scale], normals[scale] = mean, normal
    for fine, coarse in combinations(SCALES, 2):
        features.append(((means[fine] - means[coarse]) * normals[coarse]).sum(dim=1) / coarse)
        features.append((normals[fine] * normals[coarse]).sum(dim=1))
    return torch.stack(features, dim=1).float()


def _local_moments(
    points: Tensor, valid: Tensor, rows: Tensor, columns: Tensor, scale: float
) -> tuple[Tensor, Tensor, Tensor]:
    """Gaussian-weighted moments of the valid points in an image window.

    Args:
        points: (3, H, W) float64.
        valid: (H, W) bool.
        rows, columns: (G,) centres of the windows.
        scale: pixels.

    Returns:
        Weight of the valid pixels (G,) in [0, 1], mean (G, 3), covariance (G, 3, 3).
    """
    pairs = torch.stack([points[i] * points[j] for i in range(3) for j in range(i, 3)])  # (6, H, W)
    height, width = valid.shape
    down = gaussian_matrix(height, height, scale, 0, clamp=False, device=points.device).to(points)
    across = gaussian_matrix(width, width, scale, 0, clamp=False, device=points.device).to(points)
    smoothed = down @ torch.cat([valid[None].to(points), points, pairs]) @ across.T  # (10, H, W)
    weight, *sums = smoothed[:, rows, columns]
    first = torch.stack(sums[:3], dim=1) / weight.clamp(min=1e-6)[:, None]
    second = torch.stack(sums[3:], dim=1) / weight.clamp(min=1e-6)[:, None]
    matrix = second[:, [0, 1, 2, 1, 3, 4, 2, 4, 5]].unflatten(1, (3, 3))
    return weight, first, matrix - first[:, :, None] * first[:, None, :]
