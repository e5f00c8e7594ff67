"""A training of AST: from the options and the samples of a class to networks; and the networks of a run."""

import argparse
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from models.ast import training
from models.ast.detector import ASTPipeline, Networks
from models.ast.inputs import Inputs, channels, prepare, view_of
from models.ast.settings import BACKBONE, MODES, ASTSettings
from models.extractors.backbone import Backbone, load_backbone
from models.method import Learned, NominalData, TrainedRun, data_sha256
from models.token_store import batches
from utils.checkpoint import CheckpointName, load_settings, load_state
from utils.errors import UserError


@dataclass(frozen=True)
class ASTPlan:
    """What a run will be trained on. backbone: None where only depth is looked at."""

    config: training.ASTConfig
    data: NominalData
    backbone: Backbone | None
    device: torch.device

    def read(self) -> Inputs:
        """The features of each training image, made once."""
        chosen = self.config.model
        samples = (sample for _, sample in self.data.samples("train", "extracting", view_of(chosen)))
        parts = batches(samples, self.config.batch_size)
        return Inputs.concatenate([prepare(part, chosen, self.backbone, self.device) for part in parts])

    def learn(
        self, read: Inputs, name: CheckpointName, resume: bool, report: Callable[[dict[str, Any]], None]
    ) -> Learned:
        """Train teacher and student; see `training.train`."""
        networks = training.train(read, self.config, name, resume, report)
        states = {
            training.TEACHER: networks.teacher.state_dict(),
            training.STUDENT: networks.student.state_dict(),
        }
        return Learned(states, ASTPipeline(self.config.model, self.backbone, networks, self.device))


def make_plan(data: NominalData, options: argparse.Namespace, device: torch.device) -> ASTPlan:
    """Load the network, where colours are looked at, and say what decides the weights; see `Method.plan`."""
    model, backbone = settings_for(options.mode, options.width, options.backbone, options.rgb_weights)
    made_of = {"sha256": data_sha256(data, "train"), "shots": options.shots}
    run = options.precision or "fp32", options.epochs_no, options.batch_size, options.seed
    return ASTPlan(training.ASTConfig(model, made_of, *run), data, backbone and backbone.to(device), device)


def settings_for(mode: str, width: int, backbone: str, weights: Path | None) -> tuple[ASTSettings, Backbone | None]:
    """Settings, and the network where colours are looked at.

    Args:
        mode, width, backbone: see ASTSettings.
        weights: file to use instead of the package's or hub's.

    Raises:
        UserError: no such mode; see also `load_backbone` and `sixth_stage`.
    """
    if mode not in MODES:
        raise UserError(f"--mode {mode}: expected one of {', '.join(MODES)}.")
    if mode == "depth":
        return ASTSettings(mode, width), None
    network, sha256 = load_backbone(backbone, weights)
    channels(ASTSettings(mode), network)  # refuses a network without such a stage
    return ASTSettings(mode, width, backbone, sha256), network


def load_pipeline(
    run: TrainedRun, device: torch.device, precision: str | None, options: Mapping[str, Any]
) -> tuple[ASTPipeline, dict[str, Any]]:
    """The pipeline of a run, and its settings; arguments and errors as of `models.method.Method.load`."""
    settings = load_settings(run.name, training.PART)
    parts = {part: run.name.path(f"{training.PART}_{part}", training.SUFFIX) for part in ("teacher", "student")}
    states = {part: load_state(path) for part, path in parts.items()}
    if settings is None:
        raise UserError(
            f"{run.name.path(training.PART, '.json')}: missing; it says what the networks look at. Restore it."
        )
    config = settings["config"]
    try:
        stored = ASTSettings(**config["model"])
        chosen, backbone = settings_for(
            stored.mode, stored.width, stored.backbone or BACKBONE, options.get("rgb_weights")
        )
        shape = channels(chosen, backbone), chosen.width
        networks = Networks(*shape, precision or config["precision"], config["seed"])
        for part, state in states.items():
            networks.get_submodule(part).load_state_dict(state)
    except (RuntimeError, KeyError, TypeError, ValueError, AttributeError) as error:
        raise UserError(
            f"{parts['teacher']}, {parts['student'].name}: do not fit the settings beside them ({error}). Restore all "
            "or train again."
        ) from error
    if chosen != stored:
        raise UserError(
            f"{parts['teacher']}: was made with other weights of {stored.backbone}, sha256 {stored.weights_sha256}; "
            f"found {chosen.weights_sha256}. Name the same file (--rgb_weights) or train again."
        )
    return ASTPipeline(chosen, backbone and backbone.to(device), networks.to(device).eval(), device), settings
