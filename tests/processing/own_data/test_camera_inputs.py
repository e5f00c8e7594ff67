"""Frames as Kinect, stereo and PrimeSense cameras store them go through the conversion, and doubts are said."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
from PIL import Image

from processing import check_dataset
from processing.convert_rgbd import main
from tests.processing.own_data.camera_scenes import CX, CY, FOCAL, HEIGHT, WIDTH, Shot, noisy, points, shoot
from tests.processing.tools import compressed, pack_colours, save, tree, valid
from utils.errors import UserError

CAMERA = ["--camera", FOCAL, FOCAL, CX, CY, "--unit", "mm"]


@pytest.fixture
def scans(tmp_path: Path) -> Path:
    (tmp_path / "scans").mkdir()
    return tmp_path / "scans"


def convert(root: Path, *options: Any) -> int:
    """Convert files in `root` to the folder "out" beside it."""
    defaults = ["--class_name", "bolt", "--target_dir", root.with_name("out"), "--workers", 1]
    return main([*map(str, defaults), *map(str, options)])


def cloud(root: Path, stem: str, split: str = "train") -> np.ndarray:
    """(h, w, 3) as converted."""
    array: np.ndarray = tifffile.imread(root.parent / f"out/bolt/{split}/good/xyz/{stem}.tiff")
    return array


def rgb(root: Path, stem: str, split: str = "train") -> np.ndarray:
    return np.asarray(Image.open(root.parent / f"out/bolt/{split}/good/rgb/{stem}.png"))


def overlap(found: np.ndarray, expected: np.ndarray) -> float:
    """Intersection over union of two masks."""
    return float((found & expected).sum() / (found | expected).sum())


def primesense(root: Path, **scene: Any) -> list[Shot]:
    """Three frames: 16-bit PNG in millimetres; the first columns are never measured."""
    shots = [shoot(seed, **scene) for seed in range(3)]
    for seed, shot in enumerate(shots):
        depth = np.rint(noisy(shot.depth, seed, 0.001) * 1000).astype(np.uint16)
        depth[:, :6] = 0
        save(root / f"depth_{seed}.png", depth)
        save(root / f"color_{seed}.png", shot.rgb)
    return shots


PRIMESENSE = ["--rgb", "{root}/color_{stem}.png", "--depth", "{root}/depth_{stem}.png", *CAMERA]


def convert_primesense(root: Path, *options: Any) -> int:
    return convert(root, *(str(word).replace("{root}", str(root)) for word in PRIMESENSE), *options)


def kinect(root: Path) -> Shot:
    """Organised PCD, compressed, in metres; packed colours; NaN in a wide border and in the part's shadow."""
    shot = shoot(1)
    depth = noisy(shot.depth, 1, 0.0005)
    depth[:14], depth[-14:], depth[:, :14], depth[:, -14:] = (np.nan,) * 4
    depth[np.roll(shot.part, 20, axis=1) & ~shot.part] = np.nan
    x, y, z = np.moveaxis(points(depth), -1, 0)
    x[np.isnan(z)] = y[np.isnan(z)] = np.nan
    lines = [
        "# .PCD v0.7 - Point Cloud Data file format", "VERSION 0.7", "FIELDS x y z rgb", "SIZE 4 4 4 4",
        "TYPE F F F F", "COUNT 1 1 1 1", f"WIDTH {WIDTH}", f"HEIGHT {HEIGHT}", "VIEWPOINT 0 0 0 1 0 0 0",
        f"POINTS {WIDTH * HEIGHT}", "DATA binary_compressed", "",
    ]  # fmt: skip
    (root / "a.pcd").write_bytes("\n".join(lines).encode() + compressed([x, y, z, pack_colours(shot.rgb)]))
    return shot


