"""The conversion command on generated files like a depth camera's: values, several calls, resuming, wrong options."""

import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
from PIL import Image

from datasets.records import scan
from datasets.sample import load_sample
from datasets.scenes import Scene
from processing import convert_rgbd
from processing.background.clean_files import Outcome
from processing.background.removal import object_mask
from processing.convert_rgbd import main
from processing.own_data.rgbd_jobs import Job
from tests.processing.tools import LAYOUT, convert, kill_with_workers, save, tree, valid
from utils.errors import UserError
from utils.files import LOCK

ROOT = Path(__file__).parents[2]
SIZE = 120


def test_realsense_like_files(
    realsense: Path, rgbd_scenes: dict[str, Scene], capsys: pytest.CaptureFixture[str]
) -> None:
    assert convert(realsense) == 0
    target = realsense.with_name("out")
    names = {f"bolt/{part}/{name}/{stem}" for part, name, stem in (
        ("train/good", "rgb", "000.png"), ("train/good", "xyz", "000.tiff"), ("train/good", "rgb", "001.png"),
        ("train/good", "xyz", "001.tiff"), ("test/good", "rgb", "000.png"), ("test/good", "xyz", "000.tiff"),
        ("test/hole", "rgb", "000.png"), ("test/hole", "xyz", "000.tiff"), ("test/hole", "gt", "000.png"),
    )}  # fmt: skip
    assert set(tree(target)) == names | {"preprocessing.json"}
    for part, scene in rgbd_scenes.items():
        folder, stem = part.rsplit("/", 1)
        cloud = tifffile.imread(target / "bolt" / folder / "xyz" / f"{stem}.tiff")
        kept = valid(cloud)
        assert cloud.dtype == np.float32
        assert not cloud[~kept].any()
        np.testing.assert_allclose(cloud[kept], scene.xyz[kept], rtol=0, atol=0.51e-4)
        expected = object_mask(scene.xyz, np.random.default_rng(0))
        assert (kept ^ expected).sum() <= 0.03 * expected.sum()  # rounding at the 5 mm contour
        rgb = target / "bolt" / folder / "rgb" / f"{stem}.png"
        assert rgb.read_bytes() == (realsense / f"{part}_color.png").read_bytes()
    assert (target / "bolt/test/hole/gt/000.png").read_bytes() == (realsense / "test/hole/000_mask.png").read_bytes()
    printed = capsys.readouterr().out
    clouds = [tifffile.imread(path) for path in target.rglob("*.tiff")]
    width, height, depth = np.median([np.ptp(cloud[valid(cloud)], axis=0) for cloud in clouds], axis=0) * 100
    assert f"Size of what is left: {width:.3g} × {height:.3g} × {depth:.3g} cm" in printed
    assert 7 < width < 9
    assert f"python processing/check_dataset.py {target}\n" in printed
    assert "4 samples processed, 0 were finished before.\nValid points" in printed
    assert f"python cfm_training.py --dataset_path {target} --class_name bolt" in printed


def test_result_is_read_as_samples(realsense: Path) -> None:
    convert(realsense)
    records = scan(realsense.with_name("out"), "bolt", "test")
    assert [(record.defect, record.gt is None) for record in records] == [("good", True), ("hole", False)]
    good, hole = map(load_sample, records)
    assert good.gt is not None
    assert hole.gt is not None
    assert not good.gt.any()
    assert hole.gt.any()
    assert 0.08 < hole.valid.float().mean() < 0.3


def test_manifest_and_stamp_tell_what_was_done(realsense: Path) -> None:
    convert(realsense, "--seed", 3)
    target = realsense.with_name("out")
    manifest = json.loads((target / "preprocessing.json").read_text())
    assert (manifest["family"], manifest["version"], manifest["seed"], manifest["complete"]) == ("rgbd", 1, 3, True)
    assert manifest["settings"]["background"] == "plane"
    assert manifest["settings"]["plane_distance"] == 0.005
    assert manifest["settings"]["unit"] is None
    assert manifest["files"] == {
        name: pytest.approx(valid(tifffile.imread(target / name)).mean(), abs=1e-6)
        for name in tree(target)
        if "xyz" in name
    }
    with tifffile.TiffFile(target / "bolt/test/hole/xyz/000.tiff") as file:
        stamp = json.loads(file.pages.first.tags["ImageDescription"].value)
    intrinsics = json.loads((realsense / "camera.json").read_text())
    assert stamp["preprocessing"]["settings"]["camera"] == [
        intrinsics[key] for key in ("fx", "fy", "ppx", "ppy", "depth_scale")
    ]


