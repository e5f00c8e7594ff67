"""Scanning and pairing on small trees of empty files."""

import shutil
from pathlib import Path

import pytest

from datasets.records import Record, class_names, nominal_split, scan
from utils.errors import UserError


def touch(root: Path, *names: str) -> None:
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).touch()


def add(root: Path, folder: str, *stems: str, gt: bool = False) -> None:
    for stem in stems:
        touch(root, f"{folder}/rgb/{stem}.png", f"{folder}/xyz/{stem}.tiff")
        if gt:
            touch(root, f"{folder}/gt/{stem}.png")


@pytest.fixture
def root(tmp_path: Path) -> Path:
    add(tmp_path, "bolt/train/good", "010", "002", "000")
    add(tmp_path, "bolt/validation/good", "000")
    add(tmp_path, "bolt/test/good", "000", "001")
    add(tmp_path, "bolt/test/hole", "001", "000", gt=True)
    add(tmp_path, "bolt/test/cut", "003", gt=True)
    add(tmp_path, "arm/test/good", "000")
    touch(tmp_path, "readme.txt", "notes/a.txt")
    return tmp_path


def test_class_names_are_the_folders_with_train_or_test(root: Path) -> None:
    assert class_names(root) == ["arm", "bolt"]


def test_train_is_ordered_by_stem(root: Path) -> None:
    records = scan(root, "bolt", "train")
    good = root / "bolt/train/good"
    assert [record.stem for record in records] == ["000", "002", "010"]
    assert records[0] == Record("bolt", "train", "good", "000", good / "rgb/000.png", good / "xyz/000.tiff", None)
    assert records[0].dataset_path == root
    assert str(records[0]) == "bolt/train/good/000"


def test_test_has_good_first_then_defects_by_name(root: Path) -> None:
    records = scan(root, "bolt", "test")
    found = [(record.defect, record.stem, record.is_good, record.gt is not None) for record in records]
    assert found == [
        ("good", "000", True, False),
        ("good", "001", True, False),
        ("cut", "003", False, True),
        ("hole", "000", False, True),
        ("hole", "001", False, True),
    ]


def test_suffixes_may_differ_and_foreign_files_are_ignored(root: Path) -> None:
    touch(root, "bolt/train/good/rgb/x.JPEG", "bolt/train/good/xyz/x.tif")
    touch(root, "bolt/train/good/rgb/Thumbs.db", "bolt/train/good/rgb/._000.png", "bolt/train/.cache/rgb/1.png")
    records = scan(root, "bolt", "train")
    assert records[-1].rgb.name == "x.JPEG"
    assert records[-1].xyz.name == "x.tif"
    assert len(records) == 4


def test_good_masks_are_taken_when_present(root: Path) -> None:
    touch(root, "bolt/test/good/gt/000.png", "bolt/test/good/gt/001.png")
    assert [record.gt for record in scan(root, "bolt", "test")[:2]] == [
        root / f"bolt/test/good/gt/{stem}.png" for stem in ("000", "001")
    ]


def test_masks_may_lack_altogether(root: Path) -> None:
    for defect in ("cut", "hole"):
        shutil.rmtree(root / f"bolt/test/{defect}/gt")
        (root / f"bolt/test/{defect}/gt").mkdir()
        found = [record.lacks_mask for record in scan(root, "bolt", "test", [])[2:]]
        assert found == ([True] * 3 if defect == "hole" else [False] * 2)
    assert [record.lacks_mask for record in scan(root, "bolt", "test")] == [False, False, True, True, True]
    touch(root, "bolt/test/hole/gt/000.jpg")  # there are masks, of a kind that is not read
    with pytest.raises(UserError, match=r"partner missing, expected .*cut/gt/003.png"):
        scan(root, "bolt", "test")


@pytest.mark.parametrize(
    ("removed", "named"),
    [
        ("train/good/rgb/002.png", "002.tiff"),
        ("train/good/xyz/002.tiff", "002.png"),
        ("test/hole/gt/001.png", "hole/gt/001.png"),
        ("test/hole/rgb/001.png", "hole/rgb/001.png"),
    ],
)
def test_missing_partner_is_an_error_or_skipped(root: Path, removed: str, named: str) -> None:
    (root / "bolt" / removed).unlink()
    split = removed.split("/")[0]
    with pytest.raises(UserError, match=r"partner missing.*Restore that file or remove") as error:
        scan(root, "bolt", split)
    assert named in str(error.value)
    skipped: list[str] = []
    records = scan(root, "bolt", split, skipped)
    assert len(records) == {"train": 2, "test": 4}[split]
    assert len(skipped) == 1
    assert named in skipped[0]


def test_missing_gt_folder_of_a_defect_is_an_error(root: Path) -> None:
    (root / "bolt/test/cut/gt/003.png").unlink()
    (root / "bolt/test/cut/gt").rmdir()
    with pytest.raises(UserError, match=r"cut/gt: no such folder"):
        scan(root, "bolt", "test")
    skipped: list[str] = []
    assert {record.defect for record in scan(root, "bolt", "test", skipped)} == {"good", "hole"}
    assert len(skipped) == 1


