"""A training of DBMRNet: from the options and the samples of a class to networks."""

import argparse
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields
from typing import Any

import torch

from models.dbmrnet import training
from models.dbmrnet.inputs import Inputs, prepare
from models.dbmrnet.pipeline import DBMRNetPipeline
from models.dbmrnet.settings import ModelSettings
from models.method import Learned, NominalData, data_sha256
from models.token_store import batches
from utils.checkpoint import CheckpointName


@dataclass(frozen=True)
class Read:
    """Prepared samples on the device of the run; validation: None where the dataset has no such split."""

    train: Inputs
    validation: Inputs | None

    def __len__(self) -> int:
        return len(self.train)


@dataclass(frozen=True)
class DBMRNetPlan:
    """What a run will be trained on."""

    config: training.DBMRNetConfig
    data: NominalData
    device: torch.device

    def read(self) -> Read:
        """Prepare the samples of each split."""
        found: Mapping[str, Inputs] = {split: self._prepared(split) for split in self.data.splits}
        return Read(found["train"], found.get("validation"))

    def _prepared(self, split: str) -> Inputs:
        samples = (sample for _, sample in self.data.samples(split, f"preparing {split}"))
        chosen = self.config.model, self.config.seed, self.device
        return Inputs.concatenate([prepare(batch, *chosen) for batch in batches(samples, self.config.batch_size)])

    def learn(
        self, read: Read, name: CheckpointName, resume: bool, report: Callable[[dict[str, Any]], None]
    ) -> Learned:
        """Train a network; see `training.train`."""
        found = training.train(read.train, read.validation, self.config, name, resume, report)
        pipelines = {part: DBMRNetPipeline(detector) for part, detector in found.items()}
        return Learned(training.states(found), pipelines[training.PART], pipelines.get(training.BEST))


def make_plan(data: NominalData, options: argparse.Namespace, device: torch.device) -> DBMRNetPlan:
    """Say what decides the weights: the options, and of each split a hash of the hashes of its images."""
    model = ModelSettings(**{field.name: getattr(options, field.name) for field in fields(ModelSettings)})
    hashes = {split: data_sha256(data, split) for split in data.splits}
    config = training.DBMRNetConfig(
        model=model,
        data={"sha256": hashes, "shots": options.shots},
        precision=options.precision or "fp32",
        epochs=options.epochs_no,
        batch_size=options.batch_size,
        seed=options.seed,
        learning_rate=options.learning_rate or model.sizes.learning_rate,
        warmup_epochs=options.warmup_epochs,
        masked_share=options.masked_share,
    )
    return DBMRNetPlan(config, data, device)
