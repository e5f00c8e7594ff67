"""Training of DBMRNet on the prepared samples of one class, and its checkpoint: last and best-validation weights."""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from models.dbmrnet.detector import DBMRNetDetector
from models.dbmrnet.inputs import Inputs
from models.dbmrnet.losses import reconstruction_losses
from models.dbmrnet.masking import draw_mask
from models.dbmrnet.settings import ModelSettings
from utils.checkpoint import CheckpointName, load_settings, load_state
from utils.devices import send
from utils.errors import UserError
from utils.training import SAVE_SECONDS, epoch_generator, train_run

PART, BEST = "DBMRNet", "DBMRNet_best"
PARTS = {"last": PART, "best": BEST}
SUFFIX = ".safetensors"
LOCAL_RATE = 4e-3  # peak for the part that rebuilds local descriptors, which is of one size in all presets
BETAS, WEIGHT_DECAY, CLIP_NORM = (0.9, 0.95), 0.05, 1.0  # of AdamW; as in MAE


@dataclass(frozen=True)
class DBMRNetConfig:
    """Everything that decides the trained weights.

    model: see ModelSettings.
    data: a hash of the training and validation files, and how many were to be used.
    precision: `fp32` or `bf16`.
    epochs, batch_size, seed: of the run.
    learning_rate: its peak.
    warmup_epochs: in which it rises to the peak, at most a tenth of all; it then falls as a cosine to 0.
    masked_share: share of each batch, in (0, 1], that the masked network learns from; at least one sample.
    """

    model: ModelSettings
    data: Mapping[str, Any]
    precision: str
    epochs: int
    batch_size: int
    seed: int
    learning_rate: float
    warmup_epochs: int
    masked_share: float = 1.0


def scheduled_rate(config: DBMRNetConfig, progress: float) -> float:
    """The learning rate when `progress` epochs, not a whole number, are over."""
    warmup = min(config.warmup_epochs, config.epochs / 10)
    if progress < warmup:
        return config.learning_rate * progress / warmup
    return config.learning_rate * 0.5 * (1 + math.cos(math.pi * (progress - warmup) / (config.epochs - warmup)))