def test_camera_and_unit_by_hand_give_the_same_points(realsense: Path, rgbd_scenes: dict[str, Scene]) -> None:
    convert(realsense)
    clouds = realsense.with_name("out").rglob("*.tiff")
    before = {path.relative_to(realsense.with_name("out")): tifffile.imread(path) for path in clouds}
    assert len(before) == 4
    camera = rgbd_scenes["train/good/000"].camera
    numbers = (camera.focal, camera.focal, camera.cx, camera.cy)
    convert(realsense, "--camera", *numbers, "--unit", "0.0001", "--target_dir", realsense.with_name("two"))
    for name, cloud in before.items():
        np.testing.assert_array_equal(tifffile.imread(realsense.with_name("two") / name), cloud)


def test_second_run_changes_nothing_and_repairs_what_is_gone(realsense: Path) -> None:
    target = realsense.with_name("out")
    convert(realsense)
    before = tree(target)
    times = {path: path.stat().st_mtime_ns for path in target.rglob("*") if path.is_file()}
    assert convert(realsense) == 0
    assert {path: path.stat().st_mtime_ns for path in target.rglob("*") if path.is_file()} == times
    (target / "bolt/train/good/xyz/000.tiff").unlink()
    (target / "bolt/test/hole/gt/000.png").unlink()
    (target / "bolt/train/good/xyz/001.tiff").write_bytes(b"half a file")
    assert convert(realsense) == 0
    assert tree(target) == before


def test_changed_mask_or_camera_is_converted_again(realsense: Path) -> None:
    target = realsense.with_name("out")
    convert(realsense)
    before = tree(target)
    mask = np.asarray(Image.open(realsense / "test/hole/000_mask.png")).copy()
    mask[:5] = 255
    save(realsense / "test/hole/000_mask.png", mask)
    content = json.loads((realsense / "camera.json").read_text())
    convert(realsense)
    changed = {name for name, content in tree(target).items() if content != before[name]}
    assert changed == {"bolt/test/hole/gt/000.png"}
    (realsense / "camera.json").write_text(json.dumps(content | {"fx": content["fx"] * 2}))
    convert(realsense)
    cloud = tifffile.imread(target / "bolt/train/good/xyz/000.tiff")
    assert tree(target)["bolt/train/good/xyz/000.tiff"] != before["bolt/train/good/xyz/000.tiff"]
    assert np.ptp(cloud[valid(cloud), 0]) == pytest.approx(np.ptp(cloud[valid(cloud), 1]) / 2, rel=0.1)  # a round part


def test_several_calls_make_one_dataset(realsense: Path, capsys: pytest.CaptureFixture[str]) -> None:
    convert(realsense, "--target_dir", realsense.with_name("at_once"))
    target = realsense.with_name("out")
    assert convert(realsense, "--split", "train", only="train/{defect}/{stem}", gt=False) == 0
    assert convert(realsense, "--split", "test", only="test/{defect}/{stem}") == 0
    assert "2 samples processed, 2 were finished before" in capsys.readouterr().out
    assert tree(target) == tree(realsense.with_name("at_once"))
    convert(realsense, "--class_name", "nut")
    files = json.loads((target / "preprocessing.json").read_text())["files"]
    assert len(files) == 8
    with pytest.raises(UserError, match=r"made with background plane, now asked for none\. Use the same options"):
        convert(realsense, "--background", "none")
    assert json.loads((target / "preprocessing.json").read_text())["files"] == files


def test_dataset_is_complete_when_all_calls_are(realsense: Path, capsys: pytest.CaptureFixture[str]) -> None:
    target = realsense.with_name("out")
    depth = realsense / "train/good/001_depth.png"
    content = depth.read_bytes()
    depth.write_bytes(content[:100])
    train: dict[str, Any] = {"only": "train/{defect}/{stem}", "gt": False}
    with pytest.raises(UserError, match=r"1 samples could not be processed, 1 are finished.*\n.*001_depth.png"):
        convert(realsense, "--split", "train", **train)
    assert not (target / "bolt/train/good/rgb/001.png").exists()
    capsys.readouterr()
    assert convert(realsense, "--split", "test", only="test/{defect}/{stem}") == 0
    assert "1 samples of earlier calls are not finished" in capsys.readouterr().out
    manifest = json.loads((target / "preprocessing.json").read_text())
    assert manifest["complete"] is False
    assert manifest["files"]["bolt/train/good/xyz/001.tiff"] is None
    depth.unlink()  # given up
    (realsense / "train/good/001_color.png").unlink()
    assert convert(realsense, "--split", "train", **train) == 0
    manifest = json.loads((target / "preprocessing.json").read_text())
    assert manifest["complete"] is True
    assert len(manifest["files"]) == 3


