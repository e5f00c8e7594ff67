"""The training loss of Crossmodal Feature Mapping (CFM paper, section 3.2), through a mapper's last layer.

The last layer m = W·g + b is the widest, and the loss 1 − cos(m, f) sees of it only m·f and |m|². Both can be had from
the activations g before it,

    m·f = g·Wᵀf + b·f          |m|² = g·Wᵀm + b·m,  Wᵀm = WᵀW·g + Wᵀb,  b·m = g·Wᵀb + |b|²

where f = L·T is lifted from tokens, so that Wᵀf = L·(T·W): W meets tokens instead of pixels. The gradient by m is
α·f + γ·m with two numbers a pixel, α = −1 / (|m||f|) and γ = cos(m, f) / |m|², both over the number of pixels that the
loss is the mean of, and so, summed over pixels,

    ∂/∂g = α·Wᵀf + γ·Wᵀm
    ∂/∂W = Σ α·f·gᵀ + Σ γ·m·gᵀ = Tᵀ·Lᵀ(α·g) + W·Σ γ·g·gᵀ + b·Σ γ·gᵀ
    ∂/∂b = Σ α·f + Σ γ·m = Tᵀ·Lᵀα + W·Σ γ·g + b·Σ γ

Neither m nor its gradient is ever made. By the chain rule a pixel costs three products with an (h, out) matrix; here it
is two with an (h, h) matrix, one of them symmetric, for the same gradients up to rounding. (In bfloat16 the difference
of near vectors, α·f + γ·m, loses up to twice as much as by the chain rule.)

h is the width of g, out that of m; P pixels, G tokens T.
"""

import torch
from torch import Tensor, nn

from models.cells import CellOperator
from models.lifting import LiftingOperator

EPSILON = 1e-6
"""Norms are at least this, as in the original scripts; a gradient that holds only below it is not modelled."""


class LastLayerLoss:
    """The mean loss of a batch in one direction; blocks of pixels come in, gradients of the last layer come out.

    For each image: `begin`, `add` for each block of its pixels, `end`. After the last: `backward`.

    Attributes:
        total: the loss of what was added so far, a scalar.
    """

    target: Tensor
    """Of the image that was begun: (G, out) T, and T·W (G, h), T·b (G, 1), Lᵀ(α·g) (G, h), Lᵀα (G, 1)."""
    projected: Tensor
    offset: Tensor
    weighted: Tensor
    alpha: Tensor

    def __init__(self, layer: nn.Linear, dtype: torch.dtype, n_pixels: int) -> None:
        """layer: W (out, h) and b (out,). dtype: of the matrix products. n_pixels: of the whole batch."""
        self.layer, self.dtype, self.n_pixels = layer, dtype, n_pixels
        self.weight, self.bias = layer.weight.detach(), layer.bias.detach()
        gram = self.weight.T @ self.weight
        self.gram, self.factor = gram.to(dtype), self.weight.to(dtype)  # (h, h) WᵀW, (out, h) W
        self.cross, self.square = self.weight.T @ self.bias, self.bias.square().sum()  # (h,) Wᵀb, scalar |b|²
        self.total = torch.zeros((), device=gram.device)
        self.second, self.first, self.zeroth = (torch.zeros_like(t) for t in (gram, self.cross, self.total))
        self.weight_gradient, self.bias_gradient = torch.zeros_like(self.weight), torch.zeros_like(self.bias)

    def begin(self, target: Tensor) -> None:
        """Take the (G, out) tokens of an image that its mapped pixels are compared with."""
        self.target = target
        self.projected = target.to(self.dtype) @ self.factor  # (G, h)
        self.offset = (target @ self.bias)[:, None]  # (G, 1)
        self.weighted = torch.zeros_like(self.projected, dtype=torch.float32)  # (G, h) Lᵀ(α·g)
        self.alpha = torch.zeros_like(self.offset)  # (G, 1) Lᵀα

    def add(self, activations: Tensor, lift: LiftingOperator | CellOperator, norms: Tensor) -> Tensor:
        """Add a block of pixels of the image.

        Args:
            activations: (P, h) g.
            lift: (P, G) of the target.
            norms: (P,) |f| of the lifted target.

        Returns:
            (P, h) gradient of the loss by g.
        """
        dtype = activations.dtype
        projected = lift.multiply(self.projected)  # (P, h) Wᵀf
        mapped = torch.addmm(self.cross.to(dtype), activations, self.gram)  # (P, h) Wᵀm
        bias_mapped = activations.float() @ self.cross + self.square  # (P,) b·m
        square = _row_products(activations, mapped) + bias_mapped
        norm, target_norm = square.clamp(min=EPSILON**2).sqrt(), norms.clamp(min=EPSILON)
        cosine = (_row_products(activations, projected) + lift.multiply(self.offset)[:, 0]) / (norm * target_norm)
        alpha = -1 / (norm * target_norm * self.n_pixels)
        gamma = cosine / (norm.square() * self.n_pixels)
        self.total += (1 - cosine).sum() / self.n_pixels
        self._add_moments(activations, gamma)
        self.weighted += lift.transposed.multiply(activations * alpha[:, None].to(dtype))
        self.alpha += lift.transposed.multiply(alpha[:, None])
        return mapped.mul_(gamma[:, None].to(dtype)).addcmul_(projected, alpha[:, None].to(dtype))

    def _add_moments(self, activations: Tensor, gamma: Tensor) -> None:
        """Σ γ·g·gᵀ, Σ γ·g and Σ γ. The first is symmetric: its lower left quarter is left to `backward`."""
        scaled = activations * gamma[:, None].to(activations.dtype)
        half = len(self.second) // 2
        self.second[:half] += activations[:, :half].T @ scaled
        self.second[half:, half:] += activations[:, half:].T @ scaled[:, half:]
        self.first += scaled.sum(dim=0, dtype=torch.float32)
        self.zeroth += gamma.sum()

    def end(self) -> None:
        """Turn what the pixels of the image gave back to its tokens into gradients."""
        self.weight_gradient += self.target.to(self.dtype).T @ self.weighted.to(self.dtype)
        self.bias_gradient += self.target.T @ self.alpha[:, 0]

    def backward(self) -> None:
        """Add the gradients of the loss to those of the layer."""
        half = len(self.second) // 2
        self.second[half:, :half] = self.second[:half, half:].T
        weight = self.weight_gradient + self.weight @ self.second + self.bias.outer(self.first)
        bias = self.bias_gradient + self.weight @ self.first + self.bias * self.zeroth
        for parameter, gradient in ((self.layer.weight, weight), (self.layer.bias, bias)):
            parameter.grad = gradient if parameter.grad is None else parameter.grad + gradient


def _row_products(a: Tensor, b: Tensor) -> Tensor:
    """Inner products of the rows, summed in float32: (P, h) and (P, h) → (P,)."""
    return (a * b).sum(dim=1, dtype=torch.float32)
