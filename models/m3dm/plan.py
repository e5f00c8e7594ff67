"""A training of M3DM: from the options and the samples of a class to banks, and to the network that fuses.

Checkpoint files: `M3DM_….safetensors` banks, weights of the decision, network and statistics of the extractor,
`M3DM_….json` settings, `M3DM_….jsonl` losses of the network, or how many rows were read and kept, and, while a network
is trained, `M3DM_resume_….pth`.
"""

import argparse
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from tqdm import tqdm

from models.extractors import Extractor
from models.extractors.stored import asked_for, check_fingerprint, check_given, given, rebuild
from models.m3dm.banks import fit_banks, load_banks
from models.m3dm.cells import Cells, cells_of
from models.m3dm.detector import M3DM, Decision, decide
from models.m3dm.settings import DECISIONS, M3DMSettings
from models.m3dm.uff import UFF, UFFLearner
from models.method import Learned, NominalData, TrainedRun, data_sha256
from models.token_store import fit_extractor
from utils.checkpoint import CheckpointName, load_settings, load_state
from utils.errors import UserError
from utils.run_record import append_json_line
from utils.training import SAVE_SECONDS, train_run

PART, SUFFIX = "M3DM", ".safetensors"
CPU = torch.device("cpu")


@dataclass(frozen=True)
class M3DMConfig:
    """Everything that decides the banks.

    model: see M3DMSettings.
    extractor: its fingerprint.
    data: a hash of the training files, and how many were to be used.
    precision: of the extractor, `fp32` or `bf16`; distances are exact.
    epochs: of the network that fuses; 1 without one.
    batch_size, seed: of the run.
    """

    model: M3DMSettings
    extractor: Mapping[str, Any]
    data: Mapping[str, Any]
    precision: str
    epochs: int
    batch_size: int
    seed: int


@dataclass(frozen=True)
class M3DMPlan:
    """What banks will be made of. extractor: `read` fits it."""

    config: M3DMConfig
    data: NominalData
    extractor: Extractor
    device: torch.device

    def read(self) -> list[Cells]:
        """The cells of each training image, on the CPU; the extractor is fitted to its tokens."""
        samples = (sample for _, sample in self.data.samples("train", "extracting", self.extractor.view))
        tokens = fit_extractor(self.extractor, samples, self.config.batch_size, self.device)
        return [cells_of(of).to(CPU) for of in tokens]

    def learn(
        self, read: Sequence[Cells], name: CheckpointName, resume: bool, report: Callable[[dict[str, Any]], None]
    ) -> Learned:
        """Train the network, if there is to be one, choose the rows of the banks and weigh them."""
        config = self.config
        uff = None
        if config.model.uff:
            learner = UFFLearner(read, config.epochs, config.batch_size, config.seed, self.device)
            train_run(learner, len(read), config, name, PART, resume, report, SAVE_SECONDS)
            uff = learner.network.eval()
        banks = fit_banks(read, config.model, uff, config.seed, self.device)
        decision = decide(tqdm(read, "weighing the banks", unit="image"), banks, uff, config.model)
        made = M3DM(config.model, self.extractor, uff, banks, decision)
        if uff is None:
            log = name.path(PART, ".jsonl")
            log.unlink(missing_ok=True)
            cells = sum(len(of.xyz) for of in read)
            entry = {"epoch": 1, "cells": cells, "kept": {key: len(bank.bank.rows) for key, bank in banks.items()}}
            append_json_line(log, entry)
            report(entry)
        return Learned({PART: state_of(made)}, made)


def make_plan(data: NominalData, options: argparse.Namespace, device: torch.device) -> M3DMPlan:
    """Build the extractor, and say what decides the banks; see `models.method.Method.plan`."""
    model = settings_of(options)
    extractor = asked_for(options, device)
    made_of = {"sha256": data_sha256(data, "train"), "shots": options.shots}
    run = options.precision or "fp32", options.epochs_no, options.batch_size, options.seed
    return M3DMPlan(M3DMConfig(model, extractor.fingerprint(), made_of, *run), data, extractor, device)