def one_folder(realsense: Path) -> Path:
    """Ten good frames and one with a defect in folders that say nothing of training: DEFECT/STEM_color.png."""
    folder = realsense.with_name("frames")
    for index in range(10):
        for kind in ("color", "depth"):
            (folder / "ok").mkdir(parents=True, exist_ok=True)
            shutil.copy(realsense / f"train/good/000_{kind}.png", folder / f"ok/{index:03d}_{kind}.png")
    shutil.copytree(realsense / "test/hole", folder / "hole")
    shutil.copy(realsense / "camera.json", folder / "camera.json")
    return folder


@pytest.mark.parametrize(
    ("train_share", "tested"),
    [(0.8, [2, 7]), (0.5, [1, 3, 5, 7, 9]), (0.66, [1, 5, 8]), (0.99, [5]), (0.01, [0, 1, 2, 3, 5, 6, 7, 8, 9])],
)
def test_one_folder_is_shared_out(
    realsense: Path, train_share: float, tested: list[int], capsys: pytest.CaptureFixture[str]
) -> None:
    """Of ten good frames, 10 · (1 - share) test, in the middle of equal stretches; defects test, in any case."""
    folder = one_folder(realsense)
    options = ["--train_share", train_share, "--background", "none"]
    assert convert(folder, *options, only="{defect}/{stem}", gt="{defect}/{stem}") == 0
    target = realsense.with_name("out")
    found = sorted(int(path.stem) for path in target.glob("bolt/test/good/xyz/*"))
    trained = sorted(int(path.stem) for path in target.glob("bolt/train/good/xyz/*"))
    assert found == tested
    assert sorted(trained + found) == list(range(10))
    assert [path.stem for path in target.glob("bolt/test/hole/gt/*")] == ["000"]
    told = f"bolt/test/good {len(tested)}, bolt/test/hole 1, bolt/train/good {10 - len(tested)}"
    assert f"Found: {told} (--train_share {train_share:g}: good ones evenly spaced by name)" in capsys.readouterr().out
    before = tree(target)
    assert convert(folder, *options, only="{defect}/{stem}", gt="{defect}/{stem}") == 0
    assert tree(target) == before


def test_sharing_out_anew_names_what_was_moved(realsense: Path) -> None:
    folder = one_folder(realsense)
    convert(folder, "--train_share", 0.8, "--background", "none", only="{defect}/{stem}", gt="{defect}/{stem}")
    with pytest.raises(UserError, match=r"4 samples have no source any more: bolt/train/good/xyz/001.tiff"):
        convert(folder, "--train_share", 0.5, "--background", "none", only="{defect}/{stem}", gt="{defect}/{stem}")


class Stopped(Exception):
    pass


