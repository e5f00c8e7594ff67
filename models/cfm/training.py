"""Training runs and checkpoints of Crossmodal Feature Mapping.

Checkpoint files have the names and keys of the original authors' release: `CFM_2Dto3D_…` and `CFM_3Dto2D_…`, plain
state dicts. Beside them: `CFM_….json` settings, `CFM_….jsonl` losses, `CFM_extractor_….pth` statistics of an extractor
that has any, and, while a run is under way, `CFM_resume_….pth`.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from models.cfm.detector import LEARNING_RATE, CrossmodalDetector
from models.extractors import Extractor
from models.extractors.stored import check_fingerprint
from models.tokens import Tokens, join_cells
from utils.checkpoint import CheckpointName, load_settings, load_state
from utils.devices import DTYPES
from utils.errors import UserError
from utils.training import SAVE_SECONDS, train_run

PART = "CFM"
RGB_TO_XYZ, XYZ_TO_RGB, EXTRACTOR = "CFM_2Dto3D", "CFM_3Dto2D", "CFM_extractor"

PAPER: tuple[str, float | None] = ("mlp", 1.0)
DEFAULTS: dict[str, tuple[str, float | None]] = {"cnn_normals": ("mlp_wide", None)}
"""Mapper and pixel fraction for an extractor where they are not the paper's: narrow tokens need wide mappers."""

FEW_IMAGES = {"turn": 30, "mirror": 100}
"""Augmentations of `cnn_normals` for fewer training images than these, unless another is asked for."""

CELL_RATE = 2e-3
"""First learning rate for tokens in cells; it falls to 0 as a cosine does."""
UPDATES = 1500
"""Of a run on cells, about, or one a step where there are more steps: few images take as many as many do."""
CELLS = 512 * UPDATES
"""That all updates of a run see together, about, unless a share is asked for; so every class takes as long."""


@dataclass(frozen=True)
class CFMConfig:
    """Everything that decides the trained weights.

    extractor: its fingerprint.
    data: a hash of the training files, and how many were to be used.
    mapper: one of MAPPERS.
    precision: `fp32` or `bf16`.
    epochs, batch_size, seed: of the run.
    pixel_fraction: share of an image's foreground pixels that each step sees, drawn anew, in (0, 1]; None, for tokens
        in cells: such that a run sees CELLS.
    augment: in which ways training images are seen, a key of `augmentation.AUGMENTATIONS`; older runs have none.
    """

    extractor: Mapping[str, Any]
    data: Mapping[str, Any]
    mapper: str
    precision: str
    epochs: int
    batch_size: int
    seed: int
    pixel_fraction: float | None
    augment: str | None = None