class DBMRNetLearner:
    """Network, optimiser and the best weights so far."""

    def __init__(self, config: DBMRNetConfig, images: Inputs, validation: Inputs | None) -> None:
        """images, validation: prepared samples on the device of the run."""
        self.config, self.images, self.validation = config, images, validation
        self.detector = DBMRNetDetector(config.model, config.precision, config.seed).to(images.image.device)
        self.detector.network.fit_radii(images)
        self.detector.network.local.fit(images)
        local = [*self.detector.network.local.parameters()]
        masked = [p for name, p in self.detector.network.named_parameters() if not name.startswith("local.")]
        groups = [{"params": masked, "peak": config.learning_rate}, {"params": local, "peak": LOCAL_RATE}]
        self.optimizer = torch.optim.AdamW(groups, 0.0, BETAS, weight_decay=WEIGHT_DECAY, fused=True)
        self.steps, self.best_loss = 0, math.inf
        self.best: dict[str, Tensor] = {}

    def step(self, batch: list[int], generator: torch.Generator) -> dict[str, Tensor]:
        """One optimiser step on these samples; returns the losses, and the norm of the gradient before clipping."""
        steps_an_epoch = math.ceil(len(self.images) / self.config.batch_size)
        for group in self.optimizer.param_groups:
            rate = scheduled_rate(self.config, (self.steps + 0.5) / steps_an_epoch)
            group["lr"] = rate * (group["peak"] / self.config.learning_rate)
        self.steps += 1
        n_masked = max(1, round(len(batch) * self.config.masked_share))
        chosen = send(torch.tensor(batch), self.images.image.device)
        some = self.images.select(chosen)
        losses = self._losses(
            some, some if n_masked == len(batch) else self.images.select(chosen[:n_masked]), generator
        )
        self.optimizer.zero_grad(set_to_none=True)
        self._total(losses).backward()
        # Each by itself: neither network's gradient shrinks the other's.
        norms = [torch.nn.utils.clip_grad_norm_(group["params"], CLIP_NORM) for group in self.optimizer.param_groups]
        self.optimizer.step()
        return {**{name: loss.detach() for name, loss in losses.items()}, "gradient_norm": torch.stack(norms).norm()}

    @torch.no_grad()
    def after_epoch(self) -> dict[str, float]:
        """Total loss of the validation samples, if there are any, with the same masks every time; keeps the best."""
        if self.validation is None:
            return {}
        generator, totals = epoch_generator(self.config.seed, -1), []
        places = torch.arange(len(self.validation), device=self.validation.image.device)
        for batch in places.split(self.config.batch_size):
            some = self.validation.select(batch)
            losses = self._losses(some, some, generator)
            totals.append(self._total(losses) * len(batch))
        total = float(torch.stack(totals).sum()) / len(self.validation)
        if total < self.best_loss:
            self.best_loss = total
            self.best = {name: value.clone() for name, value in self.detector.network.state_dict().items()}
        return {"loss_validation": total}

    def state_dict(self) -> dict[str, Any]:
        """All that an exact resume needs."""
        return {
            "detector": self.detector.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "steps": self.steps,
            "best_loss": self.best_loss,
            "best": self.best,
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take such a state back."""
        self.detector.load_state_dict(state["detector"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.steps, self.best_loss, self.best = state["steps"], state["best_loss"], state["best"]

    def _losses(self, inputs: Inputs, masked: Inputs, generator: torch.Generator) -> dict[str, Tensor]:
        """Of the local descriptors of `inputs`, and of the masked network on `masked`."""
        model, sizes = self.config.model, self.config.model.sizes
        point_mask, image_mask = (
            draw_mask(len(masked), count, model.mask_ratio, generator).to(inputs.image.device)
            for count in (sizes.centres[2], sizes.image_grid**2)
        )
        with self.detector.autocast():
            found = self.detector.network(masked, point_mask, image_mask)
        losses = reconstruction_losses(self.detector.network, masked, found, point_mask, image_mask)
        return {**losses, "loss_local": self.detector.network.local.loss(inputs, generator)}

    def _total(self, losses: Mapping[str, Tensor]) -> Tensor:
        weighted = self.config.model.cross_weight * losses["loss_cross"]
        return losses["loss_3D"] + losses["loss_2D"] + weighted + losses["loss_local"]


def train(
    images: Inputs,
    validation: Inputs | None,
    config: DBMRNetConfig,
    name: CheckpointName,
    resume: bool,
    report: Callable[[dict[str, Any]], None],
    save_seconds: float = SAVE_SECONDS,
) -> dict[str, DBMRNetDetector]:
    """Train on nominal samples with AdamW, then scale the maps on the validation samples, or without any on the images.

    Args:
        images, validation: prepared samples on the device of the run.
        config: of the run.
        name: where its files go.
        resume: go on from the run's last saved epoch, if there is one. The result is that of an uninterrupted run.
        report: called with the log entry of each epoch.
        save_seconds: least time between two saved states.

    Returns:
        The detectors by part: of the last epoch, and, with validation samples, of the epoch with the lowest loss there.

    Raises:
        UserError: a loss is not finite, or the saved state belongs to a run with another configuration.
    """
    learner = DBMRNetLearner(config, images, validation)
    train_run(learner, len(images), config, name, PART, resume, report, save_seconds)
    found = {PART: learner.detector}
    if learner.best:
        found[BEST] = DBMRNetDetector(config.model, config.precision, config.seed).to(images.image.device)
        found[BEST].network.load_state_dict(learner.best)
    for detector in found.values():
        detector.eval().fit_means(images if validation is None else validation, config.batch_size)
    return found


def states(detectors: Mapping[str, DBMRNetDetector]) -> dict[str, dict[str, Tensor]]:
    """The state dict of each file of weights. detectors: from `train`."""
    return {part: detector.state_dict() for part, detector in detectors.items()}


def load(name: CheckpointName, part: str, precision: str | None) -> tuple[DBMRNetDetector, dict[str, Any]]:
    """Load a checkpoint.

    Args:
        name: of the run.
        part: PART for the last epoch, BEST for the best on validation samples.
        precision: `fp32`, `bf16`, or None for that of the run.

    Returns:
        The detector on the CPU, and the settings.

    Raises:
        UserError: a file is missing, damaged, or not of this method.
    """
    settings, path = load_settings(name, PART), name.path(part, SUFFIX)
    if settings and path.name not in settings["files"]:
        raise UserError(
            f"{path}: best weights are chosen on validation images; this run was trained without validation images. "
            "Use --checkpoint last."
        )
    state = load_state(path)
    if settings is None:
        raise UserError(f"{name.path(PART, '.json')}: missing; it says what network the weights belong to. Restore it.")
    if "network.local.components" not in state:
        raise UserError(
            f"{path}: of an earlier version of DBMRNet, which rebuilt no local descriptor from those around it. "
            "Train again."
        )
    config = settings["config"]
    try:
        detector = DBMRNetDetector(ModelSettings(**config["model"]), precision or config["precision"], config["seed"])
        detector.load_state_dict(state)
    except (RuntimeError, KeyError, TypeError, ValueError, AttributeError, UserError) as error:
        raise UserError(
            f"{path}: does not fit the settings beside it ({error}). Restore both or train again."
        ) from error
    return detector.eval(), settings
