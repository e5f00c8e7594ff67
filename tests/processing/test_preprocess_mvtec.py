"""The preprocessing command on small raw datasets: values, resuming, refusals."""

import itertools
import json
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
from PIL import Image

from datasets.records import scan
from datasets.sample import load_sample
from processing import preprocess_mvtec
from processing.background.clean_files import Job, Outcome
from processing.preprocess_mvtec import main
from tests.processing.tools import kill_with_workers, tree
from utils.errors import UserError
from utils.files import LOCK

ROOT = Path(__file__).parents[2]
Scan = tuple[np.ndarray, np.ndarray, np.ndarray]


@pytest.fixture
def raw(tmp_path: Path, write_dataset: Callable[..., Path]) -> Path:
    return write_dataset(tmp_path / "raw")


@pytest.fixture(scope="module")
def finished_run(
    tmp_path_factory: pytest.TempPathFactory, write_dataset: Callable[..., Path]
) -> dict[str, dict[str, bytes]]:
    """Family -> what a run of it makes of `raw` in a new folder."""
    raw = write_dataset(tmp_path_factory.mktemp("finished") / "raw")
    for family in "ab":
        preprocess(raw, "--family", family, "--target_dir", raw.with_name(family))
    return {family: tree(raw.with_name(family)) for family in "ab"}


def times(root: Path) -> dict[str, int]:
    return {str(path): path.stat().st_mtime_ns for path in root.rglob("*") if path.is_file()}


def preprocess(raw: Path, *options: Any) -> int:
    return main([str(raw), "--workers", "1", *map(str, options)])


def test_family_b_changes_only_the_clouds(
    raw: Path, raw_scan: Callable[..., Scan], capsys: pytest.CaptureFixture[str]
) -> None:
    assert preprocess(raw) == 0
    target = raw.with_name("raw_preprocessed")
    before, after = tree(raw), tree(target)
    assert set(after) == set(before) | {"preprocessing.json"}
    for name, content in before.items():
        assert (after[name] == content) == ("xyz" not in name), name
    rng = np.random.default_rng(0)
    _, xyz, expected = raw_scan(90, 120, rng)
    cloud = tifffile.imread(target / "part/train/good/xyz/000.tiff")
    assert cloud.dtype == np.float32
    assert cloud.shape == (120, 120, 3)
    kept = (cloud != 0).all(axis=2)
    assert not kept[:15].any()
    assert not kept[105:].any()
    assert (kept[15:105] ^ expected).sum() <= 0.03 * expected.sum()  # noise at the 5 mm contour
    np.testing.assert_array_equal(cloud[15:105][kept[15:105]], xyz[kept[15:105]])
    assert not cloud[~kept].any()
    output = capsys.readouterr().out
    assert "8 samples processed" in output
    assert f"python cfm_training.py --dataset_path {target} --class_name part" in output


def test_manifest_tells_what_was_done(raw: Path) -> None:
    preprocess(raw, "--seed", 3)
    target = raw.with_name("raw_preprocessed")
    manifest = json.loads((target / "preprocessing.json").read_text())
    assert (manifest["family"], manifest["version"], manifest["seed"], manifest["complete"]) == ("b", 1, 3, True)
    assert manifest["settings"]["plane_distance"] == 0.005
    assert set(manifest["files"]) == {name for name in tree(raw) if "xyz" in name}
    cloud = tifffile.imread(target / "part/test/hole/xyz/001.tiff")
    share = (cloud != 0).all(axis=2).mean()
    assert manifest["files"]["part/test/hole/xyz/001.tiff"] == pytest.approx(share, abs=1e-6)
    assert 0.1 < share < 0.3


@pytest.mark.parametrize("size", [(900, 400), (300, 140), (512, 512), (640, 480)])
@pytest.mark.parametrize("family", ["a", "b"])
def test_cloud_rgb_and_mask_stay_aligned(
    tmp_path: Path,
    raw_scan: Callable[..., Scan],
    write_sample: Callable[..., None],
    size: tuple[int, int],
    family: str,
) -> None:
    width, height = size
    rgb, xyz, dome = raw_scan(height, width, np.random.default_rng(0))
    xyz[::3], rgb[::3] = 0, 90  # keep the object small enough for a quick test and the colours equal to the geometry
    dome[::3] = False
    gt = np.where(dome, 254, 0).astype(np.uint8)
    write_sample(tmp_path / "raw/part/test/hole", "000", rgb, xyz, gt)
    assert preprocess(tmp_path / "raw", "--family", family) == 0
    target = tmp_path / "raw_preprocessed"
    cloud = tifffile.imread(target / "part/test/hole/xyz/000.tiff")
    assert cloud.shape == (max(width, height), max(width, height), 3)
    sample = load_sample(scan(target, "part", "test")[0])
    assert sample.gt is not None
    agreement = (sample.valid & sample.gt).sum() / (sample.valid | sample.gt).sum()
    assert agreement > 0.95


