"""Scoring saved maps: figures worked out by hand, maps of every size of an image that is not square, and refusals."""

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
from PIL import Image

import evaluate_maps
from datasets.frames import from_square
from datasets.sample import gt_to_grid
from utils import cli
from utils.errors import UserError

NUT_GOOD, NUT_HOLE = np.zeros((4, 4), np.float32), np.zeros((4, 4), np.float32)
NUT_GOOD[1, 2] = 5
NUT_HOLE[0, :2], NUT_HOLE[3, 3], NUT_HOLE[2, 0] = (9, 4), 6, 8  # two regions, and a normal pixel
NUT_MASK = np.zeros((4, 4), bool)
NUT_MASK[0, :2] = NUT_MASK[3, 3] = True
# Exact curve: (0, ¼), (1, ¼), (1, ¾), (2, ¾), (2, 1), (29, 1), FPR in 29ths. Up to 0.3 a rectangle lacks 1/29.
NUT = {"au_pro": 1 - 1 / 29 / 0.3, "au_roc": 1.0, "p_auroc": (29 + 28 + 27) / (3 * 29)}

BOLT_GOOD, BOLT_HOLE = np.full((2, 3), 7, np.uint8), np.array([[7, 0, 0], [0, 0, 0]], np.uint8)
BOLT_MASK = BOLT_HOLE > 0
# One threshold: a straight line from (0, 0) to (6/11, 1). The maxima tie.
BOLT = {"au_pro": 0.3 * 11 / 6 / 2, "au_roc": 0.5, "p_auroc": (5 + 6 / 2) / 11}


def write_image(root: Path, name: str, stem: str, values: np.ndarray, gt: np.ndarray | None) -> None:
    """A test image of class/defect `name` (only its mask is ever read) in root/data, its map in root/maps."""
    class_name, defect = name.split("/")
    folder = root / "data" / class_name / "test" / defect
    for kind, suffix in (("rgb", "png"), ("xyz", "tiff"), ("gt", "png")):
        (folder / kind).mkdir(parents=True, exist_ok=True)
        if kind != "gt":
            (folder / kind / f"{stem}.{suffix}").touch()
    if gt is not None:
        Image.fromarray(gt.astype(np.uint8) * 200).save(folder / "gt" / f"{stem}.png")
    path = root / "maps" / class_name / "test" / defect / f"{stem}.tiff"
    path.parent.mkdir(parents=True, exist_ok=True)
    tifffile.imwrite(path, values)


def run(root: Path, *options: str) -> int:
    where = {"dataset_base_dir": "data", "anomaly_maps_dir": "maps", "output_dir": "out/deep"}
    words = [word for name, folder in where.items() for word in (f"--{name}", str(root / folder))]
    return evaluate_maps.main([*words, *options])


