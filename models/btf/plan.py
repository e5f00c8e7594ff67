"""A training of BTF: from the options and the samples of a class to a bank.

It is one pass, with one log entry; a run that was stopped begins anew.

Checkpoint files: `BTF_….safetensors` the bank, `BTF_….json` settings, `BTF_….jsonl` how many rows were read and kept.
"""

import argparse
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from models.btf.detector import BTF, fit, load, read_rows, settings_for
from models.btf.settings import BTFSettings
from models.extractors.backbone import Backbone
from models.method import Learned, NominalData, TrainedRun, data_sha256
from utils.checkpoint import CheckpointName, load_settings, load_state
from utils.errors import UserError
from utils.run_record import append_json_line

PART, SUFFIX = "BTF", ".safetensors"


@dataclass(frozen=True)
class BTFConfig:
    """Everything that decides the bank.

    model: see BTFSettings.
    data: a hash of the training files, and how many were to be used.
    epochs: 1.
    batch_size: part of the files' names.
    seed: of the projection on which rows are chosen.
    """

    model: BTFSettings
    data: Mapping[str, Any]
    epochs: int
    batch_size: int
    seed: int


@dataclass(frozen=True)
class BTFPlan:
    """What a bank will be made of. backbone: None for features without a network."""

    config: BTFConfig
    data: NominalData
    backbone: Backbone | None
    device: torch.device

    def read(self) -> Tensor:
        """The rows of each training image, (n, 784, D)."""
        samples = (sample for _, sample in self.data.samples("train", "reading"))
        count = len(self.data.hashes("train"))
        return read_rows(samples, count, self.config.model, self.backbone, self.device)

    def learn(
        self, read: Tensor, name: CheckpointName, resume: bool, report: Callable[[dict[str, Any]], None]
    ) -> Learned:
        """Choose the rows of the bank."""
        log = name.path(PART, ".jsonl")
        log.unlink(missing_ok=True)
        made = fit(read, self.config.model, self.backbone, self.config.seed)
        entry = {"epoch": 1, "rows": read.shape[0] * read.shape[1], "kept": len(made.bank.rows)}
        append_json_line(log, entry)
        report(entry)
        return Learned({PART: made.state_dict()}, made)


def make_plan(data: NominalData, options: argparse.Namespace, device: torch.device) -> BTFPlan:
    """Load the network, if the features need one, and say what decides the bank; see `models.method.Method.plan`."""
    if options.epochs_no != 1:
        raise UserError(f"--epochs_no {options.epochs_no}: {PART} reads each image once. Leave the option out.")
    check_precision(options.precision)
    model, backbone = settings_for(options.features, options.backbone, options.rgb_weights, options.fraction)
    made_of = {"sha256": data_sha256(data, "train"), "shots": options.shots}
    config = BTFConfig(model, made_of, options.epochs_no, options.batch_size, options.seed)
    return BTFPlan(config, data, backbone and backbone.to(device), device)


def load_bank_of(run: TrainedRun, options: Mapping[str, Any]) -> tuple[BTF, dict[str, Any]]:
    """The detector of a run on the CPU, and its settings; options and errors as of `models.method.Method.load`."""
    settings, path = load_settings(run.name, PART), run.name.path(PART, SUFFIX)
    state = load_state(path)
    if settings is None:
        raise UserError(f"{run.name.path(PART, '.json')}: missing; it says what features the bank holds. Restore it.")
    try:
        stored = BTFSettings(**settings["config"]["model"])
        chosen, backbone = settings_for(stored.features, stored.backbone, options.get("rgb_weights"), stored.fraction)
        made = load(stored, state, backbone)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise UserError(
            f"{path}: does not fit the settings beside it ({error}). Restore both or train again."
        ) from error
    if chosen != stored:
        raise UserError(
            f"{path}: was made with other weights of {stored.backbone}, sha256 {stored.weights_sha256}; found "
            f"{chosen.weights_sha256}. Name the same file (--rgb_weights) or train again."
        )
    return made, settings


def check_precision(precision: str | None) -> None:
    """Refuse what would be ignored. Raises UserError."""
    if precision == "bf16":
        raise UserError(f"--precision bf16: {PART} compares exact distances, in fp32. Leave the option out.")