class CFMLearner:
    """Both mappers and their optimiser, Adam (CFM paper, section 4).

    Tokens in cells are drawn from all images of a batch together, and several times a step where the images are few;
    the learning rate then falls to 0.
    """

    def __init__(self, tokens: Sequence[Tokens], config: CFMConfig, device: torch.device) -> None:
        """tokens: one item a training image. config: of the run. device: where it runs."""
        widths = tokens[0].rgb.tokens.shape[1], tokens[0].xyz.tokens.shape[1]
        self.detector = CrossmodalDetector(*widths, config.mapper, config.precision, config.seed).to(device)
        self.optimizer = torch.optim.Adam(self.detector.parameters(), lr=LEARNING_RATE)
        self.pixel_fraction, self.in_cells = config.pixel_fraction, tokens[0].in_cells
        steps = config.epochs * math.ceil(len(tokens) / config.batch_size)
        self.updates = max(1, round(UPDATES / steps)) if self.in_cells else 1  # of each step
        self.done, self.all_updates = 0, steps * self.updates
        # On a GPU once, for all epochs; copies nothing that is there.
        self.tokens = [image.to(device) for image in tokens] if device.type == "cuda" else tokens

    def step(self, batch: list[int], generator: torch.Generator) -> dict[str, Tensor]:
        """The optimiser's steps on these images; returns the last losses."""
        images = [self.tokens[i] for i in batch]
        for _ in range(self.updates):
            losses = self._update(images, generator)
        return losses

    def _update(self, images: list[Tokens], generator: torch.Generator) -> dict[str, Tensor]:
        if self.in_cells:
            rate = CELL_RATE * (1 + math.cos(math.pi * self.done / self.all_updates)) / 2
            self.optimizer.param_groups[0]["lr"] = rate
        n_pixels = sum(len(image.foreground) for image in images)
        share = self.pixel_fraction
        if share is None:
            share = min(1.0, CELLS / self.all_updates / max(1, n_pixels))
        if share < 1:
            images = [image.draw_pixels(share, generator) for image in images]
        self.optimizer.zero_grad(set_to_none=True)
        losses = self.detector.backward([join_cells(images)] if self.in_cells else images)
        self.optimizer.step()
        self.done += 1
        return losses

    def after_epoch(self) -> dict[str, float]:
        """Nothing to add to the log."""
        return {}

    def state_dict(self) -> dict[str, Any]:
        """Of the mappers and the optimiser."""
        state = {"detector": self.detector.state_dict(), "optimizer": self.optimizer.state_dict()}
        return {**state, "updates": self.done}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take such a state back."""
        self.detector.load_state_dict(state["detector"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.done = int(state["updates"])


def train(
    tokens: Sequence[Tokens],
    config: CFMConfig,
    name: CheckpointName,
    device: torch.device,
    resume: bool,
    report: Callable[[dict[str, Any]], None],
    save_seconds: float = SAVE_SECONDS,
) -> CrossmodalDetector:
    """Train both mappers with Adam on nominal tokens; the last epoch is kept (CFM paper, section 4).

    Args:
        tokens: one item a training image.
        config: of the run.
        name: where its files go.
        device: where it runs.
        resume: go on from the run's last saved epoch, if there is one. The result is that of an uninterrupted run.
        report: called with the log entry of each epoch.
        save_seconds: least time between two saved states.

    Raises:
        UserError: a loss is not finite, or the saved state belongs to a run with another configuration.
    """
    learner = CFMLearner(tokens, config, device)
    train_run(learner, len(tokens), config, name, PART, resume, report, save_seconds)
    return learner.detector.eval()


def default_augment(extractor: str | None, images: int) -> str | None:
    """Of so many training images: what an extractor is trained with unless another augmentation is asked for."""
    if extractor not in DEFAULTS:
        return None
    return next((augment for augment, most in FEW_IMAGES.items() if images < most), None)


def states(detector: CrossmodalDetector, extractor_state: Mapping[str, Tensor]) -> dict[str, Mapping[str, Tensor]]:
    """The state dict of each file of weights. extractor_state: learned statistics, empty for a pretrained extractor."""
    return {
        RGB_TO_XYZ: detector.rgb_to_xyz.state_dict(),
        XYZ_TO_RGB: detector.xyz_to_rgb.state_dict(),
        EXTRACTOR: extractor_state,
    }


def load(
    name: CheckpointName, precision: str | None
) -> tuple[CrossmodalDetector, dict[str, Any] | None, dict[str, Tensor]]:
    """Load a checkpoint, ours or the original authors'.

    Args:
        name: of the run.
        precision: `fp32`, `bf16`, or None for that of the run (fp32 when unknown).

    Returns:
        The detector on the CPU; the settings, None when there is no JSON; the extractor's state, perhaps empty.

    Raises:
        UserError: a file is missing, damaged, or not of this method.
    """
    settings = load_settings(name, PART)
    if settings is not None:
        _check_settings(settings["config"], name)
    rgb_to_xyz, xyz_to_rgb = load_state(name.path(RGB_TO_XYZ)), load_state(name.path(XYZ_TO_RGB))
    extractor_path = name.path(EXTRACTOR)
    extractor_state = load_state(extractor_path) if settings and extractor_path.name in settings["files"] else {}
    precision = precision or (settings["config"]["precision"] if settings else "fp32")
    try:
        detector = CrossmodalDetector.from_states(rgb_to_xyz, xyz_to_rgb, precision)
    except (RuntimeError, KeyError, ValueError, AttributeError) as error:
        folder = name.path(RGB_TO_XYZ).parent
        raise UserError(
            f"{folder}: {RGB_TO_XYZ} and {XYZ_TO_RGB} are not a pair of crossmodal mappers ({error}). "
            "Expected input.*, projection.* (or projection_a.* … projection_e.*) and output.*."
        ) from error
    return detector, settings, extractor_state


def _check_settings(config: Mapping[str, Any], name: CheckpointName) -> None:
    """Refuse settings without what inference reads of them."""
    extractor = config.get("extractor")
    named = isinstance(extractor, Mapping) and isinstance(extractor.get("extractor"), str)
    if not named or config.get("precision") not in tuple(DTYPES):
        raise UserError(
            f"{name.path(PART, '.json')}: expected precision {' or '.join(DTYPES)} and the name of an extractor, found "
            f"{config.get('precision')!r} and {extractor!r:.100}. Restore the file or train again."
        )


def check_extractor(extractor: Extractor, detector: CrossmodalDetector, settings: Mapping[str, Any] | None) -> None:
    """Refuse an extractor other than the one that a checkpoint was trained with; only the precision may differ.

    Args:
        extractor: to be used.
        detector, settings: of the checkpoint.

    Raises:
        UserError: a setting, the hash of weights, or the width of the features differs.
    """
    check_fingerprint(extractor, settings["config"]["extractor"] if settings else {})
    expected = detector.rgb_to_xyz.input.in_features, detector.xyz_to_rgb.input.in_features
    widths = extractor.rgb_width, extractor.xyz_width
    if widths != expected:
        raise UserError(
            f"the checkpoint maps features of widths {expected} (RGB, geometry), the extractor gives {widths}. Name "
            "the --extractor and --keep_blocks that it was trained with (1 block gives 384 geometry features)."
        )
