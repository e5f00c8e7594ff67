"""The check of a dataset: nothing to find in generated data, and each planted fault found alone."""

import json
import re
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
from PIL import Image

from datasets.scenes.writer import Counts, write_eyecandies, write_mvtec3d
from processing import preprocess_eyecandies, preprocess_mvtec
from processing.check_dataset import main
from processing.checks import dataset_checks
from processing.manifest import write_cloud, write_manifest
from processing.own_data.camera_files import Intrinsics
from processing.own_data.rgbd_jobs import Conversion
from utils.errors import UserError

GOOD = "gear/train/good"
Fault = Callable[[Path], object]


@pytest.fixture(scope="session")
def scenes(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """One class, raw and preprocessed in both families; 2 to train, 1 to validate, 2 good and 3 bad to test."""
    folder = tmp_path_factory.mktemp("check")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("datasets.scenes.writer.DEFECTS", ("cut", "dent", "hole"))
        write_mvtec3d(folder / "raw", ["gear"], 120, Counts(2, 1, 1), seed=4)
    for family in "ab":
        target = str(folder / family)
        preprocess_mvtec.main([str(folder / "raw"), "--workers", "1", "--family", family, "--target_dir", target])
    return {name: folder / name for name in ("raw", "a", "b")}


@pytest.fixture
def copied(scenes: dict[str, Path], tmp_path: Path) -> Callable[[str], Path]:
    return lambda name: Path(shutil.copytree(scenes[name], tmp_path / name))


@pytest.fixture
def unaligned(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without the comparison of edges, which other faults do not need."""
    monkeypatch.setattr(dataset_checks, "MIN_SAMPLES", 99)


def check(root: Path, *options: str) -> tuple[int, dict[str, Any]]:
    """Exit status and JSON."""
    out = root.parent / "out"
    words = [str(root), "--workers", "1", "--json", str(out / "check.json"), "--contact_sheet", str(out / "check.png")]
    status = main([*words, *options])
    return status, json.loads((out / "check.json").read_text())


def kinds(findings: list[dict[str, Any]]) -> list[str]:
    return [finding["kind"] for finding in findings]


def cloud(change: Callable[[np.ndarray], np.ndarray], every: bool = True) -> Fault:
    """Rewrites clouds, with their stamps where there are any."""

    def plant(root: Path) -> None:
        for path in sorted(root.rglob("*.tiff"))[: None if every else 1]:
            with tifffile.TiffFile(path) as file:
                xyz, description = file.asarray(), file.pages.first.tags.get("ImageDescription")
            text = description.value if description else None
            changed = np.ascontiguousarray(change(xyz))
            colours = "rgb" if changed.ndim == 3 else "minisblack"
            tifffile.imwrite(path, changed, photometric=colours, metadata=None, description=text)

    return plant


def image(name: str, change: Callable[[np.ndarray], np.ndarray]) -> Fault:
    def plant(root: Path) -> None:
        path = root / name
        Image.fromarray(change(np.array(Image.open(path)))).save(path)

    return plant


def with_nan(xyz: np.ndarray) -> np.ndarray:
    xyz[3, 4:9] = np.nan
    return xyz


def wipe(root: Path) -> None:
    (root / f"{GOOD}/rgb/000.png").write_bytes(b"")


def cut_short(root: Path) -> None:
    path = root / f"{GOOD}/xyz/001.tiff"
    path.write_bytes(path.read_bytes()[:2000])


def leak(root: Path) -> None:
    shutil.copy(root / f"{GOOD}/rgb/000.png", root / "gear/test/good/rgb/000.png")


def manifest(**entries: Any) -> Fault:
    def plant(root: Path) -> None:
        path = root / "preprocessing.json"
        path.write_text(json.dumps(json.loads(path.read_text()) | entries))

    return plant


def restamp(root: Path) -> None:
    path = root / f"{GOOD}/xyz/001.tiff"
    with tifffile.TiffFile(path) as file:
        stamp = json.loads(file.pages.first.tags["ImageDescription"].value)
        xyz = file.asarray()
    stamp["preprocessing"]["seed"] = 5
    tifffile.imwrite(path, xyz, photometric="rgb", metadata=None, description=json.dumps(stamp))


def from_raw(root: Path, scenes: Path) -> None:
    shutil.copy(scenes / f"{GOOD}/xyz/000.tiff", root / f"{GOOD}/xyz/000.tiff")


def remove_sample(root: Path) -> None:
    for path in (root / GOOD).glob("*/001.*"):
        path.unlink()


@pytest.mark.parametrize("name", ["raw", "a", "b"])
def test_sane_data_has_no_problems(
    scenes: dict[str, Path], name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    root = Path(shutil.copytree(scenes[name], tmp_path / name))
    status, found = check(root)
    assert (status, found["problems"], found["notes"]) == (0, [], [])
    one = found["classes"]["gear"]
    assert one["counts"] == {"train": 2, "validation": 1, "test/good": 2, "test/defects": 3}
    assert one["state"] == ("raw" if name == "raw" else "preprocessed")
    assert one["families"] == ([] if name == "raw" else [name])
    if name == "a":
        assert one["alignment"] is None
        assert "outline" in one["alignment_note"]
    else:
        assert one["alignment"]["aligned"]
        assert one["alignment"]["identity"] > 0.5
    sample = found["samples"][f"{GOOD}/000"]
    xyz = tifffile.imread(root / f"{GOOD}/xyz/000.tiff")
    assert sample["valid_share"] == pytest.approx((xyz != 0).all(axis=2).mean())
    low, high = sample["depth"]
    assert 0.45 < low < high < 0.75
    assert sample["faults"] == {}
    rgb = np.array(Image.open(root / f"{GOOD}/rgb/000.png"))
    assert sample["exposure"] == pytest.approx(rgb[(xyz != 0).all(axis=2)].mean())
    output = capsys.readouterr().out
    assert "0 problems, 0 notes." in output
    assert ("preprocess_mvtec.py" in output) == (name == "raw")
    with Image.open(tmp_path / "out/check.png") as sheet:
        assert sheet.size == (6 + 8 * 176 + 6, 26 + 6 + 26 + 170 + 15 + 6)


FAULTS: dict[str, tuple[str, Fault, str]] = {
    "missing image": ("b", lambda root: (root / f"{GOOD}/rgb/000.png").unlink(), "unpaired"),
    "missing cloud": ("b", lambda root: (root / f"{GOOD}/xyz/000.tiff").unlink(), "unpaired"),
    "zero bytes": ("b", wipe, "unreadable"),
    "truncated": ("raw", cut_short, "unreadable"),
    "leak": ("b", leak, "leak"),
    "millimetres": ("raw", cloud(lambda xyz: xyz * np.float32(1000)), "unit"),
    "one in millimetres": ("b", cloud(lambda xyz: xyz * np.float32(1000), every=False), "unit"),
    "channels": ("raw", cloud(lambda xyz: xyz[..., [2, 0, 1]]), "axes"),
    "channels, cleaned": ("b", cloud(lambda xyz: xyz[..., [2, 0, 1]]), "axes"),
    "OpenGL": ("raw", cloud(lambda xyz: xyz * np.array([1, -1, -1], np.float32)), "axes"),
    "NaN": ("b", cloud(with_nan, every=False), "not_finite"),
    "half precision": ("b", cloud(lambda xyz: xyz.astype(np.float16), every=False), "cloud_type"),
    "giant numbers": ("b", cloud(lambda xyz: xyz * np.float32(3e38), every=False), "unit"),
    "flat cloud": ("raw", cloud(lambda xyz: xyz[..., 2], every=False), "cloud_shape"),
    "empty cloud": ("b", cloud(np.zeros_like, every=False), "empty_cloud"),
    "cloud size": ("b", cloud(lambda xyz: xyz[:-5], every=False), "cloud_size"),
    "16-bit image": ("b", image(f"{GOOD}/rgb/000.png", lambda rgb: rgb[..., 0].astype(np.uint16)), "rgb_type"),
    "mask size": ("b", image("gear/test/hole/gt/000.png", lambda gt: gt[:-3]), "mask_size"),
    "empty mask": ("b", image("gear/test/hole/gt/000.png", np.zeros_like), "mask_empty"),
    "mask in good": ("b", image("gear/test/good/gt/001.png", lambda gt: gt + np.uint8(9)), "mask_in_good"),
    "interrupted": ("b", manifest(complete=False), "incomplete"),
    "other settings": ("b", restamp, "mixed"),
    "lost sample": ("b", remove_sample, "gone"),
    "no training": ("raw", lambda root: shutil.rmtree(root / "gear/train"), "structure"),
}


@pytest.mark.usefixtures("unaligned")
@pytest.mark.parametrize("fault", FAULTS)
def test_each_fault_is_found_alone(fault: str, copied: Callable[[str], Path]) -> None:
    name, plant, kind = FAULTS[fault]
    root = copied(name)
    plant(root)
    status, found = check(root)
    assert (status, kinds(found["problems"])) == (1, [kind])


@pytest.mark.usefixtures("unaligned")
def test_findings_name_the_samples(copied: Callable[[str], Path]) -> None:
    root = copied("b")
    leak(root)
    empty = root / "gear/test/hole/gt/000.png"
    empty.write_bytes(b"")
    found = check(root)[1]["problems"]
    assert kinds(found) == ["unreadable", "leak"]
    assert found[0]["samples"] == ["gear/test/hole/000"]
    assert found[0]["text"].count("Restore") == 1
    assert str(empty) in found[0]["text"]
    assert found[1]["samples"] == [f"{GOOD}/000 = gear/test/good/000"]


@pytest.mark.usefixtures("unaligned")
def test_raw_cloud_among_cleaned_ones(scenes: dict[str, Path], copied: Callable[[str], Path]) -> None:
    root = copied("b")
    from_raw(root, scenes["raw"])
    status, found = check(root)
    assert status == 1
    assert kinds(found["problems"]) == ["mixed"]
    assert found["problems"][0]["samples"] == [f"{GOOD}/000"]
    assert found["classes"]["gear"]["state"] == "mixed"


@pytest.mark.usefixtures("unaligned")
def test_stamped_parts_may_fill_the_frame(copied: Callable[[str], Path]) -> None:
    root, done = copied("raw"), Conversion(unit=1.0, background="none")
    for number, path in enumerate(root.rglob("*.tiff")):  # the camera may differ from image to image
        own = replace(done, camera=Intrinsics(500.0 + number, 500.0, 99.0, 99.0))
        write_cloud(path, tifffile.imread(path), own, 1.0, "")
    write_manifest(root, done, True, {f"{GOOD}/xyz/{stem}.tiff": 1.0 for stem in ("000", "001")})
    status, found = check(root)
    assert (status, found["problems"], found["notes"]) == (0, [], [])
    assert (found["classes"]["gear"]["state"], found["classes"]["gear"]["families"]) == ("preprocessed", ["rgbd"])
    assert found["samples"][f"{GOOD}/000"]["stamp"]["preprocessing"]["family"] == "rgbd"


@pytest.mark.usefixtures("unaligned")
def test_what_a_plane_left_and_fills_the_frame_is_noted(copied: Callable[[str], Path]) -> None:
    root, done = copied("raw"), Conversion(unit=1.0)
    for path in root.rglob("*.tiff"):
        write_cloud(path, tifffile.imread(path), done, 1.0, "")
    write_manifest(root, done, True, {})
    status, found = check(root)
    assert (status, found["problems"], kinds(found["notes"])) == (0, [], ["kept", "kept"])
    edge, share = (note["text"] for note in found["notes"])
    assert "left reaches the edge of the frame, 48.0% to 68.3% of it: perhaps a table or an arm rather than" in edge
    assert "left fills more than a third of the frame, 56.4% to 69.1%: perhaps the table or the box" in share
    assert len(found["notes"][0]["samples"]) == 8


@pytest.mark.usefixtures("unaligned")
def test_images_of_the_other_family(scenes: dict[str, Path], copied: Callable[[str], Path]) -> None:
    root = copied("b")
    shutil.copy(scenes["a"] / f"{GOOD}/rgb/001.png", root / f"{GOOD}/rgb/001.png")
    status, found = check(root)
    assert (status, kinds(found["problems"])) == (1, ["family"])
    assert found["problems"][0]["samples"] == [f"{GOOD}/001"]


@pytest.mark.parametrize(
    ("name", "change", "told"),
    [
        ("raw", lambda xyz: np.roll(xyz, 15, axis=1), "moved 1[3-7] px left and"),
        ("b", lambda xyz: np.roll(xyz, -12, axis=0), "1[0-4] px down"),
        ("raw", lambda xyz: xyz[:, ::-1], "mirrored left to right"),
    ],
)
def test_misalignment_is_found_alone(
    name: str, change: Callable[[np.ndarray], np.ndarray], told: str, copied: Callable[[str], Path]
) -> None:
    root = copied(name)
    cloud(change)(root)
    status, found = check(root)
    assert (status, kinds(found["problems"])) == (1, ["alignment"])
    assert re.search(told, found["problems"][-1]["text"])
    assert not found["classes"]["gear"]["alignment"]["aligned"]


@pytest.mark.usefixtures("unaligned")
def test_notes_do_not_change_the_status(copied: Callable[[str], Path], capsys: pytest.CaptureFixture[str]) -> None:
    root = copied("b")
    (root / "preprocessing.json").unlink()
    (root / "gear/notes.docx").write_text("x")
    cloud(lambda xyz: xyz.astype(np.float64), every=False)(root)
    shutil.copy(root / f"{GOOD}/rgb/000.png", root / f"{GOOD}/rgb/001.png")
    shutil.copy(root / "gear/test/cut/rgb/000.png", root / "gear/test/dent/rgb/000.png")
    image("gear/validation/good/rgb/000.png", lambda rgb: rgb[..., 1])(root)
    status, found = check(root)
    assert (status, found["problems"]) == (0, [])
    assert sorted(kinds(found["notes"])) == ["cloud_wide", "duplicates", "elsewhere", "foreign", "rgb_mode"]
    assert "0 problems, 5 notes." in capsys.readouterr().out


@pytest.mark.usefixtures("unaligned")
def test_text_tells_values_and_names_once(copied: Callable[[str], Path], capsys: pytest.CaptureFixture[str]) -> None:
    root = copied("raw")
    cloud(lambda xyz: xyz * np.float32(1000))(root)
    assert check(root)[0] == 1
    lines = [line for line in capsys.readouterr().out.splitlines() if "millimetres" in line]
    assert len(lines) == 1
    assert "gear: expected coordinates in metres" in lines[0]
    assert "times 0.001 the points extend over" in lines[0]
    assert f"[8 samples: {GOOD}/000, {GOOD}/001, gear/validation/good/000, …]" in lines[0]


@pytest.mark.usefixtures("unaligned")
def test_published_counts(scenes: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root = Path(shutil.copytree(scenes["raw"], tmp_path / "raw"))
    monkeypatch.setattr(dataset_checks, "RELEASES", {"R": {"gear": (4, 1, 2, 3), "cap": (1, 1, 1, 1)}})
    status, found = check(root)
    assert (status, found["problems"], kinds(found["notes"])) == (0, [], ["subset"])
    assert found["notes"][0]["text"].startswith("a part of R: gear has train 2 of 4; without cap. Where it should be")
    monkeypatch.setattr(dataset_checks, "RELEASES", {"R": {"gear": (2, 1, 2, 2)}})
    status, found = check(root)
    assert (status, kinds(found["notes"])) == (0, ["counts"])
    monkeypatch.setattr(dataset_checks, "RELEASES", {"R": {"gear": (2, 1, 2, 3)}})
    (root / f"{GOOD}/rgb/000.png").unlink()
    assert kinds(check(root)[1]["problems"]) == ["unpaired"]  # not missed a second time


def test_what_cannot_be_checked(scenes: dict[str, Path], tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no class 'bagel'"):
        main([str(scenes["raw"]), "--classes", "bagel"])
    with pytest.raises(UserError, match="expected class folders"):
        main([str(tmp_path)])
    (tmp_path / "gear/train").mkdir(parents=True)
    (tmp_path / "preprocessing.json").write_text("[")
    with pytest.raises(UserError, match="manifest"):
        main([str(tmp_path)])


# Slow: images of the release have one size.
@pytest.mark.slow
def test_eyecandies_raw_and_converted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    raw, converted = tmp_path / "raw", tmp_path / "converted"
    monkeypatch.setattr("datasets.scenes.writer.DEFECTS", ("hole",))
    write_eyecandies(raw, ["gear"], Counts(2, 1, 1), seed=3)
    preprocess_eyecandies.main(["--dataset_path", str(raw), "--target_dir", str(converted), "--workers", "1"])
    monkeypatch.setattr(dataset_checks.eyecandies, "RAW_COUNTS", {"train": 2, "val": 1, "test_public": 3})
    monkeypatch.setattr(dataset_checks, "RELEASES", {})
    capsys.readouterr()
    status, found = check(raw)
    assert (status, found["problems"]) == (0, [])
    assert found["classes"]["Confetto"]["counts"] == {"train": 2, "val": 1, "test_public": 3}
    assert f"preprocess_eyecandies.py --dataset_path {raw}" in capsys.readouterr().out
    status, found = check(converted)
    assert (status, found["problems"], found["notes"]) == (0, [], [])
    assert found["classes"]["Confetto"]["alignment"]["aligned"]


@pytest.mark.usefixtures("unaligned")
def test_documents_of_a_release_are_not_foreign(copied: Callable[[str], Path]) -> None:
    root = copied("b")
    for name in ("license.txt", "readme.txt", "class_ids.json", "train/good/list.txt"):
        (root / "gear" / name).write_text("{}")
    found = check(root)[1]["notes"]
    assert kinds(found) == ["foreign"]
    assert found[0]["text"].endswith(": 1, the first: gear/train/good/list.txt")


@pytest.mark.usefixtures("unaligned")
def test_clouds_without_a_stamp_are_of_no_family(
    copied: Callable[[str], Path], capsys: pytest.CaptureFixture[str]
) -> None:
    root = copied("b")
    (root / "preprocessing.json").unlink()
    for path in root.rglob("*.tiff"):
        tifffile.imwrite(path, tifffile.imread(path), photometric="rgb", metadata=None)
    status, found = check(root)
    assert (status, found["problems"], kinds(found["notes"])) == (0, [], ["elsewhere"])
    assert found["classes"]["gear"]["families"] == ["elsewhere"]
    assert "preprocessed, elsewhere" in capsys.readouterr().out


@pytest.mark.usefixtures("unaligned")
def test_inverted_masks_are_noted(copied: Callable[[str], Path]) -> None:
    root = copied("b")
    image("gear/test/hole/gt/000.png", lambda gt: np.where(gt > 0, 0, 255).astype(np.uint8))(root)
    status, found = check(root)
    assert (status, found["problems"], kinds(found["notes"])) == (0, [], ["mask_large"])
