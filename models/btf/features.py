"""The seven feature sets of BTF: what a sample is described by, a row for each of 28×28 cells.

As in its release (3D-ADS, Horwitz and Hoshen, "Back to the Feature", CVPR Workshops 2023), its quirks included, on the
project's samples: those pad a frame that is not square, where the release stretches it.
"""

import math
from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from models.btf.settings import WITH_NETWORK
from models.extractors.backbone import Backbone, colours

CELLS = 28  # a side
CELL = 8  # pixels a side of a cell, in a sample of 224×224

HOG_BINS = 8
SIFT_BINS, SIFT_TAPS, SIFT_POOLING, SIFT_EPS = 8, 4, 4, 1e-10
CLIP, HOG_EPS = 0.2, 1e-5  # of the normalisation of both (L2-Hys: Lowe 2004)
FPFH_WIDTH = 33
NORMAL_RADIUS, NORMAL_NEIGHBOURS = 0.1, 30
FPFH_RADIUS, FPFH_NEIGHBOURS = 0.25, 100
"""Radii in metres are larger than most parts, so that the numbers of neighbours decide."""


def describe(rgb: Tensor, xyz: Tensor, features: str, backbone: Backbone | None) -> Tensor:
    """Rows of one sample.

    Args:
        rgb: (3, 224, 224) ImageNet-normalised.
        xyz: (3, 224, 224) metres, (0, 0, 0) where invalid.
        features: one of `settings.FEATURES`.
        backbone: for those of WITH_NETWORK.

    Returns:
        (784, D) float32, row-major in cells.

    Raises:
        ValueError: the backbone is missing.
    """
    if features in WITH_NETWORK:
        if backbone is None:
            raise ValueError(f"features {features} need a backbone")
        if features == "depth":
            return network_rows(xyz[2].expand(3, -1, -1) * backbone.std + backbone.mean, backbone)
        rows = network_rows(colours(rgb), backbone)
        return rows if features == "rgb" else torch.cat([rows, fpfh_rows(xyz)], dim=1)
    by_name: dict[str, Callable[[], Tensor]] = {
        "raw": lambda: raw_rows(xyz[2]),
        "hog": lambda: hog_rows(xyz[2]),
        "sift": lambda: pool(dense_sift(xyz[2])),
        "fpfh": lambda: fpfh_rows(xyz),
    }
    return by_name[features]()


def width(features: str, backbone: Backbone | None) -> int:
    """Of the rows that `describe` gives."""
    own = {"raw": CELL * CELL, "hog": HOG_BINS, "sift": SIFT_BINS * SIFT_TAPS**2, "fpfh": FPFH_WIDTH, "btf": FPFH_WIDTH}
    return own.get(features, 0) + (sum(backbone.widths[1:]) if backbone else 0)


def pool(features: Tensor) -> Tensor:
    """Mean of 3×3 without padding, then of the cells: (D, h, w) → (784, D)."""
    means = functional.adaptive_avg_pool2d(functional.avg_pool2d(features[None], 3, 1), CELLS)
    return means[0].flatten(1).T.contiguous()


@torch.no_grad()
def network_rows(image: Tensor, backbone: Backbone) -> Tensor:
    """Of the network's levels with strides 8 and 16: (3, 224, 224) colours in [0, 1] → (784, D)."""
    return torch.cat([pool(level[0].float()) for level in backbone(image[None])[1:]], dim=1)


def raw_rows(depth: Tensor) -> Tensor:
    """Depths as they are, (224, 224) → (784, 64).

    A cell gets 64 pixels that follow one another in a row of the image, as in the release, not its own 8×8.
    """
    return depth.reshape(CELLS * CELLS, CELL * CELL)