def test_two_files_with_one_stem_are_an_error(root: Path) -> None:
    touch(root, "bolt/train/good/rgb/000.jpg")
    with pytest.raises(UserError, match=r"000\.png: same stem as 000\.jpg"):
        scan(root, "bolt", "train")


def test_wrong_class_lists_the_classes(root: Path) -> None:
    with pytest.raises(UserError, match=r"no class 'bagel'\. Classes found: arm, bolt"):
        scan(root, "bagel", "train")


def test_wrong_paths_say_what_was_found(root: Path) -> None:
    with pytest.raises(UserError, match="no such folder"):
        class_names(root / "nowhere")
    with pytest.raises(UserError, match="class folder itself: pass its parent"):
        class_names(root / "bolt")
    with pytest.raises(UserError, match=r"Found no folders"):
        class_names(root / "notes")
    with pytest.raises(UserError, match="arm/train: no such folder"):
        scan(root, "arm", "train")


def test_empty_split_is_an_error(root: Path) -> None:
    (root / "arm/train/good/rgb").mkdir(parents=True)
    (root / "arm/train/good/xyz").mkdir(parents=True)
    with pytest.raises(UserError, match="arm/train: no complete sample found"):
        scan(root, "arm", "train")
    touch(root, "arm/train/good/rgb/000.png")
    with pytest.raises(UserError, match=r"no complete sample found. The first problem: .*000\.png: partner missing"):
        scan(root, "arm", "train", [])


def test_anomalies_in_train_are_refused(root: Path) -> None:
    add(root, "bolt/train/hole", "000", gt=True)
    with pytest.raises(UserError, match=r"train/hole: train/ may hold only good/"):
        scan(root, "bolt", "train")


def test_relatives_of_the_layout_name_the_converter(root: Path) -> None:
    (root / "bolt/test/hole/gt").rename(root / "bolt/test/hole/ground_truth")
    with pytest.raises(UserError, match=r"hole/gt: no such folder.*see processing/convert_rgbd\.py"):
        scan(root, "bolt", "test")
    (root / "bolt/train/good").rename(root / "bolt/train/GOOD")
    with pytest.raises(UserError, match=r"train/GOOD: .*see processing/convert_rgbd\.py"):
        scan(root, "bolt", "train")


def test_raw_eyecandies_layout_names_the_converter(tmp_path: Path) -> None:
    touch(tmp_path, "Confetto/train/data/000_image_0.png", "Confetto/test_public/data/00_image_0.png")
    for split in ("train", "test"):
        with pytest.raises(UserError, match=r"raw Eyecandies.*python processing/preprocess_eyecandies\.py"):
            scan(tmp_path, "Confetto", split)


def stems(records: list[Record]) -> str:
    return " ".join(record.stem for record in records)


def test_nominal_split_takes_the_validation_split_where_there_is_one(root: Path) -> None:
    split = nominal_split(root, "bolt", shots=2, hold_out=0.2)
    assert (stems(split.train), stems(split.validation), split.source) == ("000 002", "000", "validation")
    assert split.validation[0].split == "validation"


@pytest.mark.parametrize(
    ("count", "shots", "hold_out", "held"),
    [
        (10, None, 0.2, "2 7"),  # evenly spaced
        (10, None, 0.3, "1 5 8"),
        (9, None, 0.2, "4"),
        (4, None, 0.2, ""),  # rounded down
        (10, None, 0.0, ""),
        (10, 7, 0.2, "7 8 9"),  # those that are not trained on anyway
        (10, 7, 0.0, ""),
        (10, 10, 0.2, ""),
        (10, 12, 0.2, ""),
    ],
)
def test_without_a_validation_split_training_samples_are_kept_back(
    count: int, shots: int | None, hold_out: float, held: str, tmp_path: Path
) -> None:
    add(tmp_path, "bolt/train/good", *map(str, range(count)))
    split = nominal_split(tmp_path, "bolt", shots, hold_out)
    rest = [str(i) for i in range(count) if str(i) not in held.split()][:shots]
    assert (stems(split.validation), stems(split.train), split.source) == (held, " ".join(rest), "hold-out")


def test_shots_are_drawn_by_the_seed_and_keep_their_order(tmp_path: Path) -> None:
    add(tmp_path, "bolt/train/good", *map(str, range(8)))
    for hold_out in (0.0, 0.2):
        found = [nominal_split(tmp_path, "bolt", 3, hold_out, drawn_by=seed) for seed in range(40)]
        assert nominal_split(tmp_path, "bolt", 3, hold_out, drawn_by=7) == found[7]
        for split in found:
            drawn, rest = stems(split.train).split(), stems(split.validation).split()
            assert drawn == sorted(set(drawn))
            assert len(drawn) == 3
            assert rest == ([stem for stem in map(str, range(8)) if stem not in drawn] if hold_out else [])
        assert {stem for split in found for stem in stems(split.train).split()} == set(map(str, range(8)))
        assert len({stems(split.train) for split in found}) > 20  # of 56 choices
    everything = nominal_split(tmp_path, "bolt", 9, 0.2, drawn_by=1)
    assert (stems(everything.train), everything.validation) == ("0 1 2 3 4 5 6 7", [])
    assert nominal_split(tmp_path, "bolt", None, 0.2, drawn_by=1) == nominal_split(tmp_path, "bolt", None, 0.2)
