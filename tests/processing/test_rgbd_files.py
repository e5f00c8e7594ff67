"""Samples as other cameras and data sets store them come back; bad ones are listed, by file and reason."""

import itertools
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
import yaml
from PIL import Image

from datasets.frames import unpad
from datasets.records import scan
from datasets.sample import load_sample
from datasets.scenes import Scene
from processing import preprocess_mvtec
from processing.convert_rgbd import main
from utils.errors import UserError

ROOT = Path(__file__).parents[2]
SIZE = 120
LAYOUT = "{split}/{defect}/{stem}"


def tree(root: Path) -> dict[str, bytes]:
    return {path.relative_to(root).as_posix(): path.read_bytes() for path in root.rglob("*") if path.is_file()}


def save(path: Path, array: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.suffix == ".npy":
        np.save(path, array)
    elif path.suffix == ".tiff":
        tifffile.imwrite(path, array, photometric="rgb" if array.ndim == 3 else "minisblack")
    else:
        Image.fromarray(array).save(path)


def valid(cloud: np.ndarray) -> np.ndarray:
    return (cloud != 0).all(axis=-1)


def convert(root: Path, *options: Any, only: str = LAYOUT, gt: bool = True) -> int:
    """Convert the files of `realsense` to the folder "out" beside them."""
    command = ["--rgb", f"{root}/{only}_color.png", "--depth", f"{root}/{only}_depth.png", "--workers", "1"]
    command += ["--gt", f"{root}/{LAYOUT}_mask.png"] if gt else []
    if "--camera" not in options and "--intrinsics" not in options:
        command += ["--intrinsics", f"{root}/camera.json"]
    defaults = ["--class_name", "bolt", "--target_dir", str(root.with_name("out"))]
    return main([*command, *defaults, *map(str, options)])


@pytest.mark.parametrize("suffix", [".ply", ".npy", ".tiff", ".pcd"])
def test_zivid_like_clouds(tmp_path: Path, rgbd_scenes: dict[str, Scene], suffix: str) -> None:
    """Organised, millimetres, NaN = not measured; no background to cut away."""
    scene = rgbd_scenes["train/good/000"]
    stored = np.where(valid(scene.xyz)[..., None], scene.xyz * np.float32(1000), np.nan).astype(np.float32)
    save(tmp_path / "z/a.jpg", scene.rgb)
    path = tmp_path / "z" / f"a{suffix}"
    points, types = stored.reshape(-1, 3).tobytes(), "property float x\nproperty float y\nproperty float z\n"
    if suffix == ".ply":
        header = f"ply\nformat binary_little_endian 1.0\nelement vertex {SIZE * SIZE}\n{types}end_header\n"
        path.write_bytes(header.encode() + points)
    elif suffix == ".pcd":
        header = f"FIELDS x y z\nSIZE 4 4 4\nTYPE F F F\nWIDTH {SIZE}\nHEIGHT {SIZE}\nDATA binary\n"
        path.write_bytes(header.encode() + points)
    else:
        save(path, stored)
    options = ["--rgb", f"{tmp_path}/z/{{stem}}.jpg", "--xyz", f"{tmp_path}/z/{{stem}}{suffix}", "--unit", "mm"]
    options += ["--class_name", "c", "--background", "none", "--target_dir", str(tmp_path / "out"), "--workers", "1"]
    assert main(options) == 0
    cloud = tifffile.imread(tmp_path / "out/c/train/good/xyz/a.tiff")
    np.testing.assert_array_equal(valid(cloud), valid(scene.xyz))
    np.testing.assert_allclose(cloud, scene.xyz, rtol=2e-7)
    sample = load_sample(scan(tmp_path / "out", "c", "train")[0])  # the border is valid; the stamp says that it may be
    assert sample.valid.float().mean() > 0.9


def test_zivid_intrinsics_and_float_depth(tmp_path: Path, rgbd_scenes: dict[str, Scene]) -> None:
    scene = rgbd_scenes["train/good/000"]
    save(tmp_path / "z/a.png", scene.rgb)
    save(tmp_path / "z/a.npy", np.where(valid(scene.xyz), scene.xyz[..., 2] * 1000, np.nan))
    focal, cx, cy = scene.camera.focal, float(scene.camera.cx), float(scene.camera.cy)
    matrix = {"FX": focal, "FY": focal, "CX": cx, "CY": cy}
    text = yaml.safe_dump({"CameraIntrinsics": {"CameraMatrix": matrix, "Distortion": {"K1": 0.1}}})
    (tmp_path / "z/camera.yml").write_text(text)
    options = ["--rgb", f"{tmp_path}/z/{{stem}}.png", "--depth", f"{tmp_path}/z/{{stem}}.npy", "--unit", "mm"]
    options += ["--class_name", "c", "--target_dir", str(tmp_path / "out"), "--intrinsics", f"{tmp_path}/z/camera.yml"]
    assert main([*options, "--background", "depth-range", "--depth_range", "0.5", "0.64"]) == 0
    cloud = tifffile.imread(tmp_path / "out/c/train/good/xyz/a.tiff")
    expected = valid(scene.xyz) & (scene.xyz[..., 2] <= 0.64)
    assert 0.1 < expected.mean() < 0.9
    np.testing.assert_array_equal(valid(cloud), expected)
    np.testing.assert_allclose(cloud[expected], scene.xyz[expected], rtol=0, atol=1e-7)


def test_bop_like_files(tmp_path: Path, rgbd_scenes: dict[str, Scene], capsys: pytest.CaptureFixture[str]) -> None:
    """A camera and a scale for each image; foreground from masks."""
    cameras = {}
    for index, scene in enumerate(list(rgbd_scenes.values())[:2]):
        unit = 0.1 * (index + 1)  # millimetres
        save(tmp_path / f"bop/000001/rgb/{index:06d}.png", scene.rgb)
        depth = np.rint(scene.xyz[..., 2] * 1000 / unit).astype(np.uint16)
        save(tmp_path / f"bop/000001/depth/{index:06d}.png", depth)
        mask = np.zeros((SIZE, SIZE), np.uint8)
        mask[30:80, 40 : 80 + index] = 1
        save(tmp_path / f"bop/000001/mask/{index:06d}_000000.png", mask)
        matrix = [scene.camera.focal, 0, scene.camera.cx, 0, scene.camera.focal, scene.camera.cy, 0, 0, 1]
        cameras[str(index)] = {"cam_K": matrix, "depth_scale": unit}
    (tmp_path / "bop/000001/scene_camera.json").write_text(json.dumps(cameras))
    base = f"{tmp_path}/bop/{{class}}"
    options = ["--rgb", f"{base}/rgb/{{stem}}.png", "--depth", f"{base}/depth/{{stem}}.png", "--workers", "1"]
    options += ["--intrinsics", f"{base}/scene_camera.json", "--target_dir", str(tmp_path / "out")]
    assert main([*options, "--background", "mask", "--foreground", f"{base}/mask/{{stem}}_*.png"]) == 0
    for index, scene in enumerate(list(rgbd_scenes.values())[:2]):
        cloud = tifffile.imread(tmp_path / f"out/000001/train/good/xyz/{index:06d}.tiff")
        expected = np.zeros((SIZE, SIZE), bool)
        expected[30:80, 40 : 80 + index] = valid(scene.xyz)[30:80, 40 : 80 + index]
        np.testing.assert_array_equal(valid(cloud), expected)
        np.testing.assert_allclose(cloud[expected], scene.xyz[expected], rtol=0, atol=0.51e-4 * (index + 1))
    assert "2 samples processed" in capsys.readouterr().out


def test_relative_of_mvtec_gives_what_mvtec_preprocessing_gives(tmp_path: Path, rgbd_scenes: dict[str, Scene]) -> None:
    """Masks in ground_truth/, good ones in GOOD/, NaN = not measured; all by patterns."""
    for part, scene in rgbd_scenes.items():
        folder, stem = part.rsplit("/", 1)
        save(tmp_path / f"raw/c/{folder}/rgb/{stem}.png", scene.rgb)
        save(tmp_path / f"raw/c/{folder}/xyz/{stem}.tiff", scene.xyz)
        other = tmp_path / f"other/c/{folder.replace('good', 'GOOD')}"
        save(other / f"rgb/{stem}.png", scene.rgb)
        xyz = scene.xyz.copy()
        xyz[~valid(xyz), 2] = np.nan
        save(other / f"xyz/{stem}.tiff", xyz)
        if part.startswith("test"):
            save(tmp_path / f"raw/c/{folder}/gt/{stem}.png", 255 * scene.gt.astype(np.uint8))
            save(other / f"ground_truth/{stem}.png", 255 * scene.gt.astype(np.uint8))
    base = f"{tmp_path}/other/{{class}}/{{split}}/{{defect}}"
    options = ["--rgb", f"{base}/rgb/{{stem}}.png", "--xyz", f"{base}/xyz/{{stem}}.tiff", "--workers", "1"]
    options += ["--gt", f"{base}/ground_truth/{{stem}}.png", "--unit", "m", "--target_dir", str(tmp_path / "out")]
    assert main(options) == 0
    assert preprocess_mvtec.main([str(tmp_path / "raw"), "--workers", "1"]) == 0
    cleaned = tmp_path / "raw_preprocessed"
    assert set(tree(tmp_path / "out")) == set(tree(cleaned))
    for name, content in tree(tmp_path / "out/c").items():
        if "xyz" not in name:
            assert (cleaned / "c" / name).read_bytes() == content
            continue
        expected = unpad(tifffile.imread(cleaned / "c" / name), (SIZE, SIZE))
        np.testing.assert_array_equal(tifffile.imread(tmp_path / "out/c" / name), expected)


def test_defects_without_masks_are_refused_before_anything_is_written(realsense: Path) -> None:
    with pytest.raises(UserError, match=r"--gt is missing: test samples with defects need masks"):
        convert(realsense, gt=False)
    assert not realsense.with_name("out").exists()
    (realsense / "test/hole").rename(realsense / "test/OK")
    shutil.rmtree(realsense / "test/good")
    assert convert(realsense, gt=False) == 0
    assert (realsense.with_name("out") / "bolt/test/good/rgb/000.png").exists()


def remove_depth(root: Path) -> None:
    (root / "train/good/001_depth.png").unlink()


def remove_rgb(root: Path) -> None:
    (root / "train/good/001_color.png").unlink()


def remove_mask(root: Path) -> None:
    (root / "test/hole/000_mask.png").rename(root / "test/hole/001_mask.png")


def small_depth(root: Path) -> None:
    save(root / "train/good/001_depth.png", np.full((60, 60), 600, np.uint16))


def preview(root: Path) -> None:
    save(root / "train/good/001_depth.png", np.full((SIZE, SIZE), 100, np.uint8))


def colour(root: Path) -> None:
    save(root / "train/good/001_depth.png", np.full((SIZE, SIZE, 3), 100, np.uint8))


def empty_depth(root: Path) -> None:
    save(root / "train/good/001_depth.png", np.zeros((SIZE, SIZE), np.uint16))


def flat(root: Path) -> None:
    save(root / "train/good/001_depth.png", np.full((SIZE, SIZE), 6000, np.uint16))


def no_border(root: Path) -> None:
    depth = np.asarray(Image.open(root / "train/good/001_depth.png")).copy()
    depth[:, :65] = 0
    save(root / "train/good/001_depth.png", depth)


def small_mask(root: Path) -> None:
    save(root / "test/hole/000_mask.png", np.ones((SIZE, SIZE + 1), np.uint8))


def mask_of_a_good_one(root: Path) -> None:
    save(root / "test/good/000_mask.png", np.ones((SIZE, SIZE), np.uint8))


def deep_rgb(root: Path) -> None:
    save(root / "train/good/001_color.png", np.ones((SIZE, SIZE), np.uint16))


def broken_rgb(root: Path) -> None:
    (root / "train/good/001_color.png").write_bytes(b"not a picture")


def defect_in_training(root: Path) -> None:
    (root / "train/good").rename(root / "train/dent")


def two_spellings(root: Path) -> None:
    shutil.copytree(root / "train/good", root / "train/OK")


def upper_case(root: Path) -> None:
    for kind in ("color", "depth"):
        shutil.copy(root / f"train/good/000_{kind}.png", root / f"train/good/a_{kind}.png")
        shutil.copy(root / f"train/good/000_{kind}.png", root / f"train/good/A_{kind}.png")


@pytest.mark.parametrize(
    ("fault", "finished", "message"),
    [
        (remove_depth, 3, r"001_color.png: partner missing, expected .*/train/good/001_depth.png \(--depth\)"),
        (remove_rgb, 3, r"001_depth.png: partner missing, no image of --rgb"),
        (remove_mask, 3, r"hole/000_color.png: partner missing, expected .*000_mask.png \(--gt\)"),
        (small_depth, 3, r"001_depth.png: is 60×60, its RGB 120×120 .*align depth to colour"),
        (preview, 3, r"001_depth.png: expected one number of 16 bits .* uint8: a preview picture"),
        (colour, 3, r"001_depth.png: expected one number .* found shape \(120, 120, 3\)"),
        (empty_depth, 3, r"001_depth.png: no valid point"),
        (flat, 3, r"001_depth.png: nothing is left after --background plane.* Other ways: --background depth-range"),
        (no_border, 3, r"001_depth.png: at most half of the 10-pixel frame border is valid; --background plane"),
        (small_mask, 3, r"000_mask.png: is 121×120, its RGB 120×120"),
        (mask_of_a_good_one, 3, r"good/000_mask.png: marks a defect, but the sample is good"),
        (deep_rgb, 3, r"001_color.png: expected an 8-bit colour image"),
        (broken_rgb, 3, r"001_color.png: cannot be read"),
        (defect_in_training, 2, r"train holds the defect 'dent': expected good samples only"),
        (two_spellings, 2, r"same class, split, defect and stem as"),
        (upper_case, 5, r"a_color.png: same class, split, defect and stem as .*A_color.png .upper and lower case"),
    ],
)  # fmt: skip
def test_bad_samples_are_listed_and_the_rest_is_converted(
    realsense: Path, fault: Callable[[Path], None], finished: int, message: str
) -> None:
    fault(realsense)
    with pytest.raises(UserError, match=f"could not be processed, {finished} are finished(.|\n)*{message}"):
        convert(realsense)
    target = realsense.with_name("out")
    assert json.loads((target / "preprocessing.json").read_text())["complete"] is False
    assert len(list(target.rglob("*.tiff"))) == len(list(target.rglob("rgb/*"))) == finished


def test_intrinsics_of_another_resolution_are_refused(realsense: Path) -> None:
    content = json.loads((realsense / "camera.json").read_text())
    (realsense / "camera.json").write_text(json.dumps(content | {"width": 1280, "height": 720}))
    with pytest.raises(UserError, match=r"is 120×120 \(W×H\), .*camera.json is for 1280×720.*fx, cx and fy, cy scale"):
        convert(realsense)


def test_distortion_is_mentioned(realsense: Path, capsys: pytest.CaptureFixture[str]) -> None:
    convert(realsense)
    assert "lens distortion" not in capsys.readouterr().out
    content = json.loads((realsense / "camera.json").read_text())
    (realsense / "camera.json").write_text(json.dumps(content | {"coeffs": [0.1, 0, 0, 0, 0]}))
    convert(realsense)
    assert capsys.readouterr().out.count("lens distortion in --intrinsics is not applied") == 1


def test_cloud_that_looks_away_is_refused(tmp_path: Path, rgbd_scenes: dict[str, Scene]) -> None:
    scene = rgbd_scenes["train/good/000"]
    save(tmp_path / "z/a.png", scene.rgb)
    save(tmp_path / "z/a.tiff", scene.xyz * np.array([1, -1, -1], np.float32))
    options = ["--rgb", f"{tmp_path}/z/{{stem}}.png", "--xyz", f"{tmp_path}/z/{{stem}}.tiff", "--unit", "m"]
    with pytest.raises(UserError, match=r"a.tiff: z is negative in most points"):
        main([*options, "--class_name", "c", "--target_dir", str(tmp_path / "out")])


def test_invalid_value(realsense: Path, rgbd_scenes: dict[str, Scene]) -> None:
    path = realsense / "train/good/000_depth.png"
    depth = np.asarray(Image.open(path)).copy()
    depth[40:60, 50:70] = 65535
    save(path, depth)
    convert(realsense, "--invalid", "maximum", "--background", "none")
    cloud = tifffile.imread(realsense.with_name("out") / "bolt/train/good/xyz/000.tiff")
    expected = valid(rgbd_scenes["train/good/000"].xyz)
    expected[40:60, 50:70] = False
    np.testing.assert_array_equal(valid(cloud), expected)


def test_masks_count_in_the_test_split_only(realsense: Path) -> None:
    save(realsense / "train/good/000_mask.png", np.ones((SIZE, SIZE), np.uint8))
    save(realsense / "test/good/000_mask.png", np.zeros((SIZE, SIZE), np.uint8))
    convert(realsense)
    copied = {path.relative_to(realsense.with_name("out")).as_posix() for path in realsense.parent.glob("out/**/gt/*")}
    assert copied == {"bolt/test/good/gt/000.png", "bolt/test/hole/gt/000.png"}


def test_random_draws_depend_on_seed_and_sample_alone(realsense: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def noise(xyz: np.ndarray, generator: np.random.Generator, settings: Any) -> np.ndarray:
        return generator.random(xyz.shape[:2]) < 0.5

    monkeypatch.setattr("processing.rgbd_files.object_mask", noise)
    kept = []
    for name, seed in (("one", 0), ("two", 0), ("three", 1)):
        convert(realsense, "--seed", seed, "--target_dir", realsense.with_name(name))
        paths = sorted(realsense.with_name(name).rglob("*.tiff"))
        kept.append(np.array([valid(tifffile.imread(path)) for path in paths]))
    np.testing.assert_array_equal(kept[0], kept[1])
    different = [*kept[0], *kept[2]]  # four samples, three of them with the same stem, by two seeds
    agreement = [(one == other).mean() for one, other in itertools.combinations(different, 2)]
    assert max(agreement) < 0.6


def test_other_picture_of_the_same_name_is_not_taken_for_finished(realsense: Path) -> None:
    convert(realsense)
    target = realsense.with_name("out")
    before = tree(target)
    for kind in ("color", "depth"):
        shutil.copy(realsense / f"train/good/001_{kind}.png", realsense / f"train/good/000_{kind}.png")
    with pytest.raises(
        UserError, match=r"000_color.png: would become .*/rgb/000.png, but .*000.png is there with other"
    ):
        convert(realsense)
    Image.open(realsense / "train/good/001_color.png").save(realsense / "train/good/001_color.jpg")
    options = ["--rgb", f"{realsense}/train/good/{{stem}}_color.jpg", "--split", "train", "--defect", "good"]
    with pytest.raises(UserError, match=r"would become .*001.jpg, but .*001.png is there"):
        main([*options, "--depth", f"{realsense}/train/good/{{stem}}_depth.png", "--class_name", "bolt",
              "--intrinsics", f"{realsense}/camera.json", "--target_dir", str(target)])  # fmt: skip
    after = tree(target)
    assert {name for name in after if after[name] != before.get(name)} == {"preprocessing.json"}


def test_depth_that_serves_several_images_is_refused(realsense: Path) -> None:
    with pytest.raises(UserError, match=r"000_depth.png: belongs to 3 RGB images, expected one"):
        convert(realsense, "--depth", f"{realsense}/train/good/{{stem}}_depth.png", "--workers", 1)
