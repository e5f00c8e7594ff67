"""What a method offers to what is built on it: options, training, loading, and what its files are called.

`models.methods.METHODS` has the methods. This module is imported for a command line's help: nothing heavy at its top.
"""

import argparse
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from utils.errors import UserError
from utils.files import sha256_text

if TYPE_CHECKING:
    import torch
    from torch import Tensor, nn

    from models.anomaly_map import AnomalyMap
    from models.token_store import GridSample
    from utils.checkpoint import CheckpointName
    from utils.training import RunConfig
    from utils.view import ViewSettings


class Pipeline(Protocol):
    """What every method offers for samples: their maps, and the settings that thresholds for those depend on.

    view: with which samples are to be made, see `datasets.sample.make_sample`.
    """

    @property
    def view(self) -> "ViewSettings | None": ...
    @property
    def settings(self) -> dict[str, Any]: ...
    def maps(self, samples: "Sequence[GridSample]") -> "Sequence[AnomalyMap]": ...


class NominalData(Protocol):
    """Good samples of one class, to be learned from."""

    @property
    def splits(self) -> Sequence[str]:
        """`train`, and `validation` where the dataset has that split."""

    def hashes(self, split: str) -> Mapping[str, str]:
        """Of each sample's stem a hash of its files, in their order."""

    def samples(
        self, split: str, label: str, view: "ViewSettings | None" = None, stems: Sequence[str] | None = None
    ) -> "Iterator[tuple[str, GridSample]]":
        """The samples with their stems, read under a progress bar.

        Args:
            label: of the bar.
            view: to make them with.
            stems: only these; None for all.

        Raises:
            UserError: a sample cannot be used, and is not to be skipped; or none of all can.
        """


def data_sha256(data: NominalData, split: str) -> str:
    """Hash of the files of all samples of a split, in their order: part of what decides the weights."""
    return sha256_text(" ".join(data.hashes(split).values()))


@dataclass(frozen=True)
class TrainedRun:
    """A trained run.

    Attributes:
        method: name of its method, for example "CFM".
        name: of its files.
        best: the weights that were best on validation samples, of a method that keeps them besides the last ones.
    """

    method: str
    name: "CheckpointName"
    best: bool = False

    @property
    def part(self) -> str:
        """Begin of the names of its weights' and thresholds' files."""
        return f"{self.method}_best" if self.best else self.method

    def __str__(self) -> str:
        best = " (best)" if self.best else ""
        return f"{self.method} {self.name.class_name} {self.name.epochs}ep_{self.name.batch_size}bs{best}"


@dataclass(frozen=True)
class Learned:
    """What came of a training.

    Attributes:
        states: state dict of each file of weights, by the begin of its name; an empty one is not written.
        last: pipeline of the weights in the end.
        best: that of the best on validation samples, if the method keeps them.
        ways: in how many ways each image was learned from.
    """

    states: "Mapping[str, Mapping[str, Tensor]]"
    last: Pipeline
    best: Pipeline | None = None
    ways: int = 1


class Plan(Protocol):
    """A training that could begin."""

    @property
    def config(self) -> "RunConfig":
        """Everything that decides the weights."""

    def read(self) -> Any:
        """What is learned from, made of the samples: one item for each, or one for each way in which it is seen."""

    def learn(
        self, read: Any, name: "CheckpointName", resume: bool, report: Callable[[dict[str, Any]], None]
    ) -> Learned:
        """Learn from what was read.

        Args:
            name: where the run's log and its state to resume from go.
            resume: go on from that state, if there is one.
            report: called with the log entry of each epoch.
        """


@dataclass(frozen=True)
class Loaded:
    """A trained run on a device. settings: beside the checkpoint, None without any. note: what a user should know."""

    pipeline: Pipeline
    settings: Mapping[str, Any] | None
    note: str = ""


Panels = Callable[[], "Sequence[Mapping[str, Tensor]]"]
"""Makes further panels of each sample's figure, by title: (3, H, W) images as those of samples, or (H, W) depths."""