def metrics(root: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((root / "out/deep/metrics.json").read_text())
    return found


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Two classes of two images, with maps."""
    write_image(tmp_path, "nut/good", "000", NUT_GOOD, None)
    write_image(tmp_path, "nut/hole", "000", NUT_HOLE, NUT_MASK)
    write_image(tmp_path, "bolt/good", "000", BOLT_GOOD, np.zeros((2, 3)))
    write_image(tmp_path, "bolt/hole", "000", BOLT_HOLE, BOLT_MASK)
    return tmp_path


def test_figures_by_hand(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(root) == 0
    found = metrics(root)
    assert list(found) == ["bolt", "nut", "mean_au_pro", "mean_au_roc", "mean_p_auroc"]
    assert found["nut"] == pytest.approx(NUT, abs=1e-12)
    assert found["bolt"] == pytest.approx(BOLT, abs=1e-12)
    for metric in NUT:
        assert found[f"mean_{metric}"] == pytest.approx((NUT[metric] + BOLT[metric]) / 2, abs=1e-12)
    assert [path.name for path in (root / "out/deep").iterdir()] == ["metrics.json"]
    captured = capsys.readouterr()
    assert [line.split() for line in captured.out.splitlines()[:4]] == [
        ["au_pro", "au_roc", "p_auroc"],
        ["bolt", "0.275", "0.500", "0.727"],
        ["nut", "0.885", "1.000", "0.966"],
        ["mean", "0.580", "0.750", "0.846"],
    ]
    assert "note" not in captured.err
    assert "warning" not in captured.err


def test_limit_thresholds_and_objects(root: Path) -> None:
    assert run(root, "--evaluated_objects", "nut", "nut", "--pro_integration_limit", str(2 / 29)) == 0
    found = metrics(root)
    assert list(found) == ["nut", "mean_au_pro", "mean_au_roc", "mean_p_auroc"]
    assert found["mean_au_pro"] == found["nut"]["au_pro"] == pytest.approx((1 / 4 + 3 / 4) / 2, abs=1e-12)
    # Thresholds are the highest and the lowest normal score, 8 and 0, for FPR 0 and 28/29: half of the first region is
    # above the one, all is above the other. Then the curve goes to (1, 1).
    assert run(root, "--evaluated_objects", "nut", "--aupro_thresholds", "2", "--pro_integration_limit", "1") == 0
    assert metrics(root)["nut"]["au_pro"] == pytest.approx((1 / 4 + 1) / 2 * (28 / 29) + 1 / 29, abs=1e-12)


@pytest.mark.parametrize("kind", ["int16", "float16", "float64", ">f4"])
def test_figures_do_not_depend_on_the_kind_of_number(root: Path, kind: str) -> None:
    for name, values in (("good", NUT_GOOD), ("hole", NUT_HOLE)):
        path = root / f"maps/nut/test/{name}/000.tiff"
        tifffile.imwrite(path, values.astype(kind) - 3, byteorder=">" if kind.startswith(">") else "<")
    assert run(root) == 0
    assert metrics(root)["nut"] == pytest.approx(NUT, abs=1e-12)


def test_maps_of_every_size_of_an_image_that_is_not_square(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    gt = np.zeros((400, 900), bool)
    gt[20:110, 30:200] = gt[300:380, 780:880] = True
    grid = gt_to_grid(gt).numpy().astype(np.float32)
    sizes = {
        "native": gt.astype(np.float32),
        "half": gt[::2, ::2].astype(np.float32),
        "square": grid,
        "native_of_square": from_square(grid, gt.shape),
        "squeezed": np.asarray(Image.fromarray(gt).resize((224, 224))).astype(np.float32),
    }
    for name, values in sizes.items():
        write_image(tmp_path, f"{name}/good", "000", np.zeros((400, 900)), None)
        write_image(tmp_path, f"{name}/hole", "000", values, gt)
    assert run(tmp_path) == 0
    found = metrics(tmp_path)
    for name in ("native", "half", "square"):
        assert found[name] == pytest.approx({"au_pro": 1.0, "au_roc": 1.0, "p_auroc": 1.0}, abs=1e-12)
    assert found["native_of_square"]["au_pro"] > 0.99
    assert found["squeezed"]["au_pro"] < 0.5  # regions 80 pixels off: padding is what a square map is taken for
    notes = [line.split(" square maps")[0] for line in capsys.readouterr().err.splitlines() if "square maps" in line]
    assert notes == ["note: square: 1", "note: squeezed: 1"]  # good images have no mask here, which could be compared


def test_sizes_may_differ_within_a_class(root: Path) -> None:
    tifffile.imwrite(root / "maps/nut/test/hole/000.tiff", NUT_HOLE.repeat(2, axis=0).repeat(2, axis=1))
    assert run(root) == 0
    found = metrics(root)["nut"]  # a defective image with 4 times the pixels, 52 + 16 normal ones: 4 of score 8, 1 of 5
    assert found["au_pro"] == pytest.approx(1 - (4 * 3 / 4 + 1 * 1 / 4) / 68 / 0.3, abs=1e-12)
    assert found["p_auroc"] == pytest.approx((68 + 64 + 63) / (3 * 68), abs=1e-12)


def test_undefined_figures_are_null_and_left_out_of_the_means(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    shutil.rmtree(root / "data/nut/test/good")
    shutil.rmtree(root / "data/bolt/test/hole")
    write_image(root, "ring/good", "000", np.zeros((4, 4)), None)
    write_image(root, "ring/hole", "000", np.ones((4, 4)), None)
    assert run(root) == 0
    found = metrics(root)
    assert found["bolt"] == {"au_pro": None, "au_roc": None, "p_auroc": None}
    assert found["nut"]["au_roc"] is None
    assert found["nut"]["p_auroc"] == pytest.approx((13 + 12 + 12) / (3 * 13), abs=1e-12)
    assert found["ring"] == {"au_pro": None, "au_roc": 1.0, "p_auroc": None}
    assert found["mean_au_roc"] == 1.0
    assert (found["mean_au_pro"], found["mean_p_auroc"]) == (found["nut"]["au_pro"], found["nut"]["p_auroc"])
    captured = capsys.readouterr()
    notes = [line for line in captured.err.splitlines() if line.startswith(("note", "warning"))]
    assert notes == [
        "warning: bolt: 1 maps belong to no test image: hole/000.tiff",
        "warning: nut: 1 maps belong to no test image: good/000.tiff",
        "note: bolt: au_roc is null, it needs good and defective images",
        "note: bolt: au_pro, p_auroc are null, they need anomalous and normal pixels",
        "note: nut: au_roc is null, it needs good and defective images",
        "note: ring: au_pro, p_auroc are null, its defects have no masks",
    ]
    assert [line.split() for line in captured.out.splitlines() if line.startswith("bolt")] == [["bolt", "-", "-", "-"]]


@pytest.mark.parametrize(
    ("target", "values", "message"),
    [
        ("maps/nut/test/hole/000.tiff", None, r"2 test images, 1 are missing: hole/000.tiff"),
        ("maps/nut", None, r"2 test images, 2 are missing: good/000.tiff, hole/000.tiff"),
        ("maps", None, r"maps: no such folder"),
        ("data", None, r"data: no such folder"),
        ("maps/nut/test/good/000.tiff", np.array([[0, np.nan]], np.float32), r"good/000.tiff: 1 of 2 scores are NaN"),
        ("maps/nut/test/good/000.tiff", np.zeros((4, 4, 3), np.uint8), r"good/000.tiff: expected one map"),
        ("maps/nut/test/hole/000.tiff", np.zeros((4, 5), np.uint8), r"hole/000.tiff: the map is 5×4, its mask 4×4"),
    ],
)
def test_refusals_leave_nothing_behind(root: Path, target: str, values: np.ndarray | None, message: str) -> None:
    path = root / target
    shutil.rmtree(path) if path.is_dir() else path.unlink()
    if values is not None:
        tifffile.imwrite(path, values)
    with pytest.raises(UserError, match=message):
        run(root)
    assert not (root / "out").exists()


def test_masks_that_are_empty_or_missing_for_some_defects_are_refused(root: Path) -> None:
    write_image(root, "nut/crack", "000", NUT_HOLE, np.zeros_like(NUT_MASK))
    with pytest.raises(UserError, match=r"crack/gt/000.png: the mask of a defect marks nothing"):
        run(root)
    (root / "data/nut/test/crack/gt/000.png").unlink()
    with pytest.raises(UserError, match=r"crack/rgb/000.png: partner missing"):
        run(root)
    assert not (root / "out").exists()


@pytest.mark.parametrize("name", ["screw", "../data/nut", "nut/test", ".", "..", "", "/"])
def test_only_names_of_classes_are_taken(root: Path, name: str) -> None:
    with pytest.raises(UserError, match=r"no class .*Classes found: bolt, nut"):
        run(root, "--evaluated_objects", "nut", name)
    assert not (root / "out").exists()


@pytest.mark.parametrize(
    ("option", "value", "message"),
    [
        ("pro_integration_limit", "0", "above 0, at most 1"),
        ("pro_integration_limit", "1.01", "above 0, at most 1"),
        ("pro_integration_limit", "nan", "above 0, at most 1"),
        ("aupro_thresholds", "1", "exact or a whole number of at least 2"),
        ("aupro_thresholds", "many", "invalid thresholds value"),
    ],
)
def test_options_outside_their_range(
    root: Path, option: str, value: str, message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as stopped:
        run(root, f"--{option}={value}")
    assert stopped.value.code == 2
    assert f"argument --{option}: " in (text := capsys.readouterr().err)
    assert message in text


def test_output_that_is_a_file_is_refused(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (root / "out").mkdir()
    (root / "out/deep").write_text("mine")
    assert cli.run(lambda: run(root)) == 2
    assert "out/deep: expected a folder for metrics.json, found a file" in capsys.readouterr().err
    assert (root / "out/deep").read_text() == "mine"
