"""Unsupervised feature fusion (Wang et al., CVPR 2023, section 3.2): a perceptron for each modality, trained so that
what it makes of a place in one can be told from what it makes of all other places in the other (InfoNCE)."""

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from models.m3dm.cells import Cells

WIDENING, HEAD = 4, 256
TEMPERATURE = 1.0
UPDATES, WARMUP = 750, 1 / 3
"""Of a run, about, or one a step where there are more; the share of them in which the rate rises, the paper's."""
LEARNING_RATE, BETAS = 3e-3, (0.9, 0.95)
PATCHES = 1024
"""That an update compares with each other, at most: logits take 4 MiB, whatever the size of a batch."""


class Perceptron(nn.Module):
    """Linear, GELU, linear, four times as wide inside; no residual."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.fc1, self.fc2 = nn.Linear(width, WIDENING * width), nn.Linear(WIDENING * width, width)

    def forward(self, rows: Tensor) -> Tensor:
        """(P, D) → (P, D)."""
        return self.fc2(functional.gelu(self.fc1(rows)))


class UFF(nn.Module):
    """The network; its parameters have the names of the release. The heads serve training only."""

    def __init__(self, xyz_width: int, rgb_width: int, seed: int = 0) -> None:
        """Torch's default initialisation, drawn from `seed` without touching the CPU's global generator."""
        super().__init__()
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            self.xyz_norm, self.xyz_mlp = nn.LayerNorm(xyz_width), Perceptron(xyz_width)
            self.rgb_norm, self.rgb_mlp = nn.LayerNorm(rgb_width), Perceptron(rgb_width)
            self.xyz_head, self.rgb_head = nn.Linear(xyz_width, HEAD), nn.Linear(rgb_width, HEAD)

    @torch.no_grad()
    def forward(self, xyz: Tensor, rgb: Tensor) -> Tensor:
        """Rows of both modalities at the same places, (P, D_3D) and (P, D_2D) → fused, (P, D_3D + D_2D)."""
        return torch.cat([self.xyz_mlp(self.xyz_norm(xyz)), self.rgb_mlp(self.rgb_norm(rgb))], dim=1)

    def loss(self, xyz: Tensor, rgb: Tensor) -> Tensor:
        """InfoNCE of rows at the same places, from RGB to geometry; a scalar."""
        queries = self.rgb_head(self.rgb_mlp(self.rgb_norm(rgb)))
        return info_nce(queries, self.xyz_head(self.xyz_mlp(self.xyz_norm(xyz))))


def info_nce(queries: Tensor, keys: Tensor) -> Tensor:
    """2·T times the mean over i of −log(exp(cos(qᵢ, kᵢ)/T) / Σⱼ exp(cos(qᵢ, kⱼ)/T)): (P, D), (P, D) → scalar.

    T is TEMPERATURE (van den Oord et al., 2018; the factor as in MoCo v3, Chen et al., ICCV 2021).
    """
    queries, keys = functional.normalize(queries, dim=1), functional.normalize(keys, dim=1)
    own = torch.arange(len(queries), device=queries.device)
    return 2 * TEMPERATURE * functional.cross_entropy(queries @ keys.T / TEMPERATURE, own)


class UFFLearner:
    """The network and its optimiser, AdamW; the rate rises, then falls as a cosine does, as in the release.

    The release trains one network on the patches of all images of a batch and of all classes; here it sees one class,
    and PATCHES of a batch drawn anew at each update, so that memory does not grow with the square of the batch.
    """

    def __init__(self, cells: Sequence[Cells], epochs: int, batch_size: int, seed: int, device: torch.device) -> None:
        """cells: one item a training image. The others: of the run."""
        self.cells, self.device = cells, device
        self.network = UFF(cells[0].xyz.shape[1], cells[0].rgb.shape[1], seed).to(device)
        self.optimizer = torch.optim.AdamW(self.network.parameters(), lr=LEARNING_RATE, betas=BETAS)
        steps = epochs * math.ceil(len(cells) / batch_size)
        self.updates = max(1, round(UPDATES / steps))  # of each step
        self.done, self.all_updates = 0, steps * self.updates

    def step(self, batch: list[int], generator: torch.Generator) -> dict[str, Tensor]:
        """Updates on patches of these images; returns the last loss."""
        xyz, rgb = (torch.cat(parts) for parts in zip(*(self.cells[i].pairs for i in batch), strict=True))
        for _ in range(self.updates):
            chosen = torch.randperm(len(xyz), generator=generator)[:PATCHES]
            self.optimizer.param_groups[0]["lr"] = LEARNING_RATE * self._share()
            self.optimizer.zero_grad(set_to_none=True)
            loss = self.network.loss(xyz[chosen].to(self.device), rgb[chosen].to(self.device))
            loss.backward()
            self.optimizer.step()
            self.done += 1
        return {"loss": loss.detach()}

    def _share(self) -> float:
        """Of the learning rate, at this update."""
        warmup = self.all_updates * WARMUP
        if self.done < warmup:
            return (self.done + 1) / (warmup + 1)
        return (1 + math.cos(math.pi * (self.done - warmup) / (self.all_updates - warmup))) / 2

    def after_epoch(self) -> dict[str, float]:
        """Nothing to add to the log."""
        return {}

    def state_dict(self) -> dict[str, Any]:
        """Of the network and the optimiser."""
        return {
            "network": self.network.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "updates": self.done,
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take such a state back."""
        self.network.load_state_dict(state["network"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.done = int(state["updates"])
