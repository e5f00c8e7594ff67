"""The crossmodal mapping networks M_2D→3D and M_3D→2D (CFM paper, section 3.2): perceptrons applied pixel by pixel."""

from torch import Tensor, nn
from torch.nn import functional

from models.lifting import LiftingOperator

MAPPERS = {"mlp": ("projection",), "mlp_big": tuple(f"projection_{letter}" for letter in "abcde")}
"""Names of the inner layers of each variant, in order; parameter names are those of the published checkpoints."""


class CrossmodalMapper(nn.Module):
    """Linear in→h, GELU, inner layers h→h each with GELU, Linear h→out, with h = (in + out) // 2."""

    def __init__(self, in_width: int, out_width: int, variant: str) -> None:
        super().__init__()
        hidden = (in_width + out_width) // 2
        self.inner = MAPPERS[variant]
        self.input = nn.Linear(in_width, hidden)
        for name in self.inner:
            self.add_module(name, nn.Linear(hidden, hidden))
        self.output = nn.Linear(hidden, out_width)

    def forward(self, features: Tensor) -> Tensor:
        """Map per-pixel features: (P, in) → (P, out)."""
        return self._after_first(self.input(features))

    def forward_lifted(self, tokens: Tensor, operator: LiftingOperator) -> Tensor:
        """Map the lifted tokens: (T, in) and a (P, T) operator → (P, out).

        The same as forward(operator.lift(tokens)). The first layer is affine, so it is applied to the T tokens and its
        result is lifted: W(L·T) + b = L·(T·Wᵀ) + b.
        """
        lifted = operator.lift(functional.linear(tokens, self.input.weight))  # (P, h)
        return self._after_first(lifted + self.input.bias.to(lifted.dtype))

    def _after_first(self, hidden: Tensor) -> Tensor:
        """Everything after the first linear layer: (P, h) → (P, out)."""
        hidden = functional.gelu(hidden)
        for name in self.inner:
            hidden = functional.gelu(self.get_submodule(name)(hidden))
        return self.output(hidden)


def mapper_variant(state: dict[str, Tensor]) -> str:
    """Which variant a checkpoint holds, from its parameter names."""
    return "mlp_big" if "projection_a.weight" in state else "mlp"


def mapper_widths(state: dict[str, Tensor]) -> tuple[int, int]:
    """Input and output width of a checkpoint's mapper."""
    return state["input.weight"].shape[1], state["output.weight"].shape[0]
