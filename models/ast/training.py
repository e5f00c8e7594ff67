"""Training of AST: all epochs of the teacher, then as many of the student on what the teacher says.

The release leaves out the last images of an epoch where they do not fill a batch; here they are a smaller one.

Checkpoint files: `AST_teacher_….safetensors` and `AST_student_….safetensors`, `AST_….json` settings, `AST_….jsonl`
losses, and, while a run is under way, `AST_resume_….pth`.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from models.ast.detector import Networks
from models.ast.flow import flow_loss
from models.ast.inputs import Inputs
from models.ast.scoring import distance
from models.ast.settings import ASTSettings
from utils.checkpoint import CheckpointName
from utils.devices import send
from utils.training import SAVE_SECONDS, train_run

PART, TEACHER, STUDENT, SUFFIX = "AST", "AST_teacher", "AST_student", ".safetensors"
LEARNING_RATE, EPSILON, WEIGHT_DECAY = 2e-4, 1e-8, 1e-5  # of Adam, for both


@dataclass(frozen=True)
class ASTConfig:
    """Everything that decides the trained weights.

    model: see ASTSettings.
    data: a hash of the training files, and how many were to be used.
    precision: of the student, `fp32` or `bf16`.
    epochs: of either network.
    batch_size, seed: of the run.
    """

    model: ASTSettings
    data: Mapping[str, Any]
    precision: str
    epochs: int
    batch_size: int
    seed: int


class ASTLearner:
    """Both networks with their optimisers; which one learns depends on how many epochs are over."""

    def __init__(self, inputs: Inputs, config: ASTConfig) -> None:
        """inputs: of the training images, on the device of the run."""
        self.inputs, self.config = inputs, config
        shape = inputs.features.shape[1], config.model.width
        self.networks = Networks(*shape, config.precision, config.seed).to(inputs.mask.device)
        self.optimizers = {
            name: torch.optim.Adam(
                network.parameters(), LEARNING_RATE, eps=EPSILON, weight_decay=WEIGHT_DECAY, fused=True
            )
            for name, network in self.networks.named_children()
        }
        self.epochs = 0  # that are over
        self.targets: Tensor | None = None  # what the finished teacher says of all images

    def step(self, batch: list[int], generator: torch.Generator) -> dict[str, Tensor]:
        """One optimiser step on these samples."""
        indices = send(torch.tensor(batch), self.inputs.mask.device)
        inputs = self.inputs.select(indices)
        if self.epochs < self.config.epochs:
            z, log_determinant = self.networks.teacher(inputs.features)
            return self._update("teacher", flow_loss(z, log_determinant, inputs.mask))
        if self.targets is None:
            self.targets = self._said_by_teacher()
        guess = self.networks.guess(inputs.features)
        return self._update("student", distance(self.targets[indices], guess, inputs.mask).mean())

    def _update(self, name: str, loss: Tensor) -> dict[str, Tensor]:
        self.optimizers[name].zero_grad(set_to_none=True)
        loss.backward()
        self.optimizers[name].step()
        return {f"loss_{name}": loss.detach()}

    @torch.no_grad()
    def _said_by_teacher(self) -> Tensor:
        parts = self.inputs.features.split(self.config.batch_size)
        return torch.cat([self.networks.teacher(part)[0] for part in parts])

    def after_epoch(self) -> dict[str, float]:
        """Counts them; nothing to add to the log."""
        self.epochs += 1
        return {}

    def state_dict(self) -> dict[str, Any]:
        """All that an exact resume needs."""
        optimizers = {name: optimizer.state_dict() for name, optimizer in self.optimizers.items()}
        return {"networks": self.networks.state_dict(), "optimizers": optimizers, "epochs": self.epochs}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take such a state back."""
        self.networks.load_state_dict(state["networks"])
        for name, optimizer in self.optimizers.items():
            optimizer.load_state_dict(state["optimizers"][name])
        self.epochs = int(state["epochs"])


def train(
    inputs: Inputs,
    config: ASTConfig,
    name: CheckpointName,
    resume: bool,
    report: Callable[[dict[str, Any]], None],
    save_seconds: float = SAVE_SECONDS,
) -> Networks:
    """Train both networks on nominal samples with Adam; the last epochs are kept.

    Args:
        inputs: of the training images, on the device of the run.
        config: of the run.
        name: where its files go.
        resume: go on from the run's last saved epoch, if there is one. The result is that of an uninterrupted run.
        report: called with the log entry of each epoch; those of the student follow those of the teacher.
        save_seconds: least time between two saved states.

    Raises:
        UserError: a loss is not finite, or the saved state belongs to a run with another configuration.
    """
    learner = ASTLearner(inputs, config)
    both = replace(config, epochs=2 * config.epochs)
    train_run(learner, len(inputs), both, name, PART, resume, report, save_seconds)
    return learner.networks.eval()
