"""What happens with the test images of one class, whatever the method: predictions, saved maps, report, pictures."""

import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from tqdm import tqdm

from evaluation.results import Prediction, evaluate, result_name, write_results
from evaluation.thresholds import Thresholds
from models.anomaly_map import AnomalyMap
from report.evaluation import ReportSample, drawn, write_report
from report.figures import canvas, colours, contact_sheet, panels
from utils.files import check_names, locked
from utils.map_files import save_map
from utils.run_record import machine, versions


class Named(Protocol):
    """Name of a test image: its folder and its file's name without suffix; see `datasets.records.Record`."""

    @property
    def defect(self) -> str: ...
    @property
    def stem(self) -> str: ...


@contextmanager
def reserved(
    class_name: str,
    epochs: int,
    batch_size: int,
    images: Sequence[Named],
    results: Path,
    pictures: Path | None,
    maps: Path | None,
) -> Iterator[None]:
    """Hold the right to write the results of a class, before work begins; no other evaluation writes the same files.

    Args:
        class_name, epochs, batch_size: of the run.
        images: to be tested.
        results, pictures, maps: folders, see `ClassRun`; None where nothing is written.

    Raises:
        UserError: a file's name would be too long, or another command is writing.
    """
    run = result_name(class_name, epochs, batch_size)
    wanted = {(results, run): [f"{run}.json"]}  # the same folder may be given for pictures and maps
    if pictures is not None:
        names = [f"{name}.png" for name in picture_names(images)]
        wanted[pictures, class_name] = [f"{class_name}_contact_sheet.png", *names]
    if maps is not None:
        wanted.setdefault((maps, class_name), []).extend(f"{image.stem}.tiff" for image in images)
    for (folder, _), names in wanted.items():
        check_names(folder / name for name in names)
    with ExitStack() as held:
        for folder, name in {(folder.resolve(), name) for folder, name in wanted}:
            held.enter_context(locked(folder, name))
        yield


def picture_names(images: Sequence[Named]) -> list[str]:
    """`DEFECT_STEM` of each image. Where that is taken (`cut/deep_000`, `cut_deep/000`), a number follows: `…_2`."""
    names: list[str] = []
    taken: set[str] = set()
    for image in images:
        name, number = f"{image.defect}_{image.stem}", 1
        while name.casefold() in taken:  # some file systems know no case
            number += 1
            name = f"{image.defect}_{image.stem}_{number}"
        taken.add(name.casefold())
        names.append(name)
    return names


class ClassRun:
    """Collects the test images of one class.

    Attributes:
        predictions: one a test image, in the order they came.
        branches: name of a branch → what it alone predicts, in the same order; empty for methods without branches.
        samples: what the report shows of them, in the same order.
        panels: what the figures show besides, when they are wanted.
        peak_mib: the most memory held until the last image was looked at, see `utils.devices.peak_memory`.
        weights_mb: megabytes of the run's files of weights; None where they are not known.
    """

    def __init__(
        self, class_name: str, maps_folder: Path | None, with_pictures: bool, thresholds: Thresholds | None = None
    ) -> None:
        """maps_folder: where maps go as `CLASS/test/DEFECT/STEM.tiff`, float32; None writes none."""
        self.class_name, self.maps_folder, self.with_pictures = class_name, maps_folder, with_pictures
        self.thresholds = thresholds
        self.maps = ""  # the kind of map
        self.predictions: list[Prediction] = []
        self.branches: dict[str, list[Prediction]] = {}
        self.samples: list[ReportSample] = []
        self.panels: list[Mapping[str, np.ndarray]] = []
        self.peak_mib: dict[str, float | None] = {}
        self.weights_mb: float | None = None

    def add(
        self,
        defect: str,
        stem: str,
        image: np.ndarray,
        xyz: np.ndarray,
        gt: np.ndarray | None,
        found: AnomalyMap,
        seconds: float,
        *,
        branches: Mapping[str, AnomalyMap] | None = None,
        extra: Mapping[str, np.ndarray] | None = None,
        saved: np.ndarray | None = None,
    ) -> None:
        """Take one test image.

        Args:
            defect, stem: its folder and its file name.
            image: (H, W, 3) uint8.
            xyz: (H, W, 3) metres, invalid points (0, 0, 0).
            gt: (H, W) bool, True = anomalous; None = not known.
            found: what the detector says, on the CPU.
            seconds: spent on it.
            branches: what each branch of the detector says alone, on the CPU; the same names for every image.
            extra: more panels of the figure, see `panels.QualitativeFigure`.
            saved: the map for `maps_folder`, float32; by default the AUPRO map on the grid.
        """

        def predict(scored: AnomalyMap) -> Prediction:
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

        prediction, self.maps = predict(found), type(found).__name__
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
            folder: where they go.
            epochs, batch_size: of the run, for their names.
            config: how they were made.
            device: `cpu` or `cuda`, for the timing.

        Returns:
            The path of the JSON file; the Markdown lies beside it, the report in a folder of the same name.
        """
        if any(p.gt is None for p in self.predictions):
            print(f"note: {self.class_name}: its defects have no masks, only figures of images are computed")
        metrics = evaluate(self.predictions)
        branches = {name: evaluate(predictions) for name, predictions in self.branches.items()}
        cost = {"peak_mib": self.peak_mib, "weights_mb": self.weights_mb}
        timing = {**self.timing(), **cost, "device": device, "machine": machine()}
        key = (self.class_name, epochs, batch_size)
        thresholds = None if self.thresholds is None else self.thresholds.as_json()
        made = config, versions(), timing
        path = write_results(folder, *key, metrics, self.predictions, *made, branches, thresholds, self.maps)
        try:
            write_report(path, self.samples)
        except ImportError as error:
            print(f"{path.with_suffix('')}: the report is left out, a package is missing ({error}).", file=sys.stderr)
        return path

    def write_pictures(self, folder: Path, show: bool) -> None:
        """Write a figure an image, `FOLDER/CLASS/DEFECT_STEM.png`, and a contact sheet; show them on request.

        See `picture_names`.
        """
        pictures = [drawn(sample, self.class_name) for sample in self.samples]
        scale = colours.colour_scale(pictures)
        sheet = folder / f"{self.class_name}_contact_sheet.png"
        contact_sheet.save_contact_sheet(sheet, pictures, scale, self.class_name)
        bar = tqdm(self.predictions, f"{self.class_name}: pictures", unit="image")
        names = picture_names(self.predictions)
        figure = panels.QualitativeFigure(scale, len(self.panels[0]))
        for name, _, picture, extra in zip(names, bar, pictures, self.panels, strict=True):
            path = folder / self.class_name / f"{name}.png"
            figure.save(path, picture, extra)
            if show:
                canvas.show(path)
