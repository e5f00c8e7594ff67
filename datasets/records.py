"""Which files belong together: scan one split of one class and pair RGB, cloud and mask by stem.

Layout (MVTec 3D-AD): `<dataset>/<class>/{train,validation,test}/<good|defect>/{rgb,xyz,gt}/<stem>.<suffix>`.
"""

import random
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from utils.errors import UserError
from utils.files import sha256_file

SPLITS = ("train", "validation", "test")
SUFFIXES = {
    "rgb": (".png", ".jpg", ".jpeg", ".tif", ".tiff", ".bmp"),
    "xyz": (".tiff", ".tif"),
    "gt": (".png", ".tiff", ".tif", ".bmp"),
}

_CONVERT = "Datasets with other names for these folders: see processing/convert_rgbd.py --help."


@dataclass(frozen=True)
class Record:
    """The files of one sample.

    Attributes:
        class_name: name of the class folder.
        split: "train", "validation" or "test".
        defect: name of the defect folder, "good" for nominal samples.
        stem: file name without suffix, shared by the files.
        rgb: colour image.
        xyz: organised point cloud.
        gt: mask of the anomalous pixels. None: of a good sample, no pixel is; of a defective one, it is not known.
    """

    class_name: str
    split: str
    defect: str
    stem: str
    rgb: Path
    xyz: Path
    gt: Path | None

    @property
    def is_good(self) -> bool:
        return self.defect == "good"

    @property
    def lacks_mask(self) -> bool:
        """Whether it is not known which pixels are anomalous, as in a class whose defects have no masks at all."""
        return self.gt is None and not self.is_good

    @property
    def dataset_path(self) -> Path:
        """Root of the dataset that the files lie in, as the layout has it."""
        parents = self.xyz.parents
        return parents[min(4, len(parents) - 1)]

    def __str__(self) -> str:
        return f"{self.class_name}/{self.split}/{self.defect}/{self.stem}"


def class_names(dataset_path: Path) -> list[str]:
    """Names of the class folders (those that hold train/ or test/), sorted.

    Raises:
        UserError: `dataset_path` is no folder, or holds no class folder.
    """
    dataset_path = Path(dataset_path)
    if not dataset_path.is_dir():
        raise UserError(
            f"{dataset_path}: no such folder. Expected the dataset's root, one folder a class; check --dataset_path."
        )
    names = [path.name for path in _folders(dataset_path) if (path / "train").is_dir() or (path / "test").is_dir()]
    if names:
        return names
    if (dataset_path / "train").is_dir() or (dataset_path / "test").is_dir():
        hint = f"This is a class folder itself: pass its parent, {dataset_path.resolve().parent}."
    else:
        found = ", ".join(path.name for path in _folders(dataset_path)[:10]) or "no folders"
        hint = f"Found {found}. Check --dataset_path."
    raise UserError(f"{dataset_path}: expected class folders that hold train/ or test/. {hint}")


def check_classes(dataset_path: Path, wanted: Sequence[str], there: Sequence[str]) -> None:
    """Raise UserError for the first of the wanted classes that a dataset does not have."""
    for name in wanted:
        if name not in there:
            raise UserError(f"{dataset_path}: no class {name!r}. Classes found: {', '.join(there)}.")


def scan(dataset_path: Path, class_name: str, split: str, skipped: list[str] | None = None) -> list[Record]:
    """Records of one split of one class, "good" first, then the defects by name, each by stem.

    Train and validation hold "good" only, so their order is that of the stems and "the first N" is well defined.
    Files with other suffixes than `SUFFIXES` and names that begin with a dot are not looked at. Defects need masks
    unless no defect of the class has any: figures of images can be had without.

    Args:
        dataset_path: root of the dataset.
        class_name: any class folder of it.
        split: "train", "validation" or "test".
        skipped: None raises at the first sample whose partner file is missing; a list takes the messages instead,
            and those samples are left out.

    Raises:
        UserError: unknown class, no such split, a folder is missing, or no sample is found; and see `skipped`.
    """
    dataset_path = Path(dataset_path)
    if split not in SPLITS:
        raise ValueError(f"split must be one of {', '.join(SPLITS)}, got {split!r}")
    check_classes(dataset_path, [class_name], class_names(dataset_path))
    folder = dataset_path / class_name / split
    _check_split(folder, dataset_path)
    problems: list[str] = []
    records: list[Record] = []
    masked = split == "test" and _has_masks(folder)
    for defect in sorted(_folders(folder), key=lambda path: (path.name != "good", path.name)):
        if split != "test" and defect.name != "good":
            advice = _CONVERT if defect.name.lower() == "good" else "Move this folder to test/."
            raise UserError(f"{defect}: {split}/ may hold only good/ (nominal samples). {advice}")
        records += _pair(defect, class_name, split, masked, problems)
        if problems and skipped is None:
            raise UserError(problems[0])
    if skipped is not None:
        skipped += problems
    if not records:
        found = f"The first problem: {problems[0]}" if problems else "Expected <stem>.png in rgb/, <stem>.tiff in xyz/."
        raise UserError(f"{folder}: no complete sample found. {found}")
    return records


