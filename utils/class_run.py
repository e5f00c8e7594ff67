"""What happens with the test images of one class, whatever the method: predictions, saved maps, pictures."""

from pathlib import Path
from typing import Protocol

import numpy as np
from torch import Tensor
from tqdm import tqdm

from utils import visualization
from utils.evaluation import Prediction
from utils.files import atomic_path
from utils.visualization import QualitativeInput


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
        pictures: what the figures need, when they are wanted.
    """

    def __init__(self, class_name: str, maps_folder: Path | None, with_pictures: bool) -> None:
        """maps_folder: where AUPRO maps go as `CLASS/test/DEFECT/STEM.tiff`, float32; None writes none."""
        self.class_name, self.maps_folder, self.with_pictures = class_name, maps_folder, with_pictures
        self.predictions: list[Prediction] = []
        self.pictures: list[QualitativeInput] = []

    def add(
        self,
        defect: str,
        stem: str,
        image: np.ndarray,
        depth: np.ndarray,
        gt: np.ndarray,
        found: ScoredMap,
        seconds: float,
    ) -> None:
        """Take one test image.

        Args:
            defect, stem: its folder and its file name. image: (H, W, 3) uint8. depth: (H, W) metres, 0 = invalid.
            gt: (H, W) bool, True = anomalous. found: what the detector says, on the CPU. seconds: spent on it.
        """
        score, aupro_map = found.image_score(), found.aupro_map().numpy()
        prediction = Prediction(
            defect=defect,
            stem=stem,
            image_score=score,
            raw_max=float(found.smoothed.max()),
            seconds=seconds,
            aupro_map=aupro_map,
            pixel_map=found.pixel_map().numpy(),
            gt=gt,
        )
        self.predictions.append(prediction)
        if self.maps_folder:
            save_map(self.maps_folder / self.class_name / "test" / defect / f"{stem}.tiff", aupro_map)
        if self.with_pictures:
            self.pictures.append(
                QualitativeInput(
                    title=f"{self.class_name}, {defect}/{stem}",
                    defect=defect,
                    image_score=score,
                    rgb=image,
                    gt=gt,
                    depth=depth,
                    map_2d=found.psi_2d.numpy(),
                    map_3d=found.psi_3d.numpy(),
                    combined=found.smoothed.numpy(),
                )
            )

    def timing(self) -> dict[str, float | str]:
        """Seconds an image, and what was timed."""
        return {
            "seconds_per_image_median": float(np.median([p.seconds for p in self.predictions])),
            "timed": "from the sample in memory (decoded, resized) to its maps; batches are divided evenly",
        }

    def write_pictures(self, folder: Path, show: bool) -> None:
        """Write a figure an image, `FOLDER/CLASS/DEFECT_STEM.png`, and a contact sheet; show them on request."""
        scale = visualization.colour_scale(self.pictures)
        sheet = folder / f"{self.class_name}_contact_sheet.png"
        visualization.save_contact_sheet(sheet, self.pictures, scale, self.class_name)
        bar = tqdm(self.predictions, f"{self.class_name}: pictures", unit="image")
        for prediction, picture in zip(bar, self.pictures, strict=True):
            path = folder / self.class_name / f"{prediction.defect}_{prediction.stem}.png"
            visualization.save_qualitative(path, picture, scale)
            if show:
                visualization.show(path)


def save_map(path: Path, values: np.ndarray) -> None:
    """Write an (H, W) float32 map as TIFF, atomically."""
    import tifffile

    with atomic_path(path) as temporary:
        tifffile.imwrite(temporary, values)
