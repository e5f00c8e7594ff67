"""The generated data sets on disk: trees, names, encodings, and bytes that depend on the seed alone."""

import hashlib
import json
import re
from pathlib import Path

import numpy as np
import pytest
import tifffile
import yaml
from PIL import Image

from datasets.scenes import render_scene
from datasets.scenes.candies import CANDY_CLASSES, MASK_KINDS, render_candy
from datasets.scenes.defects import DEFECTS
from datasets.scenes.writer import EXPOSURES, Counts, gt_values, scene_seed, write_eyecandies, write_mvtec3d
from processing.make_scenes import main
from utils.errors import UserError

SIZE = 100
LABELS = {"obj_params.yaml", "metadata.yaml", "mask.png", *(f"{kind}_mask.png" for kind in MASK_KINDS)}
MEASUREMENTS = {
    *(f"image_{index}.png" for index in range(6)),
    "depth.png",
    "info_depth.yaml",
    "normals.png",
    "pose.txt",
}


def digests(root: Path) -> dict[str, str]:
    """Relative path -> SHA-256 of every file under `root`."""
    files = (path for path in root.rglob("*") if path.is_file())
    return {str(path.relative_to(root)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def image(path: Path) -> np.ndarray:
    with Image.open(path) as picture:
        return np.asarray(picture)


@pytest.fixture(scope="module")
def mvtec(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("scenes") / "mvtec"
    arguments = "--size 100 --train 3 --validation 1 --test 1 --classes gear loaf --seed 4 --workers 1"
    assert main([str(root), *arguments.split()]) == 0
    return root


@pytest.fixture(scope="module")
def candies(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("scenes") / "candies"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("datasets.scenes.writer.DEFECTS", {name: DEFECTS[name] for name in ("cut", "hole")})
        write_eyecandies(root, ["chip_cookie"], Counts(1, 1, 1), seed=4)
    return root


def test_mvtec_tree(mvtec: Path) -> None:
    assert sorted(path.name for path in mvtec.iterdir()) == ["gear", "loaf"]
    for class_name in ("gear", "loaf"):
        root = mvtec / class_name
        expected = {f"calibration/{name}" for name in ("camera_parameters.json", "class_ids.json")}
        expected |= {"calibration/readme.txt", "calibration/license.txt"}
        for part, count in {"train/good": 3, "validation/good": 1}.items():
            expected |= {f"{part}/{kind}" for index in range(count) for kind in _pair(index)}
        for defect, count in {"good": 2, **dict.fromkeys(DEFECTS, 1)}.items():
            files = {kind for index in range(count) for kind in (*_pair(index), f"gt/{index:03d}.png")}
            expected |= {f"test/{defect}/{name}" for name in files}
        assert set(digests(root)) == expected


def _pair(index: int) -> tuple[str, str]:
    return f"rgb/{index:03d}.png", f"xyz/{index:03d}.tiff"


def test_mvtec_encodings(mvtec: Path) -> None:
    for class_name, shape in {"gear": (SIZE, SIZE), "loaf": (SIZE, 75)}.items():
        part = mvtec / class_name / "test" / "dent"
        rgb, gt = image(part / "rgb" / "000.png"), image(part / "gt" / "000.png")
        xyz = tifffile.imread(part / "xyz" / "000.tiff")
        assert rgb.shape == (*shape, 3)
        assert rgb.dtype == np.uint8
        assert gt.shape == shape
        assert gt.dtype == np.uint8
        assert xyz.shape == (*shape, 3)
        assert xyz.dtype == np.float32


def test_mvtec_masks_hold_one_value_per_defect(mvtec: Path) -> None:
    values = gt_values()
    assert sorted(values.values(), reverse=True) == [255 - index for index in range(len(DEFECTS))]
    for defect, value in values.items():
        assert np.unique(image(mvtec / "gear" / "test" / defect / "gt" / "000.png")).tolist() == [0, value]
    for index in range(2):
        assert not image(mvtec / "gear" / "test" / "good" / "gt" / f"{index:03d}.png").any()


def test_mvtec_files_hold_the_rendered_scene(mvtec: Path) -> None:
    scene = render_scene("loaf", "stain", SIZE, scene_seed(4, "loaf/test/stain/0"), EXPOSURES["defective"])
    part = mvtec / "loaf" / "test" / "stain"
    assert np.array_equal(image(part / "rgb" / "000.png"), scene.rgb)
    assert np.array_equal(tifffile.imread(part / "xyz" / "000.tiff"), scene.xyz)
    assert np.array_equal(image(part / "gt" / "000.png") > 0, scene.gt)


def test_mvtec_calibration(mvtec: Path) -> None:
    folder = mvtec / "loaf" / "calibration"
    camera = json.loads((folder / "camera_parameters.json").read_text())
    assert (camera["image_width"], camera["image_height"]) == (75, SIZE)
    xyz = tifffile.imread(mvtec / "loaf" / "train" / "good" / "xyz" / "000.tiff")
    rows, columns = np.nonzero((xyz != 0).all(axis=-1))
    x, y, z = xyz[rows, columns].T.astype(float)
    assert (camera["camera_type"], camera["kappa"]) == ("area_scan_division", 0)
    np.testing.assert_allclose(camera["focus"] / camera["sx"] * x / z + camera["cx"], columns, atol=1e-3)
    np.testing.assert_allclose(camera["focus"] / camera["sy"] * y / z + camera["cy"], rows, atol=1e-3)
    assert json.loads((folder / "class_ids.json").read_text()) == gt_values()
    assert "Generated data" in (folder / "readme.txt").read_text()


def test_all_images_differ(mvtec: Path) -> None:
    clouds = [digest for name, digest in digests(mvtec).items() if name.endswith(".tiff")]
    assert len(set(clouds)) == len(clouds) == 2 * (3 + 1 + 2 + len(DEFECTS))


def test_same_seed_same_bytes_with_any_workers_and_classes(mvtec: Path, tmp_path: Path) -> None:
    write_mvtec3d(tmp_path / "two", ["gear"], SIZE, Counts(3, 1, 1), seed=4, workers=2)
    expected = {name: digest for name, digest in digests(mvtec).items() if name.startswith("gear")}
    assert digests(tmp_path / "two") == expected
    write_mvtec3d(tmp_path / "other", ["gear"], SIZE, Counts(1, 0, 1), seed=5)
    other = digests(tmp_path / "other")
    assert all(other[name] != expected[name] for name in other if "/rgb/" in name)


def test_eyecandies_tree(candies: Path) -> None:
    expected = set()
    for part, digits, count in (("train", 3, 1), ("val", 2, 1), ("test_public", 2, 4), ("test_private", 3, 1)):
        keys = MEASUREMENTS if part == "test_private" else MEASUREMENTS | LABELS
        assert len(keys) in (10, 17)
        expected |= {f"ChocolateCookie/{part}/data/{index:0{digits}d}_{key}" for index in range(count) for key in keys}
    assert set(digests(candies)) == expected
    assert set(CANDY_CLASSES.values()) < {
        *("CandyCane", "ChocolateCookie", "ChocolatePraline", "Confetto", "GummyBear", "HazelnutTruffle"),
        *("LicoriceSandwich", "Lollipop", "Marshmallow", "PeppermintCandy"),
    }


def test_eyecandies_depth_decodes_to_the_rendered_depth(candies: Path) -> None:
    data = candies / "ChocolateCookie" / "train" / "data"
    candy = render_candy("chip_cookie", None, scene_seed(4, "eyecandies/chip_cookie/train/0"))
    stored = image(data / "000_depth.png")
    assert stored.shape == (512, 512)
    assert (stored.min(), stored.max()) == (0, 65535)
    limits = yaml.safe_load((data / "000_info_depth.yaml").read_text())["normalization"]
    depth = stored.astype(float) / 65535 * (limits["max"] - limits["min"]) + limits["min"]
    np.testing.assert_allclose(depth, candy.depth, atol=(limits["max"] - limits["min"]) / 65535)
    np.testing.assert_allclose(np.loadtxt(data / "000_pose.txt"), candy.pose, atol=1e-15)
    assert np.array_equal(image(data / "000_image_4.png"), candy.images[4])
    normals = image(data / "000_normals.png").astype(float) / 127.5 - 1
    np.testing.assert_allclose(np.linalg.norm(normals, axis=-1), 1, atol=0.02)


def test_eyecandies_labels(candies: Path) -> None:
    data = candies / "ChocolateCookie" / "test_public" / "data"
    anomalous = []
    for path in sorted(data.glob("*_metadata.yaml")):
        labels, stem = yaml.safe_load(path.read_text()), path.name[:2]
        masks = {kind: image(data / f"{stem}_{kind}_mask.png") for kind in MASK_KINDS}
        union = image(data / f"{stem}_mask.png")
        assert set(np.unique(union)) <= {0, 255}
        assert np.array_equal(union, np.max(list(masks.values()), axis=0))
        assert labels["anomalous"] == int(union.any())
        assert {kind: int(mask.any()) for kind, mask in masks.items()} == {kind: labels[kind] for kind in MASK_KINDS}
        anomalous.append(labels["anomalous"])
    assert anomalous == [0, 0, 1, 1]


def test_folder_in_use_is_refused(tmp_path: Path) -> None:
    (tmp_path / "kept.txt").write_text("mine")
    with pytest.raises(UserError, match=r"new or empty folder.*Choose another"):
        main([str(tmp_path)])
    assert [path.name for path in tmp_path.iterdir()] == ["kept.txt"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ("--size 20", "at least 96 pixels, got 20"),
        ("--train 0", "at least 1 to train"),
        ("--test -1", "1 to test, got 20, 4, -1"),
        ("--workers 0", "0 workers"),
        ("--layout eyecandies --size 400", "expected 512"),
    ],
)
def test_numbers_out_of_range_are_refused(tmp_path: Path, arguments: str, message: str) -> None:
    with pytest.raises(UserError, match=re.escape(message)):
        main([str(tmp_path / "new"), *arguments.split()])
    assert not (tmp_path / "new").exists()