def test_family_a_blackens_and_pads_rgb_and_mask(raw: Path) -> None:
    preprocess(raw, "--family", "a")
    target = raw.with_name("raw_preprocessed")
    cloud = tifffile.imread(target / "part/test/hole/xyz/001.tiff")
    kept = (cloud != 0).all(axis=2)
    rgb = np.array(Image.open(target / "part/test/hole/rgb/001.png"))
    before = np.array(Image.open(raw / "part/test/hole/rgb/001.png"))
    assert rgb.shape == (120, 120, 3)
    np.testing.assert_array_equal(rgb[kept], before[kept[15:105]])
    assert not rgb[~kept].any()
    gt = np.array(Image.open(target / "part/test/hole/gt/001.png"))
    expected = np.zeros((120, 120), np.uint8)
    expected[55:65, 50:70] = 253
    np.testing.assert_array_equal(gt, expected)
    labels = Image.open(raw / "part/test/hole/gt/001.png").point(lambda value: 5 if value else 9)
    labels.putpalette([255] * 18 + [0] * 12)  # number 5 is white, 9 black
    labels.save(raw / "part/test/hole/gt/001.png")
    preprocess(raw, "--family", "a", "--target_dir", raw.with_name("palette"))
    gt = np.array(Image.open(raw.with_name("palette") / "part/test/hole/gt/001.png"))
    np.testing.assert_array_equal(gt, 255 * (expected > 0))
    preprocess(raw, "--target_dir", raw.with_name("b"))
    np.testing.assert_array_equal(tifffile.imread(raw.with_name("b") / "part/test/hole/xyz/001.tiff"), cloud)


def test_second_run_changes_nothing(raw: Path) -> None:
    target = raw.with_name("raw_preprocessed")
    preprocess(raw)
    before, stamps = tree(target), times(target)
    assert preprocess(raw) == 0
    assert tree(target) == before
    assert times(target) == stamps


def test_result_does_not_depend_on_the_workers(raw: Path, finished_run: dict[str, dict[str, bytes]]) -> None:
    assert main([str(raw), "--workers", "2"]) == 0
    assert tree(raw.with_name("raw_preprocessed")) == finished_run["b"]


@pytest.mark.parametrize("family", ["a", "b"])
def test_in_place_equals_a_new_folder_and_runs_once(
    raw: Path, family: str, finished_run: dict[str, dict[str, bytes]]
) -> None:
    assert preprocess(raw, "--family", family, "--in_place") == 0
    finished = tree(raw)
    assert finished == finished_run[family]
    with pytest.raises(UserError, match=r"already preprocessed.*Nothing to do"):
        preprocess(raw, "--family", family, "--in_place")
    assert tree(raw) == finished


class Stopped(Exception):
    pass


