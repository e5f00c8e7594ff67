"""What happens with the test images of one class, whatever the method: predictions, saved maps, report, pictures."""

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from torch import Tensor
from tqdm import tqdm

from utils import visualization
from utils.evaluation import Prediction, evaluate, write_results
from utils.files import atomic_path
from utils.report.evaluation import ReportSample, drawn, write_report
from utils.run_record import machine, versions
from utils.thresholds import Thresholds


class ScoredMap(Protocol):
    """What a detector says of one sample; see `models.anomaly_map.AnomalyMap`."""

    @property
    def psi_2d(self) -> Tensor: ...
    @property
    def psi_3d(self) -> Tensor: ...
    @property
    def smoothed(self) -> Tensor: ...
    def aupro_map(self) -> Tensor: ...
    def pixel_map(self) -> Tensor: ...
    def image_score(self) -> float: ...


class ClassRun:
    """Collects the test images of one class.

    Attributes:
        predictions: one a test image, in the order they came.
        branches: name of a branch → what it alone predicts, in the same order; empty for methods without branches.
        samples: what the report shows of them, in the same order.
        panels: what the figures show besides, when they are wanted.
    """

    def __init__(
        self, class_name: str, maps_folder: Path | None, with_pictures: bool, thresholds: Thresholds | None = None
    ) -> None:
        """maps_folder: where maps go as `CLASS/test/DEFECT/STEM.tiff`, float32; None writes none."""
        self.class_name, self.maps_folder, self.with_pictures = class_name, maps_folder, with_pictures
        self.thresholds = thresholds
        self.predictions: list[Prediction] = []
        self.branches: dict[str, list[Prediction]] = {}
        self.samples: list[ReportSample] = []
        self.panels: list[Mapping[str, np.ndarray]] = []

    def add(
        self,
        defect: str,
        stem: str,
        image: np.ndarray,
        xyz: np.ndarray,
        gt: np.ndarray,
        found: ScoredMap,
        seconds: float,
        *,
        branches: Mapping[str, ScoredMap] | None = None,
        extra: Mapping[str, np.ndarray] | None = None,
        saved: np.ndarray | None = None,
    ) -> None:
        """Take one test image.

        Args:
            defect, stem: its folder and its file name. image: (H, W, 3) uint8. xyz: (H, W, 3) metres, invalid
                points (0, 0, 0).
            gt: (H, W) bool, True = anomalous. found: what the detector says, on the CPU. seconds: spent on it.
            branches: what each branch of the detector says alone, on the CPU; the same names for every image.
            extra: more panels of the figure, see `visualization.save_qualitative`.
            saved: the map for `maps_folder`, float32; by default the AUPRO map on the grid.
        """

        def predict(scored: ScoredMap) -> Prediction:
            return Prediction(
                defect=defect,
                stem=stem,
                image_score=scored.image_score(),
                raw_max=float(scored.smoothed.max()),
                seconds=seconds,
                aupro_map=scored.aupro_map().numpy(),
                pixel_map=scored.pixel_map().numpy(),
                gt=gt,
            )

        prediction = predict(found)
        self.predictions.append(prediction)
        for name, scored in (branches or {}).items():
            self.branches.setdefault(name, []).append(predict(scored))
        if self.maps_folder:
            path = self.maps_folder / self.class_name / "test" / defect / f"{stem}.tiff"
            save_map(path, prediction.aupro_map if saved is None else saved)
        maps = found.psi_2d.numpy(), found.psi_3d.numpy(), found.smoothed.numpy()
        self.samples.append(ReportSample(prediction, image, xyz, *maps))
        self.panels.append(extra or {})

    def timing(self) -> dict[str, float | str]:
        """Seconds an image, and what was timed."""
        return {
            "seconds_per_image_median": float(np.median([p.seconds for p in self.predictions])),
            "timed": "from the sample in memory (decoded, resized) to its maps; batches are divided evenly",
        }

    def write_results(self, folder: Path, epochs: int, batch_size: int, config: Mapping[str, Any], device: str) -> Path:
        """Evaluate the predictions, and those of each branch, and write the result files and the report.

        Args:
            folder: where they go. epochs, batch_size: of the run, for their names. config: how they were made.
            device: `cpu` or `cuda`, for the timing.

        Returns:
            The path of the JSON file; the Markdown lies beside it, the report in a folder of the same name.
        """
        metrics = evaluate(self.predictions)
        branches = {name: evaluate(predictions) for name, predictions in self.branches.items()}
        timing = {**self.timing(), "device": device, "machine": machine()}
        key = (self.class_name, epochs, batch_size)
        thresholds = None if self.thresholds is None else self.thresholds.as_json()
        made = config, versions(), timing
        path = write_results(folder, *key, metrics, self.predictions, *made, branches, thresholds)
        try:
            write_report(path, self.samples)
        except ImportError as error:
            print(f"{path.with_suffix('')}: the report is left out, a package is missing ({error}).", file=sys.stderr)
        return path

    def write_pictures(self, folder: Path, show: bool) -> None:
        """Write a figure an image, `FOLDER/CLASS/DEFECT_STEM.png`, and a contact sheet; show them on request."""
        pictures = [drawn(sample, self.class_name) for sample in self.samples]
        scale = visualization.colour_scale(pictures)
        sheet = folder / f"{self.class_name}_contact_sheet.png"
        visualization.save_contact_sheet(sheet, pictures, scale, self.class_name)
        bar = tqdm(self.predictions, f"{self.class_name}: pictures", unit="image")
        for prediction, picture, extra in zip(bar, pictures, self.panels, strict=True):
            path = folder / self.class_name / f"{prediction.defect}_{prediction.stem}.png"
            visualization.save_qualitative(path, picture, scale, extra)
            if show:
                visualization.show(path)


def save_map(path: Path, values: np.ndarray) -> None:
    """Write an (H, W) float32 map as TIFF, atomically."""
    import tifffile

    with atomic_path(path) as temporary:
        tifffile.imwrite(temporary, values)