def stereo(root: Path) -> tuple[Shot, np.ndarray]:
    """Organised PLY in millimetres with colours; holes where nothing matched, written as (0, 0, 0): (h, w) bool."""
    shot = shoot(2)
    holes = np.random.default_rng(2).random((HEIGHT // 8, WIDTH // 8)).repeat(8, 0).repeat(8, 1) < 0.03
    record = np.zeros((HEIGHT, WIDTH), "<f4, <f4, <f4, u1, u1, u1")
    xyz = np.where(holes[..., None], 0, points(noisy(shot.depth, 2, 1e-5) * 1000))
    for index, values in enumerate((*np.moveaxis(xyz, -1, 0), *np.moveaxis(shot.rgb, -1, 0))):
        record[f"f{index}"] = values
    header = f"ply\nformat binary_little_endian 1.0\nelement vertex {WIDTH * HEIGHT}\n"
    header += "".join(f"property float {name}\n" for name in "xyz")
    header += "".join(f"property uchar {name}\n" for name in ("red", "green", "blue")) + "end_header\n"
    (root / "b.ply").write_bytes(header.encode() + record.tobytes())
    return shot, holes


def test_kinect_like_clouds(scans: Path) -> None:
    shot = kinect(scans)
    options = ["--xyz", f"{scans}/{{stem}}.pcd", "--unit", "m"]
    with pytest.raises(UserError, match=r"0% of the 10-pixel frame border is valid, elsewhere nothing was measured"):
        convert(scans, *options)
    assert not (scans.with_name("out") / "bolt/train/good/rgb/a.png").exists()
    assert convert(scans, *options, "--background", "depth-range", "--depth_range", 0.7, 0.79) == 0
    found = cloud(scans, "a")
    assert overlap(valid(found), shot.part & (shot.depth < 0.79)) > 0.9
    np.testing.assert_allclose(found[valid(found)], points(shot.depth)[valid(found)], rtol=0, atol=5e-3)
    np.testing.assert_array_equal(rgb(scans, "a"), shot.rgb)


def test_stereo_like_clouds(scans: Path, capsys: pytest.CaptureFixture[str]) -> None:
    shot, holes = stereo(scans)
    options = ["--xyz", f"{scans}/{{stem}}.ply", "--unit", "mm"]
    with pytest.raises(UserError, match=r"b.ply: does not say the size of its image"):
        convert(scans, *options)
    with pytest.raises(UserError, match=r"b.ply: has 76800 points, its RGB 240×240"):
        convert(scans, *options, "--size", HEIGHT, HEIGHT)
    assert convert(scans, *options, "--size", WIDTH, HEIGHT) == 0
    found = cloud(scans, "b")
    assert overlap(valid(found), shot.part & (shot.depth < 0.795) & ~holes) > 0.95
    np.testing.assert_allclose(found[valid(found)], points(shot.depth)[valid(found)], rtol=0, atol=5e-3)
    np.testing.assert_array_equal(rgb(scans, "b"), shot.rgb)
    assert "warning" not in capsys.readouterr().out


def test_coloured_clouds_are_finished_once_and_replace_nothing(scans: Path) -> None:
    stereo(scans)
    options = ["--xyz", f"{scans}/{{stem}}.ply", "--unit", "mm", "--size", WIDTH, HEIGHT]
    convert(scans, *options)
    before, path = tree(scans.with_name("out")), scans.with_name("out") / "bolt/train/good/rgb/b.png"
    time = path.stat().st_mtime_ns
    with pytest.raises(UserError, match=r"made with size \[240, 320\], now asked for \[320, 240\]"):
        convert(scans, *options[:-2], HEIGHT, WIDTH)
    convert(scans, *options)
    assert path.stat().st_mtime_ns == time
    path.unlink()
    convert(scans, *options)
    assert tree(scans.with_name("out")) == before
    content = (scans / "b.ply").read_bytes()
    (scans / "b.ply").write_bytes(content[:-3] + b"\0\1\2")
    with pytest.raises(UserError, match=r"b.ply: would become .*rgb/b.png, but .* is there with other content"):
        convert(scans, *options)


def test_primesense_like_frames(scans: Path, capsys: pytest.CaptureFixture[str]) -> None:
    shots = primesense(scans)
    assert convert_primesense(scans) == 0
    for number, shot in enumerate(shots):
        found = cloud(scans, str(number))
        assert overlap(valid(found), shot.part & (shot.depth < 0.795)) > 0.9
        np.testing.assert_array_equal(rgb(scans, str(number)), shot.rgb)
    assert "warning" not in capsys.readouterr().out


@pytest.mark.parametrize(
    ("scene", "kept", "doubt"),
    [
        ({"arm": True}, "arm", "reaches the edge of the frame, 5.6% to 5.7% of it: perhaps a table or an arm rather"),
        ({"tilt": 0.5, "table": 0.85, "arm": True}, "table", "fills more than a third of the frame, 6"),
        ({"table": 0.65}, "table", "fills more than a third of the frame, 42.2%: perhaps the table or the box rather"),
    ],
)
def test_doubtful_frames_are_converted_and_named(
    scans: Path, scene: dict[str, Any], kept: str, doubt: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """The plane method keeps an arm, or the whole table, and the conversion and the check say so."""
    shots = primesense(scans, **scene)
    assert convert_primesense(scans) == 0
    for number, shot in enumerate(shots):
        found = valid(cloud(scans, str(number)))
        if kept == "arm":
            assert not (found & shot.part).any()
            assert overlap(found, shot.arm) > 0.95
        else:
            assert (found & ~shot.part & ~shot.arm).mean() > 1 / 3
    printed = capsys.readouterr().out
    (warning,) = (line for line in printed.splitlines() if line.startswith("warning"))
    assert f"bolt: what background removal left {doubt}" in warning
    assert "[3 samples: bolt/train/good/0, bolt/train/good/1, bolt/train/good/2]" in warning
    assert "other ways to cut: convert_rgbd.py --background depth-range, mask or none" in warning
    sheet = ["--contact_sheet", str(scans.with_name("sheet.png")), "--workers", "1"]
    check_dataset.main([str(scans.with_name("out")), *sheet])
    assert warning.removeprefix("warning: ") in capsys.readouterr().out


def test_masks_cut_out_the_part_beside_an_arm(scans: Path, capsys: pytest.CaptureFixture[str]) -> None:
    shots = primesense(scans, tilt=0.5, table=0.85, arm=True)
    for number, shot in enumerate(shots):
        save(scans / f"mask_{number}.png", 255 * shot.part.astype(np.uint8))
    assert convert_primesense(scans, "--background", "mask", "--foreground", f"{scans}/mask_{{stem}}.png") == 0
    for number, shot in enumerate(shots):
        np.testing.assert_array_equal(valid(cloud(scans, str(number))), shot.part)
    assert "warning" not in capsys.readouterr().out


def test_points_too_far_apart_for_the_method_are_the_reason(scans: Path) -> None:
    primesense(scans)
    with pytest.raises(UserError, match=r"Points lie 3.1 mm apart: too far for the method, .* 30 within 6 mm; record"):
        convert_primesense(scans, *["--camera", FOCAL / 2, FOCAL / 2, CX, CY])


@pytest.mark.parametrize("suffix", [".npy", ".tiff"])
@pytest.mark.parametrize("kind", [">f4", ">f8", ">u2", ">i4"])
def test_big_endian_arrays_are_read(scans: Path, suffix: str, kind: str) -> None:
    """Depth of whole millimetres, stored in either byte order, and clouds of them."""
    shot = shoot(0)
    depth, options = np.rint(shot.depth * 1000), ["--rgb", f"{scans}/{{stem}}.png", "--background", "none"]
    depth[:5] = 65535 if kind == ">u2" else 0
    options += ["--invalid", "maximum"] if kind == ">u2" else []
    save(scans / "a.png", shot.rgb)
    inputs: list[tuple[np.ndarray, str, list[Any]]] = [(depth, "depth", CAMERA)]
    inputs += [(points(depth), "xyz", ["--unit", "mm"])] if kind != ">u2" else []  # x and y are negative
    for array, folder, more in inputs:
        stored = np.rint(array).astype(kind) if kind[1] != "f" else array.astype(kind)
        path = scans / f"{folder}/a{suffix}"
        path.parent.mkdir()
        np.save(path, stored) if suffix == ".npy" else tifffile.imwrite(path, stored, byteorder=">")
        target = ["--target_dir", scans.with_name(f"{folder}_out")]
        assert convert(scans, *options, f"--{folder}", f"{scans}/{folder}/{{stem}}{suffix}", *more, *target) == 0
        found = tifffile.imread(scans.with_name(f"{folder}_out") / "bolt/train/good/xyz/a.tiff")
        assert not valid(found)[:5].any()
        np.testing.assert_allclose(found[5:], points(depth / 1000)[5:], rtol=0, atol=0.6e-3)


def test_halcon_cameras_are_applied_and_refused_where_they_see_nothing(scans: Path) -> None:
    """kappa bends the outer points; so much of it that the corners lie nowhere is refused."""
    (shot, *_) = primesense(scans)
    halcon = {"camera_type": "area_scan_division", "focus": 0.01, "sx": 0.01 / FOCAL, "sy": 0.01 / FOCAL, "cx": CX}
    halcon |= {"cy": CY, "image_width": WIDTH, "image_height": HEIGHT}
    files = ["--rgb", f"{scans}/color_{{stem}}.png", "--depth", f"{scans}/depth_{{stem}}.png", "--unit", "mm"]
    files += ["--intrinsics", f"{scans}/camera.json", "--background", "none"]
    (scans / "camera.json").write_text(json.dumps(halcon | {"kappa": -1e5}))
    with pytest.raises(UserError, match=r"camera.json: its kappa makes 1 \+ kappa·r² -0.4\d+ in a corner of the image"):
        convert(scans, *files)
    (scans / "camera.json").write_text(json.dumps(halcon | {"kappa": -3000.0}))
    assert convert(scans, *files) == 0
    found = cloud(scans, "0")
    r2 = 0.01**2 * (((WIDTH - 1 - CX) / FOCAL) ** 2 + ((HEIGHT - 1 - CY) / FOCAL) ** 2)
    expected = points(shot.depth)[-1, -1, :2] / (1 - 3000 * r2)
    np.testing.assert_allclose(found[-1, -1, :2], expected, rtol=0.01)
