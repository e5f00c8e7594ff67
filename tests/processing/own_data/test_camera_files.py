"""Intrinsics of all kinds of file; what is ambiguous, broken or hostile is refused."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from datasets.scenes import scene_camera
from datasets.scenes.writer import Counts, write_mvtec3d
from processing.own_data.camera_files import Intrinsics, depth_unit, find_intrinsics, read_camera_file
from utils.errors import UserError

REALSENSE = {
    "width": 640, "height": 480, "fx": 615.5, "fy": 616.25, "ppx": 319.5, "ppy": 240.25,
    "model": "distortion.inverse_brown_conrady", "coeffs": [0.0, 0, 0, 0, 0], "depth_scale": 0.001,
}  # fmt: skip
ZIVID = """
__version__: {serializer: 1, data: 2}
CameraIntrinsics:
  CameraMatrix: {CX: 950.5, CY: 600.25, FX: 1780.5, FY: 1781.5}
  Distortion: {K1: -0.08, K2: 0.12, K3: 0.02, P1: 0, P2: 0}
"""
OPENCV = """%YAML:1.0
---
image_width: 800
image_height: 600
camera_matrix: !!opencv-matrix
   rows: 3
   cols: 3
   dt: d
   data: [ 700.5, 0., 400., 0., 701.5, 300., 0., 0., 1. ]
distortion_coefficients: !!opencv-matrix
   rows: 5
   cols: 1
   dt: d
   data: [ 0., 0., 0., 0., 0. ]