@pytest.mark.parametrize("family", ["a", "b"])
@pytest.mark.parametrize("in_place", [False, True])
def test_stopped_run_resumes_to_the_same_bytes(
    raw: Path,
    family: str,
    in_place: bool,
    finished_run: dict[str, dict[str, bytes]],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    options = ("--family", family, *(["--in_place"] if in_place else []))
    clean = preprocess_mvtec.clean

    def stop_at_fifth(job: Job) -> Outcome:
        if job.record.split == "test" and job.record.stem == "000":
            raise Stopped
        return clean(job)

    monkeypatch.setattr(preprocess_mvtec, "clean", stop_at_fifth)
    with pytest.raises(Stopped):
        preprocess(raw, *options)
    target = raw if in_place else raw.with_name("raw_preprocessed")
    assert json.loads((target / "preprocessing.json").read_text())["complete"] is False
    (target / "part/train/good/xyz/.000.0123abcd.tmp.tiff").write_bytes(b"half a file of a killed run")
    monkeypatch.setattr(preprocess_mvtec, "clean", clean)
    capsys.readouterr()
    assert preprocess(raw, *options) == 0
    assert "4 samples processed, 4 were finished before" in capsys.readouterr().out
    assert tree(target) == finished_run[family]


def test_in_place_run_killed_between_images_and_cloud_is_repaired(raw: Path) -> None:
    cloud = raw / "part/test/hole/xyz/000.tiff"
    content = cloud.read_bytes()
    preprocess(raw, "--family", "a", "--in_place")
    finished = tree(raw)
    cloud.write_bytes(content)  # RGB and mask are final, the cloud is raw
    manifest = json.loads(finished["preprocessing.json"]) | {"complete": False}
    (raw / "preprocessing.json").write_text(json.dumps(manifest))
    assert preprocess(raw, "--family", "a", "--in_place") == 0
    assert tree(raw) == finished


@pytest.mark.parametrize("options", [("--family", "b"), ("--family", "a", "--in_place")])
def test_killed_run_leaves_no_half_file_and_resumes(
    tmp_path: Path, write_dataset: Callable[..., Path], options: tuple[str, ...]
) -> None:
    raw = write_dataset(tmp_path / "raw", count=3)
    reference = tmp_path / "reference"
    preprocess(raw, *options[:2], "--target_dir", reference)
    before, after = tree(raw), tree(reference)
    target = raw if "--in_place" in options else tmp_path / "raw_preprocessed"
    for done in (2, 3):
        kill_with_workers("preprocess_mvtec", [str(raw), *options], done)
        for name, content in tree(target).items():
            if name == "preprocessing.json":
                assert json.loads(content)["complete"] is False
            elif ".tmp." not in name and name != LOCK:
                assert content in (after[name], before.get(name) if target == raw else None), name
    assert finished_clouds(target, after) >= 5
    assert preprocess(raw, *options) == 0
    assert tree(target) == after


def finished_clouds(root: Path, expected: dict[str, bytes]) -> int:
    """Padding changes the size, so that the size tells finished clouds from raw ones."""
    sizes = {path.relative_to(root).as_posix(): path.stat().st_size for path in root.rglob("xyz/[0-9]*.tiff")}
    return sum(size == len(expected[name]) for name, size in sizes.items())


def without_stamp(path: Path) -> None:
    """Write a preprocessed cloud as another program would."""
    tifffile.imwrite(path, tifffile.imread(path), photometric="rgb")


def broken_files(raw: Path) -> Iterator[tuple[Path, str]]:
    good = raw / "part/train/good/xyz"
    yield good / "000.tiff", "cannot be read"
    yield good / "001.tiff", "NaN or infinite"


def test_bad_files_are_listed_and_the_rest_is_done(raw: Path, finished_run: dict[str, dict[str, bytes]]) -> None:
    (truncated, _), (nan, _) = broken_files(raw)
    content = truncated.read_bytes()
    xyz = tifffile.imread(nan)
    truncated.write_bytes(content[:1000])
    tifffile.imwrite(nan, np.where(xyz == 0, np.nan, xyz).astype(np.float32), photometric="rgb")
    (raw / "part/test/hole/gt/001.png").unlink()
    with pytest.raises(UserError, match=r"3 samples could not be processed, 5 are finished") as error:
        preprocess(raw)
    for path, message in broken_files(raw):
        assert str(path) in str(error.value)
        assert message in str(error.value)
    assert "expected" in str(error.value)
    assert "hole/gt/001.png" in str(error.value)
    target = raw.with_name("raw_preprocessed")
    assert not (target / "part/train/good/rgb/000.png").exists()  # no partner without its cloud
    assert json.loads((target / "preprocessing.json").read_text())["complete"] is False

    truncated.write_bytes(content)
    tifffile.imwrite(nan, xyz, photometric="rgb")
    shutil.copy(raw / "part/test/hole/gt/000.png", raw / "part/test/hole/gt/001.png")
    assert preprocess(raw) == 0
    assert tree(target) == finished_run["b"]


def test_scan_without_an_object_is_listed(raw: Path) -> None:
    path = raw / "part/train/good/xyz/001.tiff"
    xyz = tifffile.imread(path)
    xyz[20:-20, 20:-20] = 0
    tifffile.imwrite(path, xyz, photometric="rgb")
    with pytest.raises(UserError, match=r"001\.tiff: nothing is left above the background plane"):
        preprocess(raw)


def test_preprocessed_data_are_refused(raw: Path) -> None:
    target = raw.with_name("raw_preprocessed")
    preprocess(raw)
    before = tree(target)
    with pytest.raises(UserError, match=r"already preprocessed, see preprocessing.json"):
        preprocess(target)
    with pytest.raises(UserError, match=r"already preprocessed, see preprocessing.json"):
        preprocess(target, "--in_place")
    assert tree(target) == before
    (target / "preprocessing.json").unlink()
    for path in target.rglob("*.tiff"):
        without_stamp(path)
    before = tree(target)
    for options in ((), ("--in_place",)):
        with pytest.raises(UserError, match=r"no background plane reaches the frame's border: already preprocessed"):
            preprocess(target, *options)
    assert not target.with_name("raw_preprocessed_preprocessed").exists()
    assert tree(target) == before


def test_single_preprocessed_file_is_not_cut_again(raw: Path, finished_run: dict[str, dict[str, bytes]]) -> None:
    name = "part/train/good/xyz/001.tiff"
    (raw / name).write_bytes(finished_run["b"][name])
    without_stamp(raw / name)
    with pytest.raises(UserError, match=r"1 samples could not.*\n.*001\.tiff: no background plane reaches"):
        preprocess(raw, "--in_place")


@pytest.mark.parametrize(("columns", "listed"), [(65, False), (115, True)])
def test_scan_without_enough_of_its_border_is_listed(raw: Path, columns: int, listed: bool) -> None:
    """With 47 % of the border left the table is still known, with 10 % it is not."""
    path = raw / "part/train/good/xyz/001.tiff"
    xyz = tifffile.imread(path)
    xyz[:, :columns] = 0
    tifffile.imwrite(path, xyz, photometric="rgb")
    if listed:
        with pytest.raises(UserError, match=r"1 samples could not.*\n.*001\.tiff: no background plane reaches"):
            preprocess(raw)
    else:
        preprocess(raw)
        kept = tifffile.imread(raw.with_name("raw_preprocessed") / "part/train/good/xyz/001.tiff")[15:-15]
        assert not (kept != 0)[:, :columns].any()
        assert 0.1 < (kept != 0).all(axis=2)[:, columns:].mean() < 0.5


def test_random_draws_depend_on_seed_and_file_alone(raw: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def noise(xyz: np.ndarray, generator: np.random.Generator, *_: Any) -> np.ndarray:
        return generator.random(xyz.shape[:2]) < 0.5

    monkeypatch.setattr("processing.background.clean_files.object_mask", noise)
    for name, seed in (("one", 0), ("two", 0), ("three", 1)):
        preprocess(raw, "--seed", seed, "--target_dir", raw.with_name(name))
    clouds = {name: tree(raw.with_name(name) / "part") for name in ("one", "two", "three")}
    assert clouds["one"] == clouds["two"]
    changed = {name for name, content in clouds["one"].items() if clouds["three"][name] != content}
    assert changed == {name for name in clouds["one"] if "xyz" in name}
    kept = [tifffile.imread(path) != 0 for path in sorted((raw.with_name("one")).rglob("*.tiff"))]
    # Half of the pixels of three quarters of the square; 2 % differ by invalid points alone.
    assert all((first != second).mean() > 0.3 for first, second in itertools.pairwise(kept))


def test_unsuitable_folders_are_refused(raw: Path, tmp_path: Path) -> None:
    preprocess(raw)
    target = raw.with_name("raw_preprocessed")
    with pytest.raises(UserError, match=r"made with seed 0, now asked for 1"):
        preprocess(raw, "--seed", 1)
    with pytest.raises(UserError, match=r"made with family b, now asked for a"):
        preprocess(raw, "--family", "a")
    for inside in (raw / "clean", raw, tmp_path):
        with pytest.raises(UserError, match="lies in or around"):
            preprocess(raw, "--target_dir", inside)
    (tmp_path / "other").mkdir()
    (tmp_path / "other/file").touch()
    with pytest.raises(UserError, match="expected a new or empty folder"):
        preprocess(raw, "--target_dir", tmp_path / "other")
    (target / "preprocessing.json").write_text("{")
    with pytest.raises(UserError, match=r"preprocessing\.json: cannot be read .* Expected the manifest of"):
        preprocess(raw)
    with pytest.raises(UserError, match="no such folder"):
        preprocess(tmp_path / "nowhere")


def test_raw_data_are_refused_by_the_loader_and_accepted_when_preprocessed(raw: Path) -> None:
    with pytest.raises(UserError, match=f"raw data.*python processing/preprocess_mvtec.py {raw}"):
        load_sample(scan(raw, "part", "train")[0])
    preprocess(raw)
    target = raw.with_name("raw_preprocessed")
    (target / "preprocessing.json").unlink()  # as if preprocessed elsewhere
    without_stamp(target / "part/train/good/xyz/000.tiff")
    assert load_sample(scan(target, "part", "train")[0]).valid.any()


def test_full_disk_is_a_clear_error(raw: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*args: Any, **kwargs: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("processing.manifest.tifffile.imwrite", full)
    with pytest.raises(UserError, match=r"cannot write .*No space left on device.*run the same command again"):
        preprocess(raw)
    monkeypatch.undo()
    assert preprocess(raw) == 0


def test_script_runs_from_the_root_and_reports_errors(raw: Path) -> None:
    command = [sys.executable, "processing/preprocess_mvtec.py", str(raw), "--workers", "1"]
    result = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    assert "8/8" in result.stderr  # the progress bar
    result = subprocess.run([*command, "--seed", "5"], cwd=ROOT, capture_output=True, text=True)
    assert result.returncode == 2
    assert result.stderr.startswith("error: ")
    assert "Traceback" not in result.stderr