def test_stopped_run_resumes_to_the_same_bytes(realsense: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    convert(realsense, "--target_dir", realsense.with_name("reference"))
    target, plain = realsense.with_name("out"), convert_rgbd.convert

    def stop_in_train(job: Job) -> Outcome:
        if job.folder == "bolt/train/good":
            raise Stopped
        return plain(job)

    monkeypatch.setattr(convert_rgbd, "convert", stop_in_train)
    with pytest.raises(Stopped):
        convert(realsense)
    assert json.loads((target / "preprocessing.json").read_text())["complete"] is False
    (target / "bolt/test/hole/xyz/.000.0123abcd.tmp.tiff").write_bytes(b"half a file of a killed run")
    monkeypatch.setattr(convert_rgbd, "convert", plain)
    assert convert(realsense) == 0
    assert tree(target) == tree(realsense.with_name("reference"))


def test_killed_run_leaves_no_half_file_and_resumes(realsense: Path) -> None:
    for index in range(2, 6):
        for kind in ("color", "depth"):
            shutil.copy(realsense / f"train/good/000_{kind}.png", realsense / f"train/good/{index:03d}_{kind}.png")
    reference = realsense.with_name("reference")
    convert(realsense, "--target_dir", reference)
    after, target = tree(reference), realsense.with_name("out")
    words = ["--rgb", f"{realsense}/{LAYOUT}_color.png", "--depth", f"{realsense}/{LAYOUT}_depth.png"]
    words += ["--gt", f"{realsense}/{LAYOUT}_mask.png", "--intrinsics", f"{realsense}/camera.json"]
    kill_with_workers("convert_rgbd", [*words, "--class_name", "bolt", "--target_dir", str(target)], 3)
    found = tree(target)
    assert sum(name.endswith(".tiff") and ".tmp." not in name for name in found) >= 3
    for name, content in found.items():
        if name == "preprocessing.json":
            assert json.loads(content)["complete"] is False
        elif ".tmp." not in name and name != LOCK:
            assert content == after[name], name
    assert convert(realsense) == 0
    assert tree(target) == after


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--unit", "mm"], r"one unit of depth is 0.0001 m, --unit says 0.001 m"),
        (["--camera", 1, 1, 1, 1], r"--camera: does not say how many metres .* never assumed"),
        (["--camera", 0, 1, 1, 1, "--unit", "mm"], r"--camera: expected FX and FY above 0"),
        (["--camera", 1, 1, 1, "nan", "--unit", "mm"], r"--camera: expected FX and FY above 0"),
        (["--intrinsics", "{stem}.json"], r"--intrinsics '{stem}.json': no file fits"),
        (["--background", "depth-range"], r"--depth_range: expected with --background depth-range"),
        (["--depth_range", 1, 2], r"--depth_range: expected only with --background depth-range"),
        (["--background", "depth-range", "--depth_range", 2, 1], r"expected NEAR below FAR"),
        (["--background", "mask"], r"--foreground: expected with --background mask"),
        (["--foreground", "a.png"], r"--foreground: expected only with --background mask"),
        (["--split", "train"], r"--split: --rgb has {split} already"),
        (["--class_name", "../up"], r"class '../up': expected a plain name"),
        (["--class_name", ""], r"class '': expected a plain name"),
        (["--train_share", 0.8], r"--train_share: expected where nothing says the split, but --rgb does"),
        (["--size", 120, 120], r"--size: expected only without --rgb"),
        (["--gt", "masks/{defect}.png"], r"--gt 'masks/{defect}.png': expected the field {stem}"),
    ],
)  # fmt: skip
def test_options_that_do_not_fit_are_refused_before_anything_is_written(
    realsense: Path, options: list[Any], message: str
) -> None:
    with pytest.raises(UserError, match=message):
        convert(realsense, *options)
    assert not realsense.with_name("out").exists()


def test_needed_options(realsense: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rgb, target = ["--rgb", f"{realsense}/{LAYOUT}_color.png"], ["--target_dir", str(realsense.with_name("out"))]
    depth, xyz = ["--depth", f"{realsense}/{LAYOUT}_depth.png"], ["--xyz", f"{realsense}/{LAYOUT}_depth.png"]
    for options, message in (
        ([*depth, "--class_name", "c"], "--intrinsics or --camera: expected with --depth"),
        ([*xyz, "--class_name", "c"], "--unit: expected with --xyz, since the unit is never assumed"),
        ([*xyz, "--class_name", "c", "--unit", "m", "--camera", "1", "1", "1", "1"], "expected only with --depth"),
        ([*xyz, "--unit", "m"], "--class_name is missing"),
        ([*xyz, "--unit", "m", "--class_name", "c", "--train_share", "0.5"], "but --rgb does. Leave one out"),
    ):
        with pytest.raises(UserError, match=message):
            main([*rgb, *target, *options])
    with pytest.raises(UserError, match="--rgb: expected with --depth, since depth images hold no colours"):
        main([*target, *depth, "--class_name", "c", "--camera", "1", "1", "1", "1", "--unit", "mm"])
    for share in ("0", "1", "x"):
        with pytest.raises(SystemExit):
            main([*rgb, *target, *xyz, "--unit", "m", "--train_share", share])
    for unit in ("cm", "0", "-1", "inf"):
        with pytest.raises(SystemExit):
            main([*rgb, *target, *xyz, "--unit", unit])
    assert "argument --unit: " in capsys.readouterr().err


def test_target_among_the_sources_or_in_use_is_refused(realsense: Path) -> None:
    with pytest.raises(UserError, match=r"lies in or around"):
        convert(realsense, "--target_dir", realsense / "out")
    realsense.with_name("out").mkdir()
    (realsense.with_name("out") / "mine.txt").touch()
    with pytest.raises(UserError, match=r"expected a new or empty folder"):
        convert(realsense)


def test_script_reports_errors(realsense: Path) -> None:
    command = [sys.executable, "processing/convert_rgbd.py", "--rgb", f"{realsense}/{{stem}}.bmp", "--unit", "m"]
    command += ["--xyz", f"{realsense}/{{stem}}.ply", "--class_name", "c", "--target_dir", f"{realsense}_out"]
    result = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert result.returncode == 2
    assert result.stderr.startswith("error: --rgb")
    assert "no file fits" in result.stderr
    assert "camera.json" in result.stderr