def settings_of(options: argparse.Namespace) -> M3DMSettings:
    """What the options mean.

    Raises:
        UserError: one of them would be ignored.
    """
    if options.modalities != "both":
        asked = [f"--{name}" for name in ("uff", "decision", "as_released") if getattr(options, name)]
        if asked:
            raise UserError(
                f"{', '.join(asked)}: say how several banks work together, and with --modalities {options.modalities} "
                "there is one. Leave them out."
            )
    if options.epochs_no != 1 and not options.uff:
        raise UserError(f"--epochs_no {options.epochs_no}: without --uff {PART} reads each image once. Leave it out.")
    decision = options.decision or ("svm" if options.as_released else DECISIONS[0])
    return M3DMSettings(options.modalities, options.fraction, options.uff, decision, options.as_released)


def state_of(made: M3DM) -> dict[str, Tensor]:
    """All tensors that `load_banks_of` needs: the part, its bank if it is of one, and the name of a tensor."""
    groups: dict[str, Mapping[str, Tensor]] = {f"bank.{name}": bank.state_dict() for name, bank in made.banks.items()}
    groups["decision"] = {"image": made.decision.image, "map": made.decision.map}
    groups["uff"] = made.uff.state_dict() if made.uff else {}
    groups["extractor"] = made.extractor.state_dict()
    return {f"{group}.{name}": value for group, state in groups.items() for name, value in state.items()}


def load_banks_of(
    run: TrainedRun, device: torch.device, precision: str | None, options: Mapping[str, Any]
) -> tuple[M3DM, dict[str, Any]]:
    """The detector of a run, and its settings; arguments and errors as of `models.method.Method.load`."""
    settings, path = load_settings(run.name, PART), run.name.path(PART, SUFFIX)
    state = load_state(path)
    if settings is None:
        raise UserError(f"{run.name.path(PART, '.json')}: missing; it says what the banks hold. Restore it.")
    try:
        config = settings["config"]
        chosen, stored = M3DMSettings(**config["model"]), config["extractor"]
        check_given(stored, given(options))
        files = options.get("rgb_weights"), options.get("xyz_weights")
        precision = precision or config["precision"]
        extractor = rebuild(stored, device, str(precision), *files, _group(state, "extractor"))
        check_fingerprint(extractor, stored)
        made = _load(chosen, extractor, state, device)
    except (KeyError, TypeError, ValueError, AttributeError, RuntimeError) as error:
        raise UserError(
            f"{path}: does not fit the settings beside it ({error}). Restore both or train again."
        ) from error
    return made, settings


def _load(chosen: M3DMSettings, extractor: Extractor, state: Mapping[str, Tensor], device: torch.device) -> M3DM:
    """From the tensors of `state_of`. Raises UserError, or one of Python's own where they are others."""
    widths = {"rgb": extractor.rgb_width, "xyz": extractor.xyz_width}
    widths["fusion"] = widths["rgb"] + widths["xyz"]
    names = {key.split(".")[1] for key in state if key.startswith("bank.")}
    found = {name: _group(state, f"bank.{name}") for name in sorted(names, key=list(widths).index)}
    banks = load_banks(found, {name: widths[name] for name in chosen.banks})
    uff = None
    if chosen.uff:
        uff = UFF(widths["xyz"], widths["rgb"])
        uff.load_state_dict(_group(state, "uff"))
        uff = uff.to(device).eval()
    weights = [state[f"decision.{kind}"] for kind in ("image", "map")]
    if any(of.shape != (len(banks),) or not bool((of >= 0).all()) for of in weights):
        raise ValueError(f"expected {len(banks)} weights ≥ 0 of the banks, found {[of.tolist() for of in weights]}")
    placed = {name: bank.to(device) for name, bank in banks.items()}
    return M3DM(chosen, extractor, uff, placed, Decision(*(of.to(device) for of in weights)))


def _group(state: Mapping[str, Tensor], group: str) -> dict[str, Tensor]:
    """The tensors of a group by their own names."""
    return {key.removeprefix(f"{group}."): value for key, value in state.items() if key.startswith(f"{group}.")}
