"""A training of Crossmodal Feature Mapping: from the options and the samples of a class to mappers."""

import argparse
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from models.cfm import training
from models.cfm.augmentation import AUGMENTATIONS, looks
from models.cfm.pipeline import CFMPipeline
from models.extractors import Extractor
from models.extractors.stored import asked_for
from models.method import Learned, NominalData, data_sha256
from models.token_store import CachedTokens, GridSample, cache_tokens, fit_extractor
from models.tokens import Tokens
from utils.checkpoint import CheckpointName


@dataclass(frozen=True)
class CFMPlan:
    """What a run will be trained on. extractor: `read` fits it. cache: folder of tokens, None for memory."""

    config: training.CFMConfig
    data: NominalData
    extractor: Extractor
    device: torch.device
    cache: Path | None

    def read(self) -> Sequence[Tokens]:
        """The tokens of each training image in each way; the extractor is fitted to them."""
        how = self.extractor, self.config.batch_size, self.device
        if self.cache is not None:
            digests = {
                (stem, way): f"{digest} {way}" if way else digest
                for stem, digest in self.data.hashes("train").items()
                for way in range(AUGMENTATIONS[self.config.augment])
            }
            found = cache_tokens(digests, self._load, *how, self.cache)
            self.extractor.fit(found)
            return CachedTokens(found.paths, self.extractor.standardise)
        return fit_extractor(self.extractor, (sample for _, sample in self._load()), *how[1:])

    def _load(self, wanted: Collection[tuple[str, int]] | None = None) -> Iterator[tuple[tuple[str, int], GridSample]]:
        """The training images, each in all ways, or only those wanted, with stem and number of the way."""
        stems = None if wanted is None else list(dict.fromkeys(stem for stem, _ in wanted))
        chosen = None if wanted is None else set(wanted)
        for stem, sample in self.data.samples("train", "extracting", self.extractor.view, stems):
            for way, look in enumerate(looks(sample, self.extractor.view, self.config.augment)):
                if chosen is None or (stem, way) in chosen:
                    yield (stem, way), look

    def learn(
        self, read: Sequence[Tokens], name: CheckpointName, resume: bool, report: Callable[[dict[str, Any]], None]
    ) -> Learned:
        """Train both mappers; see `training.train`."""
        detector = training.train(read, self.config, name, self.device, resume, report)
        states = training.states(detector, self.extractor.state_dict())
        pipeline = CFMPipeline(self.extractor, detector, self.device)
        return Learned(states, pipeline, ways=AUGMENTATIONS[self.config.augment])


def make_plan(data: NominalData, options: argparse.Namespace, device: torch.device) -> CFMPlan:
    """Build the extractor, and say what decides the weights; see `models.method.Method.plan`."""
    extractor = asked_for(options, device)
    made_of = {"sha256": data_sha256(data, "train"), "shots": options.shots}
    mapper, share = training.DEFAULTS.get(options.extractor, training.PAPER)
    precision = options.precision or "fp32"
    run = precision, options.epochs_no, options.batch_size, options.seed, options.pixel_fraction or share
    few = training.default_augment(options.extractor, len(data.hashes("train")))
    augment = {None: few, "none": None}.get(options.augment, options.augment)
    config = training.CFMConfig(extractor.fingerprint(), made_of, options.mapper or mapper, *run, augment)
    return CFMPlan(config, data, extractor, device, options.token_cache)