class Method(Protocol):
    """A method of detection. Most has a default for methods that extend this class.

    Attributes:
        name: as results show it; files of its runs begin with it. Its key in `METHODS` is the same in small letters.
        title: in full.
        citation: of the paper.
        epochs, batch_size: defaults of these options.
        parts: what follows the name in those of the weights' files.
        suffix: of these files.
        branches: what evaluation also reports of each map: name → aggregation, see `AnomalyMap.branch`.
        reading: what a checkpoint's settings call the time that reading took.
        no_graph: why its maps cannot be exported as one graph, where that is so.
    """

    name: str
    title: str
    citation: str
    epochs: int = 1
    batch_size: int = 4
    parts: Sequence[str] = ("",)
    suffix: str = ".safetensors"
    branches: Mapping[str, str] = {}
    reading: str = "preparation"
    no_graph: str = "it has no graph"

    @property
    def checkpoints(self) -> str:
        """Default folder of the checkpoints."""
        return f"./checkpoints/checkpoints_{self.name}_mvtec"

    @property
    def results(self) -> str:
        """End of the default names of folders of results."""
        return f"{self.name.lower()}_mvtec"

    def add_training_options(self, parser: argparse.ArgumentParser) -> None:
        """Options that only this method's training has."""

    def add_inference_options(self, parser: argparse.ArgumentParser) -> None:
        """Options that only this method's inference has. `--checkpoint best` is for the best weights."""

    def plan(self, data: NominalData, options: argparse.Namespace, device: "torch.device") -> Plan:
        """Prepare a training.

        Args:
            data: to learn from.
            options: of all training.
            device: where to compute.

        Raises:
            UserError: options that do not fit each other or the data.
        """
        raise NotImplementedError

    def load(
        self, run: TrainedRun, device: "torch.device", precision: str | None, options: Mapping[str, Any]
    ) -> Loaded:
        """Load a trained run.

        Args:
            run: of this method.
            device: where it is to run.
            precision: `fp32`, `bf16`, or None for that of the run.
            options: values of `add_inference_options` by name; those that are absent have their defaults.

        Raises:
            UserError: a file is missing or damaged, or what is asked for contradicts the run.
        """
        raise NotImplementedError

    def branches_of(self, pipeline: Any) -> Mapping[str, str]:
        """Those of `branches` that a loaded run has."""
        return self.branches

    def describe(self, loaded: Loaded, options: Mapping[str, Any]) -> dict[str, Any]:
        """What result files say of how the maps were made, as JSON values.

        Single values set runs apart in tables; what may differ between classes of one run goes into an object.
        """
        return {}

    def look(self, pipeline: Any, samples: "Sequence[GridSample]") -> "tuple[Sequence[AnomalyMap], Panels]":
        """The maps of a batch, and what makes further panels of its figures."""
        return pipeline.maps(samples), lambda: [{}] * len(samples)

    def graph(self, loaded: Loaded, shape: tuple[int, int]) -> "nn.Module":
        """From a camera's arrays to the map of `Pipeline.maps`, in one module that can be exported.

        Its `forward` takes the (h, w, 3) uint8 image, the (h, w, 3) float32 cloud in metres and its (h, w) bool mask,
        True = measured, and returns the (224, 224) map. No shape but the number of chosen pixels or cells depends on
        the values. Its `half` takes float16 where that is good enough; `dense` holds the layers that may take whole
        numbers of 8 bits.

        Args:
            loaded: on the CPU, in float32.
            shape: (h, w) of the frame.

        Raises:
            UserError: there is no such graph; says why.
        """
        raise UserError(f"{self.title} cannot be exported: {self.no_graph}.")

    def weights(self, run: TrainedRun) -> list[Path]:
        """The files of weights of a run, in the order in which their hash takes them, whether they exist or not."""
        return [run.name.path(f"{run.part}{part}", self.suffix) for part in self.parts]