@dataclass(frozen=True)
class NominalSplit:
    """Good samples to train on, and others that are not trained on.

    Attributes:
        train: to train on.
        validation: apart from those; empty where there are too few.
        source: "validation" for the split of that name, "hold-out" for a part of the training split.
    """

    train: list[Record]
    validation: list[Record]
    source: str


def nominal_split(
    dataset_path: Path,
    class_name: str,
    shots: int | None,
    hold_out: float,
    skipped: list[str] | None = None,
    drawn_by: int | None = None,
) -> NominalSplit:
    """The good samples of a class. Without a validation split, training samples are kept back in its place.

    These are the ones after the first `shots`, or the ones that were not drawn, or else evenly spaced ones.

    Args:
        dataset_path, class_name, skipped: see `scan`.
        shots: train on the first N only; None = all.
        hold_out: share of the training split that is kept back, in [0, 1), rounded down.
        drawn_by: seed by which the `shots` samples are drawn; they keep their order. None takes the first ones.

    Raises:
        UserError: see `scan`.
    """
    train = scan(dataset_path, class_name, "train", skipped)
    if shots is not None and drawn_by is not None:
        drawn = set(random.Random(drawn_by).sample(range(len(train)), min(shots, len(train))))
        train = [train[i] for i in sorted(range(len(train)), key=lambda i: (i not in drawn, i))]
    if (Path(dataset_path) / class_name / "validation").is_dir():
        return NominalSplit(train[:shots], scan(dataset_path, class_name, "validation", skipped), "validation")
    if shots is not None:
        return NominalSplit(train[:shots], train[shots:] if hold_out else [], "hold-out")
    count = int(len(train) * hold_out)
    held = {train[(2 * i + 1) * len(train) // (2 * count)] for i in range(count)}
    return NominalSplit([r for r in train if r not in held], [r for r in train if r in held], "hold-out")


def _check_split(folder: Path, dataset_path: Path) -> None:
    if (folder / "data").is_dir() or (folder.parent / "test_public").is_dir():
        raise UserError(
            f"{folder.parent}: this is the raw Eyecandies layout. Convert it first: python processing/"
            f"preprocess_eyecandies.py --dataset_path {dataset_path} --target_dir {dataset_path}_preprocessed"
        )
    if not folder.is_dir():
        raise UserError(f"{folder}: no such folder. The class needs {folder.name}/good/rgb and {folder.name}/good/xyz.")


def _has_masks(folder: Path) -> bool:
    """Whether any defect of `<class>/test` has a mask, or a folder that other layouts keep them in."""
    defects = [defect for defect in _folders(folder) if defect.name != "good"]
    return any((d / "ground_truth").is_dir() or any((d / "gt").glob("[!.]*")) for d in defects)


def _pair(folder: Path, class_name: str, split: str, masked: bool, problems: list[str]) -> list[Record]:
    """Records of `<split>/<defect>`; what lacks a partner goes to `problems` as a message. masked: defects have gt."""
    wants_gt = masked and folder.name != "good"
    files = {kind: _by_stem(folder / kind, kind, problems) for kind in ("rgb", "xyz", "gt")}
    for kind in ("rgb", "xyz", "gt") if wants_gt else ("rgb", "xyz"):
        if not (folder / kind).is_dir():
            needed = "Every defect folder of test/" if kind == "gt" else "Every sample folder"
            advice = f" {_CONVERT}" if (folder / "ground_truth").is_dir() else ""
            problems.append(
                f"{folder / kind}: no such folder. {needed} needs {kind}/<stem>{SUFFIXES[kind][0]}.{advice}"
            )
            return []
    records = []
    for stem in sorted(set().union(*files.values())):
        missing = [kind for kind in ("rgb", "xyz", "gt") if stem not in files[kind] and (kind != "gt" or wants_gt)]
        if missing:
            found = next(files[kind][stem] for kind in ("rgb", "xyz", "gt") if stem in files[kind])
            problems.append(
                f"{found}: partner missing, expected {folder / missing[0] / stem}{SUFFIXES[missing[0]][0]}. "
                "Restore that file or remove this one."
            )
            continue
        records.append(
            Record(class_name, split, folder.name, stem, files["rgb"][stem], files["xyz"][stem], files["gt"].get(stem))
        )
    return records


def _by_stem(folder: Path, kind: str, problems: list[str]) -> dict[str, Path]:
    """Files of one kind by stem. Two files with one stem are a problem; the first by name is kept."""
    files: dict[str, Path] = {}
    for path in sorted(folder.iterdir()) if folder.is_dir() else []:
        if path.name.startswith(".") or path.suffix.lower() not in SUFFIXES[kind]:
            continue
        if path.stem in files:
            problems.append(f"{path}: same stem as {files[path.stem].name} in the same folder. Remove one of the two.")
            continue
        files[path.stem] = path
    return files


def _folders(path: Path) -> list[Path]:
    return sorted(child for child in path.iterdir() if child.is_dir() and not child.name.startswith("."))


def hash_images(records: Iterable[Record]) -> dict[str, str]:
    """Of each good record's stem the SHA-256 of its image and of its cloud, with a space between."""
    return {record.stem: f"{sha256_file(record.rgb)} {sha256_file(record.xyz)}" for record in records}