def hog_rows(depth: Tensor) -> Tensor:
    """Histograms of oriented gradients (Dalal and Triggs, CVPR 2005), a block a cell: (224, 224) → (784, 8).

    Central differences, 0 at the border; each pixel votes with their length for its orientation, modulo 180°, in one of
    eight bins; L2-Hys.
    """
    values = depth.double()
    down, across = torch.zeros_like(values), torch.zeros_like(values)
    down[1:-1] = values[2:] - values[:-2]
    across[:, 1:-1] = values[:, 2:] - values[:, :-2]
    turn = torch.atan2(down, across).remainder(math.pi) / math.pi  # [0, 1]
    bins = (turn * HOG_BINS).long().clamp(max=HOG_BINS - 1)
    votes = functional.one_hot(bins, HOG_BINS) * torch.hypot(down, across)[..., None]  # (224, 224, 8)
    rows = votes.view(CELLS, CELL, CELLS, CELL, HOG_BINS).mean(dim=(1, 3)).flatten(0, 1)

    def unit(rows: Tensor) -> Tensor:
        return rows / (rows.square().sum(dim=1, keepdim=True) + HOG_EPS**2).sqrt()

    return unit(unit(rows).clamp(max=CLIP)).float()


def dense_sift(depth: Tensor) -> Tensor:
    """A RootSIFT descriptor at each pixel (Lowe 2004; Arandjelović and Zisserman, CVPR 2012).

    The release takes kornia's dense descriptor: eight angles, shared linearly between neighbouring bins; triangular
    windows of 4×4 pixels; a descriptor reads 4×4 of these that lie one pixel apart, so that it sees 7×7 pixels.

    Args:
        depth: (224, 224).

    Returns:
        (128, 224, 224): 8 angles × 4 × 4.
    """
    padded = functional.pad(depth[None, None], (1, 1, 1, 1), mode="replicate")[0, 0]
    across = (padded[1:-1, 2:] - padded[1:-1, :-2]) / 2
    down = (padded[2:, 1:-1] - padded[:-2, 1:-1]) / 2
    length = (across.square() + down.square() + SIFT_EPS).sqrt()
    place = torch.atan2(down, across + SIFT_EPS) / (2 * math.pi) * SIFT_BINS
    angles = torch.arange(SIFT_BINS, device=depth.device).view(-1, 1, 1)
    half = SIFT_BINS / 2
    apart = ((place - angles + half).remainder(SIFT_BINS) - half).abs()  # around the circle
    votes = (1 - apart).clamp(min=0) * length  # (8, h, w)
    window = torch.tensor([0.25, 0.75, 0.75, 0.25], device=depth.device)
    pooled = functional.conv2d(votes[:, None], torch.outer(window, window)[None, None], padding=SIFT_POOLING // 2)
    edged = functional.pad(pooled[:, 0], (1, 1, 1, 1))  # (8, h + 3, w + 3)
    height, width = depth.shape
    taps = [edged[:, i : i + height, j : j + width] for i in range(SIFT_TAPS) for j in range(SIFT_TAPS)]
    descriptors = torch.stack(taps, dim=1).flatten(0, 1)  # none is zero, since no gradient is
    descriptors.div_(descriptors.norm(dim=0)).clamp_(max=CLIP)
    # Their Euclidean norm, which is divided by next, cancels in that of RootSIFT, the sum.
    return descriptors.div_(descriptors.sum(dim=0)).add_(SIFT_EPS).sqrt_()


def fpfh_rows(xyz: Tensor) -> Tensor:
    """Fast point feature histograms (Rusu et al., ICRA 2009): (3, 224, 224) metres → (784, 33)."""
    points = xyz.cpu().flatten(1).T.numpy()
    valid = np.flatnonzero((points != 0).all(axis=1))
    features = torch.zeros(len(points), FPFH_WIDTH)
    if len(valid):
        features[torch.from_numpy(valid)] = torch.from_numpy(fpfh(points[valid])).float()
    return pool(features.T.reshape(FPFH_WIDTH, *xyz.shape[1:])).to(xyz.device)


def fpfh(points: np.ndarray) -> np.ndarray:
    """(N, 3) metres → (N, 33), three histograms of 11 bins; normals as Open3D orients them."""
    import open3d

    search = open3d.geometry.KDTreeSearchParamHybrid
    cloud = open3d.geometry.PointCloud(open3d.utility.Vector3dVector(points.astype(np.float64)))
    cloud.estimate_normals(search(radius=NORMAL_RADIUS, max_nn=NORMAL_NEIGHBOURS))
    features = open3d.pipelines.registration.compute_fpfh_feature(  # type: ignore[call-arg]  # indices may be left out
        cloud, search(radius=FPFH_RADIUS, max_nn=FPFH_NEIGHBOURS)
    )
    return np.array(features.data.T)