"""
ROS = """
image_width: 800
image_height: 600
distortion_model: plumb_bob
camera_matrix: {rows: 3, cols: 3, data: [700.5, 0, 400, 0, 701.5, 300, 0, 0, 1]}
distortion_coefficients: {rows: 1, cols: 5, data: [0.1, 0, 0, 0, 0]}
rectification_matrix: {rows: 3, cols: 3, data: [1, 0, 0, 0, 1, 0, 0, 0, 1]}
projection_matrix: {rows: 3, cols: 4, data: [9, 0, 400, 0, 0, 9, 300, 0, 0, 0, 1, 0]}
"""
HALCON = {
    "camera_type": "area_scan_division", "focus": 2**-7, "kappa": -2048.0, "sx": 2**-18, "sy": 2**-19, "cx": 54.5,
    "cy": 196.25, "image_width": 400, "image_height": 300,
}  # fmt: skip
ROWS = [[700.5, 0, 400], [0, 701.5, 300], [0, 0, 1]]
FLAT = [700.5, 0, 400, 0, 701.5, 300, 0, 0, 1]
MATRIX = Intrinsics(700.5, 701.5, 400, 300)


def read(folder: Path, content: Any, stem: str = "000000") -> Intrinsics:
    path = folder / "camera.any"
    path.write_text(content if isinstance(content, str) else json.dumps(content))
    return find_intrinsics(read_camera_file(path), path, stem)


def test_realsense(tmp_path: Path) -> None:
    expected = Intrinsics(615.5, 616.25, 319.5, 240.25, 0.001, None, (640, 480))
    assert read(tmp_path, REALSENSE) == expected
    inner = {key: value for key, value in REALSENSE.items() if key != "depth_scale"}
    assert read(tmp_path, {"serial": "1", "depth_scale": 0.001, "color": inner}) == expected
    assert read(tmp_path, REALSENSE | {"coeffs": [0, 1e-3, 0, 0, 0]}).distorted


def test_zivid(tmp_path: Path) -> None:
    assert read(tmp_path, ZIVID) == Intrinsics(1780.5, 1781.5, 950.5, 600.25, distorted=True)


def test_bop_has_an_entry_for_each_image_and_its_scale_is_in_millimetres(tmp_path: Path) -> None:
    matrix = [1066.5, 0.0, 312.5, 0.0, 1067.5, 241.25, 0.0, 0.0, 1.0]
    content = {
        "0": {"cam_K": matrix, "depth_scale": 0.1},
        "12": {"cam_K": [500.0, *matrix[1:]], "depth_scale": 1.0, "cam_R_w2c": [1, 0, 0, 0, 1, 0, 0, 0, 1]},
    }
    assert read(tmp_path, content) == Intrinsics(1066.5, 1067.5, 312.5, 241.25, 1e-4)
    assert read(tmp_path, content, "000012") == Intrinsics(500, 1067.5, 312.5, 241.25, 1e-3)
    for stem in ("000003", "left"):
        with pytest.raises(
            UserError, match=f"expected an entry for image {stem}, found those of 2 images from 0 to 12"
        ):
            read(tmp_path, content, stem)


def test_scale_of_a_plain_file_is_vague(tmp_path: Path) -> None:
    content = {"cx": 312.5, "cy": 241.25, "depth_scale": 0.1, "fx": 1066.5, "fy": 1067.5, "height": 480, "width": 640}
    assert read(tmp_path, content) == Intrinsics(1066.5, 1067.5, 312.5, 241.25, None, 0.1, (640, 480))


@pytest.mark.parametrize(
    ("scale", "metres"),
    [(1e-6, 1e-6), (0.001, 0.001), (0.01, 0.01), (0.0101, None), (0.1, None), (1, None), (1000, None), (1e4, None)],
)
def test_scale_that_cannot_be_metres_is_vague(tmp_path: Path, scale: float, metres: float | None) -> None:
    """Above a centimetre for each unit: Open3D and others write units per metre."""
    camera = read(tmp_path, REALSENSE | {"depth_scale": scale})
    assert (camera.depth_scale, camera.vague_scale) == (metres, None if metres else scale)
    bop = {"7": {"cam_K": FLAT, "depth_scale": 1000 * scale}}
    camera = read(tmp_path, bop, "7")
    assert (camera.depth_scale, camera.vague_scale) == (metres, None if metres else 1000 * scale)


def test_mvtec_as_released(tmp_path: Path) -> None:
    """fx = 2⁻⁷ / 2⁻¹⁸ = 2048, fy = 2⁻⁷ / 2⁻¹⁹ = 4096, and -2048 · 2⁻¹⁴ = -0.125."""
    assert read(tmp_path, HALCON) == Intrinsics(2048, 4096, 54.5, 196.25, size=(400, 300), division=-0.125)
    assert read(tmp_path, HALCON | {"kappa": 0.0}) == Intrinsics(2048, 4096, 54.5, 196.25, size=(400, 300))


def test_mvtec_as_generated(tmp_path: Path) -> None:
    write_mvtec3d(tmp_path / "data", ["gear"], 96, Counts(1, 0, 1))
    path = tmp_path / "data/gear/calibration/camera_parameters.json"
    camera, found = scene_camera("gear", 96), find_intrinsics(read_camera_file(path), path, "000")
    assert (found.fx, found.fy) == pytest.approx((camera.focal, camera.focal))
    assert (found.cx, found.cy, found.size) == (camera.cx, camera.cy, (camera.width, camera.height))
    assert (found.division, found.distorted) == (0, False)


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (OPENCV, Intrinsics(700.5, 701.5, 400, 300, size=(800, 600))),
        (ROS, Intrinsics(700.5, 701.5, 400, 300, size=(800, 600), distorted=True)),
        ({"K": ROWS}, MATRIX),
        ({"K": FLAT}, MATRIX),
        ({"camera_matrix": {"data": ROWS}, "dist_coeffs": [[0, 0, 0.5]]}, replace(MATRIX, distorted=True)),
        ({"k": FLAT, "d": [0, 0, 0, 0, 0.0]}, MATRIX),
        ({"intrinsic_matrix": [700.5, 0, 0, 0, 701.5, 0, 400, 300, 1]}, MATRIX),  # columns, as Open3D writes them
        ("K: [7.005e2, 0, 4e2, 0, 701.5, 300, 0, 0, 1]\ndepth_scale: 1e-3\n", replace(MATRIX, vague_scale=1e-3)),
    ],
)
def test_matrices(tmp_path: Path, content: Any, expected: Intrinsics) -> None:
    assert read(tmp_path, content) == expected


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"focal": 3}, "expected the intrinsics of one camera, found none, but focal"),
        ({"color": REALSENSE, "depth": REALSENSE | {"fx": 600}}, "found 2 different cameras"),
        (REALSENSE | {"fx": -1}, r"expected focal lengths above 0 .* found \(-1.0, 616.25"),
        (REALSENSE | {"fy": 0}, "expected focal lengths above 0"),
        ('{"fx": NaN, "fy": 1, "cx": 1, "cy": 1}', "expected focal lengths above 0"),
        (REALSENSE | {"fx": True}, "found none"),
        (REALSENSE | {"depth_scale": 0}, "expected a depth_scale above 0, found 0"),
        ({"K": [[700, 1, 400], *ROWS[1:]]}, "found none, but K"),  # skew
        ({"K": [[700, 0, 400], ROWS[1], [0, 0, 2]]}, "found none, but K"),
        ([1, 2], "expected names and numbers, found list"),
        ("fx", "expected names and numbers, found str"),
        (HALCON | {"camera_type": "area_scan_polynomial"}, "type area_scan_division, found 'area_scan_polynomial'"),
        (HALCON | {"camera_type": "line_scan_division"}, "found 'line_scan_division', whose lens model is not known"),
        (HALCON | {"camera_type": 7}, "found '7'"),
        ({key: value for key, value in HALCON.items() if key != "kappa"}, "expected the numbers .* kappa None"),
        (HALCON | {"sx": 0}, "focus, sx and sy above 0, found focus 0.0078125, sx 0,"),
        (HALCON | {"focus": -0.01}, "found focus -0.01"),
        (HALCON | {"kappa": "1e999"}, "kappa 1e999"),
        (HALCON | {"sy": 1e-320}, r"expected focal lengths above 0 .* inf"),
        ("a: [1", "cannot be read"),
        ("!!python/object/apply:os.system ['touch here']", "cannot be read .ConstructorError"),
        ("a: &a [1, 2]\nb: [*a, *a]\n", "aliases are not expected"),
        ("[" * 100_000, "cannot be read"),
        ("x: " + "1" * 1_100_000, "too long for YAML"),
    ],
)
def test_what_is_no_camera_is_refused(tmp_path: Path, content: Any, message: str) -> None:
    with pytest.raises(UserError, match=message) as caught:
        read(tmp_path, content)
    assert "camera.any" in str(caught.value)


def test_unit_is_read_or_asked_for_and_never_assumed() -> None:
    plain, metres = Intrinsics(1, 1, 0, 0), Intrinsics(1, 1, 0, 0, depth_scale=0.0010000000474974513)
    assert depth_unit(None, metres, "c.json") == 0.0010000000474974513
    assert depth_unit(0.001, metres, "c.json") == 0.001
    assert depth_unit(0.25, plain, "c.json") == 0.25
    with pytest.raises(UserError, match=r"c.json: does not say .* never assumed. Pass --unit; usual values: mm"):
        depth_unit(None, plain, "c.json")
    for asked in (0.0001, 0.00101):
        with pytest.raises(UserError, match=rf"one unit of depth is 0.001 m, --unit says {asked} m"):
            depth_unit(asked, metres, "c.json")
    vague = Intrinsics(1, 1, 0, 0, vague_scale=0.1)
    with pytest.raises(UserError, match=r"depth_scale 0.1 means --unit 0.1 if in metres, 0.0001 if in millimetres"):
        depth_unit(None, vague, "c.json")
    assert depth_unit(0.0001, vague, "c.json") == 0.0001
    for scale, reading in ((10_000, "0.0001"), (4000, "0.00025")):
        message = f"--unit {scale} if in metres, {scale // 1000} if in millimetres, {reading} if it is units per metre"
        with pytest.raises(UserError, match=message):
            depth_unit(None, Intrinsics(1, 1, 0, 0, vague_scale=scale), "c.json")
    with pytest.raises(UserError) as caught:
        depth_unit(None, vague, "c.json")
    assert "units per metre" not in str(caught.value)
