"""The conversion command on small raw trees: layout, values, resuming, and samples that lack something."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import tifffile
from PIL import Image

from datasets.records import scan
from datasets.scenes.writer import Counts, write_eyecandies
from processing.preprocess_eyecandies import main
from tests.processing.tools import tree
from utils.errors import UserError

GOLDEN = Path(__file__).parents[1] / "golden" / "eyecandies"


def write_sample(data: Path, index: str, grey: int, anomalous: int | None = None) -> None:
    """A raw sample: the golden depth, a flat photograph and, when labelled, a mask of 20 x 30 pixels."""
    data.mkdir(parents=True, exist_ok=True)
    for key in ("depth.png", "info_depth.yaml", "pose.txt"):
        shutil.copyfile(GOLDEN / f"000_{key}", data / f"{index}_{key}")
    for image in range(6):
        Image.new("RGB", (512, 512), (grey, image, 0)).save(data / f"{index}_image_{image}.png", compress_level=1)
    if anomalous is not None:
        mask = np.zeros((512, 512), np.uint8)
        mask[200:220, 240:270] = 255 * anomalous
        Image.fromarray(mask).save(data / f"{index}_mask.png")
        (data / f"{index}_metadata.yaml").write_text(f"anomalous: {anomalous}\n")


@pytest.fixture
def raw(tmp_path: Path) -> Path:
    root = tmp_path / "raw" / "Lollipop"
    write_sample(root / "train" / "data", "000", 10)
    write_sample(root / "train" / "data", "001", 11)
    write_sample(root / "val" / "data", "00", 20)
    write_sample(root / "test_public" / "data", "03", 33, anomalous=1)
    write_sample(root / "test_public" / "data", "12", 42, anomalous=0)
    write_sample(root / "test_private" / "data", "000", 50)
    return root.parent


def convert(raw: Path, target: Path) -> int:
    return main(["--dataset_path", str(raw), "--target_dir", str(target), "--workers", "1"])


def test_tree_and_values(raw: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    target = tmp_path / "out"
    assert convert(raw, target) == 0
    expected = {f"train/good/{kind}" for stem in ("000", "001") for kind in (f"rgb/{stem}.png", f"xyz/{stem}.tiff")}
    expected |= {"validation/good/rgb/000.png", "validation/good/xyz/000.tiff"}
    for defect, stem in (("bad", "003"), ("good", "012")):
        expected |= {f"test/{defect}/{kind}" for kind in (f"rgb/{stem}.png", f"xyz/{stem}.tiff", f"gt/{stem}.png")}
    assert set(tree(target)) == {f"Lollipop/{name}" for name in expected} | {"preprocessing.json"}
    rgb = np.asarray(Image.open(target / "Lollipop" / "test" / "bad" / "rgb" / "003.png"))
    assert rgb[0, 0].tolist() == [33, 4, 0]
    gt = np.asarray(Image.open(target / "Lollipop" / "test" / "bad" / "gt" / "003.png"))
    assert (gt > 0).sum() == 600
    golden = np.load(GOLDEN / "expected.npz")
    valid = np.unpackbits(golden["valid"])[: 512 * 512].astype(bool)
    cloud = tifffile.imread(target / "Lollipop" / "train" / "good" / "xyz" / "001.tiff").reshape(-1, 3)
    assert cloud.dtype == np.float32
    assert np.array_equal((cloud != 0).all(axis=1), valid)
    assert (cloud[~valid] == 0).all()
    chosen = valid[golden["pixels"]]
    np.testing.assert_allclose(cloud[golden["pixels"]][chosen], golden["converted"][chosen], rtol=0, atol=1e-8)
    assert "test_private was left out" in capsys.readouterr().out


def test_the_datasets_reader_pairs_the_result(raw: Path, tmp_path: Path) -> None:
    assert convert(raw, tmp_path / "out") == 0
    found = {split: scan(tmp_path / "out", "Lollipop", split) for split in ("train", "validation", "test")}
    assert {split: len(records) for split, records in found.items()} == {"train": 2, "validation": 1, "test": 2}
    assert [(record.defect, record.stem) for record in found["test"]] == [("good", "012"), ("bad", "003")]


def test_manifest(raw: Path, tmp_path: Path) -> None:
    convert(raw, tmp_path / "out")
    manifest = json.loads((tmp_path / "out" / "preprocessing.json").read_text())
    assert (manifest["family"], manifest["version"], manifest["complete"]) == ("eyecandies", 1, True)
    assert manifest["settings"] == {"min_height": 0.02, "max_depth": 1.8, "max_side": 1.0, "scale": 0.1}
    assert len(manifest["files"]) == 5
    share = np.unpackbits(np.load(GOLDEN / "expected.npz")["valid"])[: 512 * 512].mean()
    assert manifest["files"]["Lollipop/train/good/xyz/000.tiff"] == pytest.approx(share, abs=1e-6)


def test_second_run_changes_nothing_and_repairs_what_is_gone(raw: Path, tmp_path: Path) -> None:
    target = tmp_path / "out"
    convert(raw, target)
    before = tree(target)
    times = {path: path.stat().st_mtime_ns for path in target.rglob("*") if path.is_file()}
    assert convert(raw, target) == 0
    assert {path: path.stat().st_mtime_ns for path in target.rglob("*") if path.is_file()} == times
    (target / "Lollipop" / "train" / "good" / "xyz" / "000.tiff").unlink()
    (target / "Lollipop" / "test" / "bad" / "gt" / "003.png").unlink()
    (target / "Lollipop" / "validation" / "good" / "xyz" / "000.tiff").write_bytes(b"half a file")
    assert convert(raw, target) == 0
    assert tree(target) == before


def test_two_workers_write_the_same_bytes(raw: Path, tmp_path: Path) -> None:
    convert(raw, tmp_path / "one")
    main(["--dataset_path", str(raw), "--target_dir", str(tmp_path / "two"), "--workers", "2"])
    assert tree(tmp_path / "one") == tree(tmp_path / "two")


@pytest.mark.parametrize(
    "key", ["image_4.png", "depth.png", "info_depth.yaml", "pose.txt", "mask.png", "metadata.yaml"]
)
def test_missing_key_names_the_sample_and_the_rest_is_converted(raw: Path, tmp_path: Path, key: str) -> None:
    (raw / "Lollipop" / "test_public" / "data" / f"03_{key}").unlink()
    with pytest.raises(UserError, match=rf"test_public/data: sample 03 is incomplete, expected 03_{key}"):
        convert(raw, tmp_path / "out")
    manifest = json.loads((tmp_path / "out" / "preprocessing.json").read_text())
    assert not manifest["complete"]
    assert len(manifest["files"]) == 4
    write_sample(raw / "Lollipop" / "test_public" / "data", "03", 33, anomalous=1)
    assert convert(raw, tmp_path / "out") == 0


def test_indices_may_have_any_number_of_digits(raw: Path, tmp_path: Path) -> None:
    data = raw / "Lollipop" / "train" / "data"
    for index in ("7", "0042", "12345"):
        write_sample(data, index, 1)
    assert convert(raw, tmp_path / "out") == 0
    stems = {path.stem for path in (tmp_path / "out" / "Lollipop" / "train" / "good" / "xyz").iterdir()}
    assert stems == {"000", "001", "007", "042", "12345"}
    write_sample(data, "07", 2)  # would be written over number 7
    with pytest.raises(UserError, match=r"(?s)several samples have number 7, as 07.*number 7, as 7"):
        convert(raw, tmp_path / "other")
    stems = {path.stem for path in (tmp_path / "other" / "Lollipop" / "train" / "good" / "xyz").iterdir()}
    assert stems == {"000", "001", "042", "12345"}


@pytest.mark.parametrize(
    ("key", "content", "message"),
    [
        ("depth.png", b"not a png", "000_depth.png: cannot be read"),
        ("pose.txt", b"1 0 0\n0 1 0\n", r"000_pose.txt: expected an invertible 4×4 matrix"),
        ("pose.txt", b"one two", r"000_pose.txt: cannot be read"),
        ("info_depth.yaml", b"normalization: {max: 2.0}", r"000_info_depth.yaml: cannot be read \(KeyError: 'min'\)"),
        ("info_depth.yaml", b"normalization: {max: 2.0, min: -1.0}", r"expected a depth range in front"),
    ],
)
def test_broken_file_is_named(raw: Path, tmp_path: Path, key: str, content: bytes, message: str) -> None:
    (raw / "Lollipop" / "train" / "data" / f"000_{key}").write_bytes(content)
    with pytest.raises(UserError, match=message):
        convert(raw, tmp_path / "out")
    assert not (tmp_path / "out" / "Lollipop" / "train" / "good" / "xyz" / "000.tiff").exists()
    assert (tmp_path / "out" / "Lollipop" / "train" / "good" / "xyz" / "001.tiff").exists()


def test_images_of_another_kind_are_named(raw: Path, tmp_path: Path) -> None:
    data = raw / "Lollipop" / "train" / "data"
    Image.new("L", (512, 512)).save(data / "000_depth.png")
    Image.new("RGB", (500, 512)).save(data / "001_image_4.png")
    with pytest.raises(UserError) as caught:
        convert(raw, tmp_path / "out")
    assert "000_depth.png: expected a 16-bit depth image of 512×512" in str(caught.value)
    assert "001_image_4.png: is 500×512, the depth image 512×512" in str(caught.value)


def test_folder_without_eyecandies_is_refused(tmp_path: Path) -> None:
    (tmp_path / "raw" / "bagel" / "train" / "good").mkdir(parents=True)
    with pytest.raises(UserError, match="expected raw Eyecandies"):
        convert(tmp_path / "raw", tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_target_in_use_is_refused(raw: Path, tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "mine.txt").write_text("kept")
    with pytest.raises(UserError, match="expected a new or empty folder"):
        convert(raw, tmp_path / "out")
    assert set(tree(tmp_path / "out")) == {"mine.txt"}


def test_generated_candies_convert_to_the_drawn_objects(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The generator's own Eyecandies layout: the ground goes, the object of a few centimetres stays."""
    monkeypatch.setattr("datasets.scenes.writer.DEFECTS", {"hole": None})
    write_eyecandies(tmp_path / "raw", ["gear"], Counts(1, 0, 1))
    assert convert(tmp_path / "raw", tmp_path / "out") == 0
    shares = json.loads((tmp_path / "out" / "preprocessing.json").read_text())["files"]
    assert len(shares) == 4
    assert all(0.1 < share < 0.3 for share in shares.values())
    cloud = tifffile.imread(tmp_path / "out" / "Confetto" / "train" / "good" / "xyz" / "000.tiff")
    points = cloud[(cloud != 0).all(axis=2)]
    assert 0.06 < np.ptp(points[:, 0]) < 0.10
    gt = np.asarray(Image.open(tmp_path / "out" / "Confetto" / "test" / "bad" / "gt" / "002.png")) > 0
    bad = tifffile.imread(tmp_path / "out" / "Confetto" / "test" / "bad" / "xyz" / "002.tiff")
    assert gt.any()
    assert (bad[gt] != 0).all()
