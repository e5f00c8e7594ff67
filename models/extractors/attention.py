"""Attention of both transformers: torch's fused routine, except where its parts are faster."""

import torch
from torch import Tensor
from torch.nn import functional


def attend(query: Tensor, key: Tensor, value: Tensor) -> Tensor:
    """Scaled dot-product attention: (B, heads, G, D) each → (B, heads, G, D)."""
    if is_faster_unfused(query):
        return (query * query.shape[-1] ** -0.5 @ key.transpose(-2, -1)).softmax(dim=-1) @ value
    return functional.scaled_dot_product_attention(query, key, value)


def is_faster_unfused(x: Tensor) -> bool:
    """Whether attention on this device, in this type, is faster in three steps: torch's fused one has no bfloat16
    matrix products on CPUs."""
    return x.device.type == "cpu" and x.dtype == torch.bfloat16
