"""What every method offers to what is built on it, and the methods by their names."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol

from models.anomaly_map import AnomalyMap
from models.checkpoints import TrainedRun
from models.token_store import GridSample
from utils.devices import pick_device
from utils.view import ViewSettings


class Pipeline(Protocol):
    """What every method offers for samples: their maps, and the settings that thresholds for those depend on.

    view: with which samples are to be made, see `datasets.sample.make_sample`.
    """

    @property
    def view(self) -> ViewSettings | None: ...
    @property
    def settings(self) -> dict[str, Any]: ...
    def maps(self, samples: Sequence[GridSample]) -> Sequence[AnomalyMap]: ...


def load_run(
    run: TrainedRun,
    device: str = "auto",
    precision: str | None = None,
    rgb_weights: str | Path | None = None,
    xyz_weights: str | Path | None = None,
) -> tuple[Pipeline, str, dict[str, Any] | None]:
    """Pipeline, hash of the weights, and settings of a run, None where it has none.

    Args:
        device: see `pick_device`. precision: `fp32`, `bf16`, or None for that of the run.
        rgb_weights, xyz_weights: of CFM's `dino_pointmae`, instead of the public files.

    Raises:
        UserError: a damaged file, or a device that is not there.
    """
    place = pick_device(device)
    settings: dict[str, Any] | None
    if run.method == "CFM":
        from models.cfm.pipeline import load_pipeline, weights_sha256

        rgb, xyz = (None if path is None else Path(path) for path in (rgb_weights, xyz_weights))
        pipeline, settings = load_pipeline(run.name, place, precision, rgb, xyz)
        return pipeline, weights_sha256(run.name), settings
    from models.dbmrnet import pipeline as dbmrnet

    network, settings = dbmrnet.load_pipeline(run.name, run.part, place, precision)
    return network, dbmrnet.weights_sha256(run.name, run.part), settings
