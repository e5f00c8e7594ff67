"""Deterministic stand-in weights, so that two implementations can be compared without the pretrained files.

value(name, shape) depends only on the parameter's name and shape. Names: 'rgb/<timm key>', 'xyz/<Point-MAE key>',
'CFM_2Dto3D/<key>', 'CFM_3Dto2D/<key>'.
"""

import zlib

import numpy as np


def value(name: str, shape: tuple[int, ...]) -> np.ndarray:
    leaf = name.rsplit("/", 1)[1]
    n = np.random.default_rng(zlib.crc32(name.encode())).standard_normal(shape).astype(np.float32)
    if leaf.endswith("num_batches_tracked"):
        return np.zeros(shape, np.int64)
    if leaf.endswith("running_var"):
        return 1 + 0.2 * np.abs(n)
    if leaf.endswith("running_mean"):
        return 0.1 * n
    if leaf in ("cls_token", "pos_embed") or leaf.endswith("mask_token"):
        return 0.2 * n
    if len(shape) <= 1:
        is_norm_scale = leaf.endswith("weight")
        return (1 + 0.2 * n) if is_norm_scale else 0.05 * n
    return n / np.sqrt(np.prod(shape[1:], dtype=np.float32))


def fill(state_shapes: dict[str, tuple[int, ...]], prefix: str) -> dict[str, np.ndarray]:
    return {k: value(f"{prefix}/{k}", tuple(s)) for k, s in state_shapes.items()}
