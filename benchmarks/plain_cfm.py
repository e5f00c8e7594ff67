"""Crossmodal Feature Mapping written the obvious way: dense, step by step, nothing re-ordered.

The oracle that the tests compare the project's code with, and the baseline of the benchmarks. It shares no code with
`models/`: it takes state dicts and does the arithmetic itself. One sample at a time, CPU, float32.

N valid points, G = 1024 groups, M = 128 points a group, H = W = 224.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

State = Mapping[str, Tensor]
SIZE, GROUPS, GROUP_SIZE, HEADS = 224, 1024, 128, 6


@dataclass(frozen=True)
class PlainFeatures:
    """Dense features of one sample: rgb (50176, 768), xyz (50176, 1152), foreground (50176,) bool."""

    rgb: Tensor
    xyz: Tensor
    foreground: Tensor


def sample_centres(points: Tensor, n_samples: int = GROUPS) -> Tensor:
    """Farthest point sampling from point 0; points with |p|² ≤ 1e-3 are skipped. (N, 3) → (G,)."""
    kept = points.square().sum(1) > 1e-3
    distances = torch.where(kept, torch.inf, -1.0)
    picks = [0]
    for _ in range(n_samples - 1):
        squared = (points - points[picks[-1]]).square()
        updated = torch.minimum(distances, squared[:, 0] + squared[:, 1] + squared[:, 2])
        distances = torch.where(kept, updated, distances)
        picks.append(int(distances.argmax()) if kept.any() else 0)
    return torch.tensor(picks)


def nearest(queries: Tensor, points: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """Brute-force neighbours: squared distances and indices, (Q, k) each; where N < k, the nearest repeats."""
    squared = torch.stack([(q - points).square().sum(1) for q in queries])
    found = squared.topk(min(k, len(points)), largest=False)
    repeat = k - found.values.shape[1]
    return (
        torch.cat([found.values, found.values[:, :1].expand(-1, repeat)], 1),
        torch.cat([found.indices, found.indices[:, :1].expand(-1, repeat)], 1),
    )


def batch_norm(x: Tensor, state: State, name: str, mode: str) -> Tensor:
    """Batch normalisation of (rows, D), with the running statistics or (`batchnorm`) with those of the rows."""
    mean, variance = state[f"{name}.running_mean"], state[f"{name}.running_var"]
    if mode == "batchnorm":
        mean, variance = x.mean(0), x.var(0, unbiased=False)
    return (x - mean) / (variance + 1e-5).sqrt() * state[f"{name}.weight"] + state[f"{name}.bias"]


def linear(x: Tensor, state: State, name: str) -> Tensor:
    """The linear layer, or 1×1 convolution, of this name, applied to the last axis."""
    weight = state[f"{name}.weight"].flatten(1)
    return functional.linear(x, weight, state.get(f"{name}.bias"))


def describe_groups(offsets: Tensor, state: State, mode: str) -> Tensor:
    """Mini-PointNet: (G, M, 3) → (G, 384)."""
    groups, members = offsets.shape[:2]
    x = linear(offsets.reshape(-1, 3), state, "encoder.first_conv.0")
    x = batch_norm(x, state, "encoder.first_conv.1", mode).relu()
    x = linear(x, state, "encoder.first_conv.3").view(groups, members, 256)
    x = torch.cat([x.max(1, keepdim=True).values.expand_as(x), x], dim=2)
    x = linear(x.reshape(-1, 512), state, "encoder.second_conv.0")
    x = batch_norm(x, state, "encoder.second_conv.1", mode).relu()
    return linear(x, state, "encoder.second_conv.3").view(groups, members, 384).max(1).values


def attention(x: Tensor, state: State, name: str) -> Tensor:
    """Multi-head self-attention of (G, 384) rows."""
    query, key, value = linear(x, state, f"{name}.qkv").view(len(x), 3, HEADS, -1).permute(1, 2, 0, 3)
    weights = (query @ key.transpose(1, 2) / query.shape[-1] ** 0.5).softmax(-1)
    return linear((weights @ value).transpose(0, 1).reshape(len(x), -1), state, f"{name}.proj")


def layer_norm(x: Tensor, state: State, name: str) -> Tensor:
    """Layer normalisation of the last axis."""
    return functional.layer_norm(x, x.shape[-1:], state[f"{name}.weight"], state[f"{name}.bias"], 1e-5)


def geometry_tokens(groups: Tensor, centres: Tensor, state: State) -> Tensor:
    """Twelve transformer blocks: group descriptions (G, 384) and centres (G, 3) → (G, 1152)."""
    position = linear(functional.gelu(linear(centres, state, "pos_embed.0")), state, "pos_embed.2")
    x, outputs = groups, []
    for i in range(12):
        name = f"blocks.blocks.{i}"
        x = x + position
        x = x + attention(layer_norm(x, state, f"{name}.norm1"), state, f"{name}.attn")
        hidden = functional.gelu(linear(layer_norm(x, state, f"{name}.norm2"), state, f"{name}.mlp.fc1"))
        x = x + linear(hidden, state, f"{name}.mlp.fc2")
        if i in (3, 7, 11):
            outputs.append(layer_norm(x, state, "norm"))
    return torch.cat(outputs, dim=1)


def lift_geometry(tokens: Tensor, centres: Tensor, points: Tensor, valid: Tensor) -> tuple[Tensor, Tensor]:
    """Tokens (G, D) → dense features (50176, D) and the foreground (50176,) bool."""
    squared, indices = nearest(points, centres, 3)
    weights = 1 / (squared.double() + 1e-8)
    weights = (weights / weights.sum(1, keepdim=True)).float()
    grid = torch.zeros(SIZE * SIZE, tokens.shape[1])
    grid[valid.flatten()] = (tokens[indices] * weights[..., None]).sum(1)

    def pool(values: Tensor) -> Tensor:
        """3×3 mean without padding, then adaptive pooling back: (50176, D) → (50176, D)."""
        image = functional.avg_pool2d(values.T.reshape(1, -1, SIZE, SIZE), 3, stride=1)
        return functional.adaptive_avg_pool2d(image, SIZE).flatten(2)[0].T

    return pool(grid), pool(valid.flatten()[:, None].float())[:, 0] > 0


def lift_rgb(tokens: Tensor) -> Tensor:
    """Tokens (784, D) of a 28×28 grid → dense features (50176, D)."""
    side = round(len(tokens) ** 0.5)
    grid = tokens.T.reshape(1, -1, side, side)
    return functional.interpolate(grid, SIZE, mode="bilinear", align_corners=False).flatten(2)[0].T


def extract(rgb: Tensor, xyz: Tensor, valid: Tensor, vit: nn.Module, point_mae: State, mode: str) -> PlainFeatures:
    """Features of one sample: (3, 224, 224) normalised image, (3, 224, 224) metres, (224, 224) bool, True = valid.

    `vit` is timm's model with a `forward_features` that keeps the class token first; `point_mae` the encoder's state.
    """
    with torch.no_grad():
        features_2d = lift_rgb(vit.forward_features(rgb[None])[0, 1:])  # type: ignore[operator]
        points = xyz[:, valid].T
        centres = points[sample_centres(points)]
        offsets = points[nearest(centres, points, GROUP_SIZE)[1]] - centres[:, None]
        tokens = geometry_tokens(describe_groups(offsets, point_mae, mode), centres, point_mae)
        features_3d, foreground = lift_geometry(tokens, centres, points, valid)
    return PlainFeatures(features_2d, features_3d, foreground)


def map_features(features: Tensor, state: State) -> Tensor:
    """A mapper of either size: (rows, in) → (rows, out)."""
    inner = ["projection"] if "projection.weight" in state else [f"projection_{letter}" for letter in "abcde"]
    for name in ["input", *inner]:
        features = functional.gelu(linear(features, state, name))
    return linear(features, state, "output")


def loss(features: PlainFeatures, rgb_to_xyz: State, xyz_to_rgb: State) -> tuple[Tensor, Tensor]:
    """The two losses of one image, every pixel mapped, the mean taken over the foreground."""

    def distance(mapped: Tensor, target: Tensor) -> Tensor:
        return (1 - functional.cosine_similarity(mapped, target, dim=1, eps=1e-6))[features.foreground].mean()

    return (
        distance(map_features(features.rgb, rgb_to_xyz), features.xyz),
        distance(map_features(features.xyz, xyz_to_rgb), features.rgb),
    )


def smooth(values: Tensor) -> Tensor:
    """(224, 224): five 5×5 box means, then three 7×7, zero padding."""
    for width in [5] * 5 + [7] * 3:
        box = torch.ones(1, 1, width, width) / width**2
        values = functional.conv2d(values[None, None], box, padding=width // 2)[0, 0]
    return values


def anomaly_maps(features: PlainFeatures, rgb_to_xyz: State, xyz_to_rgb: State) -> tuple[Tensor, Tensor, Tensor]:
    """Ψ_2D, Ψ_3D and the smoothed product, each (224, 224)."""
    normalise: Callable[..., Tensor] = functional.normalize
    with torch.no_grad():
        psi_3d = (normalise(map_features(features.rgb, rgb_to_xyz)) - normalise(features.xyz)).norm(dim=1)
        psi_2d = (normalise(map_features(features.xyz, xyz_to_rgb)) - normalise(features.rgb)).norm(dim=1)
        psi_2d, psi_3d = (torch.where(features.foreground, psi, 0.0).view(SIZE, SIZE) for psi in (psi_2d, psi_3d))
        return psi_2d, psi_3d, smooth(psi_2d * psi_3d)


def image_score(smoothed: Tensor) -> float:
    """Maximum over the root of the mean of the non-zero entries; 0 for an all-zero map."""
    nonzero = smoothed[smoothed != 0]
    return float(smoothed.max() / nonzero.mean().sqrt()) if len(nonzero) else 0.0
