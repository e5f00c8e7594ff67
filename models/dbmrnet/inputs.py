"""From samples to what the network takes: image, sampled points, and neighbourhoods, which depend on the sample alone.

Points are in the camera's axes (x to the right, y down, z forward), centred and scaled to the unit sphere. Which points
may become neighbours is decided by (x, y) only, so that a list of candidates says nothing about depths.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields

import torch
from torch import Tensor
from torch.nn import functional

from models.dbmrnet.camera import fit_camera
from models.dbmrnet.descriptors import describe
from models.dbmrnet.neighbours import CANDIDATES, nearest_in_plane, take, visible_neighbours
from models.dbmrnet.settings import ModelSettings
from models.point_ops import farthest_point_sampling
from models.token_store import GridSample
from utils.devices import send

CAMERA_POINTS = 4096  # about as many points decide the camera


@dataclass(frozen=True)
class Inputs:
    """A batch of B prepared samples.

    image: (B, 3, S, S) a square of the sample's image, resized.
    window: (B, 3) left, top and side of that square, in pixels of the H grid.
    cloud: (B, 3, H, H) normalised points of all pixels, 0 where invalid.
    valid: (B, H, H) bool, True = measured.
    points: (B, N, 3) sampled points.
    camera: (B, 3, 4), see `camera`: normalised points → pixels of the H grid.
    axes: (B, 3, 3), middle: (B, 3) and scale: (B,): the normalisation; a point p in metres in the sample's frame
        becomes (axes·p − middle) / scale.
    centres: (B, G0, 3) some of the points; the first G1 and G2 of them are the centres of the later stages.
    owners: (B, N) int64 and centre_owners: (B, G0) int64, the point token in [0, T3) that each point and each centre
        belongs to: that of the nearest centre in (x, y).
    near: indices of the candidates of the stages' centres, nearest first: (B, G0, 4k0) into the points, (B, G1, 4k1)
        and (B, G2, 4k2) into the centres of the stage before.
    groups: (B, G2, R) int64 indices into the points: those that are to be rebuilt of each point token, nearest first.
    descriptors: (B, 2, C·C, W) float16, local descriptors of image and surface on cells of the window.
    covered: (B, C·C) bool, True = a cell on the object.
    """

    image: Tensor
    window: Tensor
    cloud: Tensor
    valid: Tensor
    points: Tensor
    camera: Tensor
    axes: Tensor
    middle: Tensor
    scale: Tensor
    centres: Tensor
    owners: Tensor
    centre_owners: Tensor
    groups: Tensor
    descriptors: Tensor
    covered: Tensor
    near: tuple[Tensor, Tensor, Tensor]

    def __len__(self) -> int:
        return len(self.image)

    def select(self, indices: Tensor) -> "Inputs":
        """The samples of these indices, (B',) int64 on the device of the inputs."""
        return _combine([self], lambda parts: parts[0][indices])

    @staticmethod
    def concatenate(items: Sequence["Inputs"]) -> "Inputs":
        """One batch of several."""
        return _combine(items, torch.cat)


def _combine(items: Sequence[Inputs], function: Callable[[list[Tensor]], Tensor]) -> Inputs:
    """Every field from those of the items."""
    names = [field.name for field in fields(Inputs) if field.name != "near"]
    stages = zip(*(item.near for item in items), strict=True)
    first, second, third = (function(list(parts)) for parts in stages)
    return Inputs(
        **{name: function([getattr(item, name) for item in items]) for name in names}, near=(first, second, third)
    )


def prepare(samples: Sequence[GridSample], settings: ModelSettings, seed: int, device: torch.device) -> Inputs:
    """Prepare samples on `device`.

    Args:
        samples: at least one; one without a valid point becomes a single point at the origin.
        settings: of the network.
        seed: of the sampling; the points drawn of a sample depend on it and the sample only.
    """
    sizes = settings.sizes
    single = [_prepare(sample, settings, seed) for sample in samples]
    made = {name: send(torch.stack([item[name] for item in single]), device) for name in single[0]}
    descriptors, covered = _described(samples, made["window"])
    points = made["points"]
    # Moved away from the origin, near which the sampler skips points.
    picks = farthest_point_sampling(list(points + 2), sizes.centres[0])
    centres = take(points, picks)
    middle, last = centres[:, : sizes.centres[1]], centres[:, : sizes.centres[2]]
    first, second, third = sizes.neighbours
    near = (
        nearest_in_plane(centres, points, CANDIDATES * first),
        nearest_in_plane(middle, centres, CANDIDATES * second),
        nearest_in_plane(last, middle, CANDIDATES * third),
    )
    around = nearest_in_plane(last, points, CANDIDATES * sizes.rebuilt)
    groups, _ = visible_neighbours(last, points, around, None, sizes.rebuilt)
    owners = nearest_in_plane(points, last, 1)[..., 0]
    made |= {"owners": owners, "centre_owners": take(owners, picks), "descriptors": descriptors, "covered": covered}
    return Inputs(**made, centres=centres, groups=groups, near=near)


def _described(samples: Sequence[GridSample], windows: Tensor) -> tuple[Tensor, Tensor]:
    """Local descriptors and covered cells, one sample after the other: rounding must not depend on the others."""
    parts = []
    for sample, window in zip(samples, windows, strict=True):
        rgb, xyz, valid = (send(part[None], windows.device) for part in (sample.rgb, sample.xyz, sample.valid))
        parts.append(describe(rgb, xyz, valid, window[None]))
    return torch.cat([values for values, _ in parts]), torch.cat([flags for _, flags in parts])


def _prepare(sample: GridSample, settings: ModelSettings, seed: int) -> dict[str, Tensor]:
    """The fields of `Inputs` that are made sample by sample on the CPU, without their first axis."""
    sizes = settings.sizes
    pixels = sample.valid.nonzero().flip(1)  # (M, 2) as u, v
    points = sample.xyz.permute(1, 2, 0)[sample.valid].double()  # (M, 3) metres
    if not len(points):
        pixels, points = pixels.new_zeros(1, 2), points.new_zeros(1, 3)
    step = max(1, len(points) // CAMERA_POINTS)
    camera, axes = fit_camera(points[::step], pixels[::step].double(), sample.valid.shape[0])
    turned = points @ axes.T
    middle = turned.mean(dim=0)
    scale = (turned - middle).norm(dim=1).max().clamp(min=1e-9)
    normalised = ((turned - middle) / scale).float()
    back = camera[:, :3] @ axes.T
    camera = torch.cat([back * scale, (back @ middle + camera[:, 3])[:, None]], dim=1)
    cloud = torch.zeros_like(sample.xyz)
    if sample.valid.any():
        cloud[:, sample.valid] = normalised.T
    generator = torch.Generator().manual_seed(seed)
    drawn = _draw(normalised, cloud, sample.valid, sizes.points, settings.sampler, generator)
    left, top, side = object_window(sample.valid) if settings.view == "object" else (0, 0, sample.valid.shape[0])
    seen = sample.rgb[None, :, top : top + side, left : left + side]
    image = functional.interpolate(seen, (sizes.image_size,) * 2, mode="bilinear", antialias=True)[0]
    return {
        "image": image,
        "window": torch.tensor([left, top, side]).float(),
        "cloud": cloud,
        "valid": sample.valid,
        "points": normalised[drawn],
        "camera": camera.float(),
        "axes": axes.float(),
        "middle": middle.float(),
        "scale": scale.float(),
    }


def object_window(valid: Tensor) -> tuple[int, int, int]:
    """Left, top and side of a square around all valid pixels of (H, H), with a twentieth of their extent as border,
    inside the image; the whole image when nothing is valid."""
    size = valid.shape[0]
    if not valid.any():
        return 0, 0, size
    bounds = [flags.nonzero().flatten()[[0, -1]].tolist() for flags in (valid.any(dim=0), valid.any(dim=1))]
    side = min(size, round(1.1 * (max(last - first for first, last in bounds) + 1)))
    left, top = (min(max(0, (first + last + 1 - side) // 2), size - side) for first, last in bounds)
    return left, top, side


def to_metres(inputs: Inputs, points: Tensor) -> Tensor:
    """Normalised points (B, P, 3) in metres in the samples' frame."""
    return (points * inputs.scale[:, None, None] + inputs.middle[:, None]) @ inputs.axes


def grid_pixels(size: int, device: torch.device) -> Tensor:
    """All pixels of a square grid, row-major: (1, size², 2) as u, v."""
    side = torch.arange(size, device=device, dtype=torch.float32)
    return torch.stack(torch.meshgrid(side, side, indexing="xy"), dim=-1).view(1, -1, 2)


def to_window(inputs: Inputs, pixels: Tensor, size: int) -> Tensor:
    """Pixels (B, P, 2) of the H grid → pixels of the image's square divided into `size` a side."""
    return (pixels + 0.5 - inputs.window[:, None, :2]) * (size / inputs.window[:, None, 2:]) - 0.5


def _draw(
    points: Tensor, cloud: Tensor, valid: Tensor, n_points: int, sampler: str, generator: torch.Generator
) -> Tensor:
    """Indices (N,) of the sampled points; all points come before one comes again."""
    count = len(points)
    repeats = [torch.randperm(count, generator=generator) for _ in range(n_points // count)]
    rest = n_points % count
    if sampler == "random" or not rest:
        last = torch.randperm(count, generator=generator)[:rest]
    elif sampler == "fps":
        last = farthest_point_sampling([points + 2], rest)[0]
    else:
        change = _normal_change(cloud, valid)[valid]
        # As likely as in a uniform draw on average, and half as likely where nothing bends.
        last = torch.multinomial(0.5 + 0.5 * change / change.mean().clamp(min=1e-6), rest, generator=generator)
    return torch.cat([*repeats, last])


def _normal_change(cloud: Tensor, valid: Tensor) -> Tensor:
    """How much the surface bends at each pixel: 1 − length of the mean normal in a 5×5 window, (3, H, H) → (H, H).

    0 at the object's rim, where a neighbour is missing; normals there do not enter the means either.
    """
    inside = (functional.avg_pool2d(valid[None].float(), 3, stride=1, padding=1) > 0.99)[0]
    down, right = torch.gradient(cloud, dim=(1, 2))
    normals = functional.normalize(torch.linalg.cross(right, down, dim=0), dim=0)  # (3, H, H)
    sums = functional.avg_pool2d(torch.cat([normals, inside[None]]) * inside, 5, stride=1, padding=2)
    length = sums[:3].square().sum(dim=0).sqrt()  # `norm` takes eighty times as long along this axis
    return (1 - length / sums[3].clamp(min=1e-6)) * inside
