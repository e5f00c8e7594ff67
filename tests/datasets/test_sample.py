"""Samples: the expected values of the golden cases, the grid's rules, and every kind of bad file."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
import torch
from PIL import Image

from datasets.records import Record
from datasets.sample import (
    gt_to_grid,
    iter_samples,
    load_sample,
    make_sample,
    rgb_to_tensor,
    tensor_to_image,
    xyz_to_grid,
)
from utils.errors import UserError

CASES = Path(__file__).parents[1] / "golden" / "cases"
MEAN = np.array([0.485, 0.456, 0.406])
STD = np.array([0.229, 0.224, 0.225])


def write_record(
    folder: Path, rgb: np.ndarray, xyz: np.ndarray, gt: np.ndarray | None = None, defect: str = "good", stem: str = "0"
) -> Record:
    folder = folder / "part" / "test" / defect
    paths = {kind: folder / kind / f"{stem}.{'tiff' if kind == 'xyz' else 'png'}" for kind in ("rgb", "xyz", "gt")}
    for path in paths.values():
        path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(rgb).save(paths["rgb"])
    tifffile.imwrite(paths["xyz"], xyz, photometric="rgb" if xyz.ndim == 3 else "minisblack")
    if gt is not None:
        Image.fromarray(gt).save(paths["gt"])
    return Record("part", "test", defect, stem, paths["rgb"], paths["xyz"], None if gt is None else paths["gt"])


def scan_arrays(height: int = 60, width: int = 60) -> tuple[np.ndarray, np.ndarray]:
    """RGB noise and a preprocessed cloud: valid only in the middle."""
    generator = np.random.default_rng(0)
    rgb = generator.integers(0, 256, (height, width, 3), np.uint8)
    xyz = np.zeros((height, width, 3), np.float32)
    xyz[15:-15, 15:-15] = generator.uniform(0.4, 0.6, (height - 30, width - 30, 3))
    return rgb, xyz


@pytest.mark.parametrize("name", ["dome", "near", "plank"])
def test_golden_samples(name: str) -> None:
    expected = np.load(CASES / f"{name}.npz")
    record = Record("golden", "test", "good", name, CASES / f"{name}.png", CASES / f"{name}.tiff", None)
    sample = load_sample(record)
    np.testing.assert_allclose(sample.rgb.mean((1, 2)).numpy(), expected["rgb_resized_mean"], atol=1e-5)
    np.testing.assert_allclose(sample.xyz.double().sum((1, 2)).numpy(), expected["xyz_resized_sum"], rtol=1e-6)
    assert int(sample.valid.sum()) == int(expected["valid_points"])
    assert sample.gt is not None
    assert not sample.gt.any()
    assert (sample.rgb.dtype, sample.xyz.dtype, sample.valid.dtype) == (torch.float32, torch.float32, torch.bool)


def test_rgb_of_grid_size_is_only_normalised() -> None:
    image = np.random.default_rng(1).integers(0, 256, (224, 224, 3), np.uint8)
    expected = ((image / 255 - MEAN) / STD).transpose(2, 0, 1)
    np.testing.assert_allclose(rgb_to_tensor(image).numpy(), expected, atol=1e-5)
    np.testing.assert_allclose(rgb_to_tensor(Image.fromarray(image)).numpy(), expected, atol=1e-5)


def test_tensor_to_image_inverts_the_normalisation() -> None:
    image = np.random.default_rng(2).integers(0, 256, (224, 224, 3), np.uint8)
    np.testing.assert_array_equal(tensor_to_image(rgb_to_tensor(image)), image)


def test_rgb_is_padded_by_its_edge() -> None:
    image = np.zeros((100, 224, 3), np.uint8)
    image[0], image[-1] = 255, 51
    padded = rgb_to_tensor(image).permute(1, 2, 0).numpy() * STD + MEAN
    np.testing.assert_allclose(padded[:63], 1, atol=1e-5)  # 62 rows of padding and the first row
    np.testing.assert_allclose(padded[63:161], 0, atol=1e-5)
    np.testing.assert_allclose(padded[161:], 0.2, atol=1e-5)


@pytest.mark.parametrize("side", [100, 224, 256, 300, 555, 800])
def test_cloud_is_picked_at_floor_of_the_scaled_index(side: int) -> None:
    rows, columns = np.meshgrid(np.arange(side), np.arange(side), indexing="ij")
    xyz = np.stack([rows + 1, columns + 1, np.full_like(rows, 7)], axis=-1).astype(np.float32)
    grid, valid = xyz_to_grid(xyz)
    expected = torch.tensor([i * side // 224 for i in range(224)], dtype=torch.float32)
    torch.testing.assert_close(grid[0, :, 0] - 1, expected, rtol=0, atol=0)
    torch.testing.assert_close(grid[1, 5] - 1, expected, rtol=0, atol=0)
    reference = torch.nn.functional.interpolate(torch.from_numpy(xyz).permute(2, 0, 1)[None], size=224, mode="nearest")
    assert torch.equal(grid, reference[0])
    assert valid.all()


def test_valid_needs_three_non_zero_coordinates() -> None:
    xyz = np.ones((224, 224, 3), np.float32)
    xyz[0, 0] = 0
    xyz[0, 1] = (0, 0.2, 0.5)
    xyz[0, 2] = (0.1, 0.2, 0)
    xyz[0, 3] = (-0.1, 0.2, 0.5)
    grid, valid = xyz_to_grid(xyz)
    assert valid[0, :4].tolist() == [False, False, False, True]
    assert grid[:, 0, :3].abs().sum() == 0


def test_unpadded_cloud_and_mask_stay_aligned_with_the_rgb() -> None:
    rgb = np.zeros((140, 300, 3), np.uint8)
    xyz = np.zeros((140, 300, 3), np.float32)
    rgb[40:80, 100:200], xyz[40:80, 100:200] = 255, 0.5
    gt = np.where(rgb[..., 0] > 0, 253, 0)
    sample = make_sample(rgb, xyz, gt)
    padded = make_sample(rgb, np.pad(xyz, ((80, 80), (0, 0), (0, 0))))
    assert torch.equal(sample.valid, padded.valid)
    assert sample.gt is not None
    assert torch.equal(sample.valid, sample.gt)
    bright = sample.rgb[0] > 0
    assert (bright ^ sample.valid).sum() < 0.05 * sample.valid.sum()  # only the resampled rim differs


def test_sample_knows_the_size_of_its_image(tmp_path: Path) -> None:
    rgb, xyz = scan_arrays(50, 80)
    assert make_sample(rgb, xyz).original == (50, 80)
    assert make_sample(Image.fromarray(rgb), xyz, size=32).original == (50, 80)
    padded = np.pad(xyz, ((15, 15), (0, 0), (0, 0)))
    assert load_sample(write_record(tmp_path, rgb, padded)).original == (50, 80)


def test_every_positive_mask_value_is_anomalous() -> None:
    gt = np.zeros((224, 224), np.uint8)
    gt[0, :4] = (255, 254, 1, 0)
    assert gt_to_grid(gt)[0, :4].tolist() == [True, True, True, False]
    assert gt_to_grid(gt).sum() == 3


def test_load_sample_reads_masks_and_float64(tmp_path: Path) -> None:
    rgb, xyz = scan_arrays()
    gt = np.zeros((60, 60), np.uint8)
    gt[20:30, 20:40] = 253
    sample = load_sample(write_record(tmp_path, rgb, xyz.astype(np.float64), gt, "hole"))
    assert sample.gt is not None
    assert torch.equal(sample.gt, gt_to_grid(gt))
    assert torch.equal(sample.xyz, xyz_to_grid(xyz)[0])
    assert torch.equal(sample.rgb, rgb_to_tensor(rgb))


def nan_cloud(xyz: np.ndarray) -> np.ndarray:
    xyz = xyz.copy()
    xyz[30, 30, 2] = np.nan
    xyz[31, 31] = np.inf
    return xyz


def raw_cloud(xyz: np.ndarray) -> np.ndarray:
    """What is measured, before a table of the same size."""
    v, u = np.mgrid[: xyz.shape[0], : xyz.shape[1]]
    table = np.stack([u * 1e-3 + 0.01, v * 1e-3 + 0.01, np.full(v.shape, 0.7)], axis=-1)
    return np.where(xyz != 0, xyz, table).astype(np.float32)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (nan_cloud, r"2 points are NaN or infinite. Write invalid points as \(0, 0, 0\)"),
        (lambda xyz: xyz * 0, "empty cloud"),
        (lambda xyz: xyz[..., 2], r"shape \(height, width, 3\), found \(60, 60\)"),
        (lambda xyz: (xyz * 1000).astype(np.uint16), "expected float32 coordinates in metres, found uint16"),
        (lambda xyz: xyz[:50], "cloud is 60×50, its RGB 0.png is 60×60"),
        (lambda xyz: np.pad(xyz, ((20, 20), (20, 20), (0, 0))), "zero-padded to 60×60. Preprocess the raw scan again"),
        (raw_cloud, r"raw data, the plane .* is still there .* python processing/preprocess_mvtec\.py"),
    ],
)
def test_bad_clouds_are_refused(tmp_path: Path, change: Any, message: str) -> None:
    rgb, xyz = scan_arrays()
    record = write_record(tmp_path, rgb, change(xyz))
    with pytest.raises(UserError, match=message) as error:
        load_sample(record)
    assert str(record.xyz) in str(error.value)


@pytest.mark.parametrize("kind", ["rgb", "xyz", "gt"])
@pytest.mark.parametrize("keep", [0, 100, 0.6])
def test_truncated_files_are_refused(tmp_path: Path, kind: str, keep: float) -> None:
    rgb, xyz = scan_arrays()
    gt = np.random.default_rng(0).integers(0, 256, (60, 60), np.uint8)
    record = write_record(tmp_path, rgb, xyz, gt, "hole")
    path = getattr(record, kind)
    content = path.read_bytes()
    path.write_bytes(content[: int(keep if keep > 1 else keep * len(content))])
    with pytest.raises(UserError, match=r"cannot be read .* Restore the file") as error:
        load_sample(record)
    assert str(path) in str(error.value)


def test_bad_masks_are_refused(tmp_path: Path) -> None:
    rgb, xyz = scan_arrays()
    with pytest.raises(UserError, match=r"0\.png: mask is 60×50, its RGB 0\.png is 60×60"):
        load_sample(write_record(tmp_path, rgb, xyz, np.ones((50, 60), np.uint8), "hole"))
    with pytest.raises(UserError, match=r"a mask in good/ must be all zero, 3600 pixels are not"):
        load_sample(write_record(tmp_path, rgb, xyz, np.ones((60, 60), np.uint8)))
    Image.new("F", (60, 60)).save(tmp_path / "0.tiff")
    with pytest.raises(UserError, match="expected an 8-bit grey mask, found mode F"):
        load_sample(replace(write_record(tmp_path, rgb, xyz, defect="hole"), gt=tmp_path / "0.tiff"))


def test_mask_of_a_defect_that_marks_nothing_is_refused(tmp_path: Path) -> None:
    """Figures of pixels would count the defect as normal. Without a mask at all it is not known where it is."""
    rgb, xyz = scan_arrays()
    record = write_record(tmp_path, rgb, xyz, np.zeros((60, 60), np.uint8), "hole")
    with pytest.raises(UserError, match=r"0\.png: the mask of a defect marks nothing, .* move the sample to good/"):
        load_sample(record)
    skipped: list[str] = []
    assert list(iter_samples([record], skipped)) == []
    assert len(skipped) == 1
    assert load_sample(replace(record, gt=None)).gt is None
    good = load_sample(write_record(tmp_path, rgb, xyz)).gt
    assert good is not None
    assert not good.any()


def test_clouds_in_millimetres_are_refused(tmp_path: Path) -> None:
    rgb, xyz = scan_arrays()
    with pytest.raises(UserError, match=r"0\.tiff: expected metres, .* in millimetres \(z around 500\): times 0.001"):
        load_sample(write_record(tmp_path, rgb, xyz * 1000))


def test_sixteen_bit_rgb_is_refused(tmp_path: Path) -> None:
    rgb, xyz = scan_arrays()
    with pytest.raises(UserError, match="expected an 8-bit colour image, found mode I;16"):
        load_sample(write_record(tmp_path, rgb[..., 0].astype(np.uint16), xyz))


def test_raw_padded_cloud_is_judged_without_its_padding(tmp_path: Path) -> None:
    rgb = np.zeros((60, 200, 3), np.uint8)
    raw = np.pad(raw_cloud(np.zeros((60, 200, 3), np.float32)), ((70, 70), (0, 0), (0, 0)))
    with pytest.raises(UserError, match="raw data"):
        load_sample(write_record(tmp_path, rgb, raw))


def test_iter_samples_keeps_the_order_and_collects_the_bad(tmp_path: Path) -> None:
    rgb, xyz = scan_arrays()
    records = [write_record(tmp_path, rgb, xyz * (index != 3), stem=f"{index:03d}") for index in range(9)]
    skipped: list[str] = []
    stems = [record.stem for record, _ in iter_samples(records, skipped, workers=3)]
    assert stems == ["000", "001", "002", "004", "005", "006", "007", "008"]
    assert len(skipped) == 1
    assert "003.tiff: empty cloud" in skipped[0]
    with pytest.raises(UserError, match=r"003\.tiff: empty cloud.*--skip_bad"):
        list(iter_samples(records))
    assert list(iter_samples(records[3:4], skipped)) == []


def test_iter_samples_can_be_left_early(tmp_path: Path) -> None:
    rgb, xyz = scan_arrays()
    records = [write_record(tmp_path, rgb, xyz, stem=f"{index:03d}") for index in range(30)]
    samples = iter_samples(records)
    first = next(samples)
    samples.close()
    assert first[0] == records[0]
    assert list(samples) == []
