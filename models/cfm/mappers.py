"""The crossmodal mapping networks M_2D→3D and M_3D→2D (CFM paper, section 3.2): perceptrons applied pixel by pixel."""

from torch import Tensor, nn
from torch.nn import functional

MAPPERS = {
    "mlp": ("projection",),
    "mlp_big": tuple(f"projection_{letter}" for letter in "abcde"),
    "mlp_wide": ("projection",),
}
"""Names of the inner layers of each variant, in order; parameter names are those of the published checkpoints."""

WIDENING = {"mlp_wide": 3}
"""How much wider than (in + out) // 2 the inner layers of a variant are, where they are."""


class CrossmodalMapper(nn.Module):
    """Linear in→h, GELU, inner layers h→h each with GELU, Linear h→out, with h = (in + out) // 2 or wider."""

    def __init__(self, in_width: int, out_width: int, variant: str) -> None:
        super().__init__()
        hidden = _hidden_width(in_width, out_width, variant)
        self.inner = MAPPERS[variant]
        self.input = nn.Linear(in_width, hidden)
        for name in self.inner:
            self.add_module(name, nn.Linear(hidden, hidden))
        self.output = nn.Linear(hidden, out_width)

    def forward(self, features: Tensor) -> Tensor:
        """Map per-pixel features: (P, in) → (P, out)."""
        return self.from_lifted(self.hidden_tokens(features))

    def hidden_tokens(self, tokens: Tensor) -> Tensor:
        """The first layer without its bias, applied to tokens: (T, in) → (T, h).

        The layer is affine and lifting is linear, W(L·T) + b = L·(T·Wᵀ) + b: what it makes of T tokens is lifted, and
        `from_lifted` goes on from there. The same as `forward` of the lifted tokens.
        """
        return functional.linear(tokens, self.input.weight)

    def from_lifted(self, lifted: Tensor) -> Tensor:
        """Everything after that: lifted hidden tokens (P, h) → mapped features (P, out)."""
        return self.output(self.before_output(lifted))

    def before_output(self, lifted: Tensor) -> Tensor:
        """Lifted hidden tokens (P, h) → the activations that the last layer maps, (P, h)."""
        hidden = functional.gelu(lifted + self.input.bias.to(lifted.dtype))
        for name in self.inner:
            hidden = functional.gelu(self.get_submodule(name)(hidden))
        return hidden


def mapper_variant(state: dict[str, Tensor]) -> str:
    """Which variant a checkpoint holds, from its parameters."""
    if "projection_a.weight" in state:
        return "mlp_big"
    widths = state["input.weight"].shape[1], state["output.weight"].shape[0]
    return "mlp_wide" if len(state["input.weight"]) == _hidden_width(*widths, "mlp_wide") else "mlp"


def _hidden_width(in_width: int, out_width: int, variant: str) -> int:
    return (in_width + out_width) // 2 * WIDENING.get(variant, 1)


def mapper_widths(state: dict[str, Tensor]) -> tuple[int, int]:
    """Input and output width of a checkpoint's mapper.

    Raises:
        RuntimeError: the hidden width is not that of a variant, so that a mapper of these widths may be far larger.
    """
    (hidden, in_width), (out_width, before) = state["input.weight"].shape, state["output.weight"].shape
    if hidden != before or hidden != _hidden_width(in_width, out_width, mapper_variant(state)):
        raise RuntimeError(f"layers {in_width}→{hidden} and {before}→{out_width}, not the width of a variant")
    return in_width, out_width
