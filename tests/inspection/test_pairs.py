"""inspection/pairs.py: which files of a folder belong together, under which name."""

import os
from pathlib import Path

import pytest

from inspection.pairs import Pair, find_pairs, single_pair


def touch(folder: Path, *names: str) -> None:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).touch()


def find(folder: Path) -> tuple[list[Pair], list[str]]:
    return find_pairs(folder, folder / "out")


@pytest.mark.parametrize(
    ("rgb", "xyz", "name"),
    [
        ("a/rgb/000.png", "a/xyz/000.tiff", "a/000"),
        ("a/RGB/000.JPG", "a/Xyz/000.TIF", "a/000"),
        ("rgb/a/b/0.jpeg", "xyz/a/b/0.npy", "a/b/0"),
        ("part7.png", "part7.tiff", "part7"),
        ("7_rgb.png", "7_xyz.npy", "7"),
        ("rgb-7.png", "xyz-7.npy", "7"),
        ("7.rgb.left.png", "7.xyz.left.tif", "7.left"),
        ("day_1/7-RGB_v2.png", "day_1/7-XYZ-v2.tiff", "day_1/7-v2"),
        ("rgb/7_rgb.tiff", "xyz/7.tiff", "7"),
        ("images/rgb/7.tif", "images/7.npy", "images/7"),
        ("7.png", "xyz/7.npy", "7"),
        ("7/rgb.png", "7/xyz.tiff", "7"),
        ("rgb.png", "xyz.tiff", "sample"),
        ("rgbd_7.png", "rgbd_7.npy", "rgbd_7"),
        ("x.y/1.5 mm.png", "x.y/1.5 mm.tiff", "x.y/1.5 mm"),
    ],
)
def test_paths_that_are_equal_without_kind_and_suffix_are_a_pair(rgb: str, xyz: str, name: str, tmp_path: Path) -> None:
    touch(tmp_path, rgb, xyz)
    assert find(tmp_path) == ([Pair(name, tmp_path / rgb, tmp_path / xyz)], [])


def test_pairs_are_sorted_by_name_and_other_files_left_alone(tmp_path: Path) -> None:
    touch(tmp_path, "b.png", "b.npy", "a.png", "a.npy", "b/0.png", "b/0.npy", "README.md", "rgb/camera.json", "c.ply")
    touch(tmp_path, ".a.1234abcd.tmp.png", "~notes.txt", "d.png.part", ".git/e.png", ".git/e.npy")
    touch(tmp_path, "7_gt.png", "7_mask.png", "7.Mask.tiff")
    for folder in ("gt", "x/GT", "a/ground_truth", "calibration", "out/maps", "out/overlays"):
        touch(tmp_path, f"{folder}/000.png", f"{folder}/000.tiff")
    pairs, problems = find(tmp_path)
    assert [pair.name for pair in pairs] == ["a", "b", "b/0"]
    assert problems == []


def test_a_folder_that_is_named_like_one_that_is_left_out_can_be_given(tmp_path: Path) -> None:
    touch(tmp_path, "xyz/gt/7.png", "xyz/gt/7.npy")
    assert [pair.name for pair in find(tmp_path / "xyz/gt")[0]] == ["7"]


@pytest.mark.parametrize(
    ("names", "words"),
    [
        (["7.png"], "7.png: no cloud"),
        (["7.jpg", "7.ply"], "7.jpg: no cloud"),
        (["xyz/7.tiff"], "xyz/7.tiff: no image"),
        (["7.png", "7.jpg", "7.npy"], "7.jpg: expected one file, found 2 images of the same sample: {}/7.png"),
        (["7.png", "7.npy", "7.tiff"], "7.npy: expected one file, found 2 clouds"),
        (["7.png", "7.npy", "xyz/7.npy"], "7.npy: expected one file, found 2 clouds"),
        (["rgb/7_xyz.tiff"], "rgb/7_xyz.tiff: expected rgb or xyz in its path, found both"),
        ([f"{'7' * 210}.png"], "expected a name of at most 200 bytes"),
        (["7\x1b[31m.png"], "7?[31m.png: expected a name"),
        (["rgb_.7.png"], "rgb_.7.png: expected a name"),
        (["xyz/7.png"], None),
    ],
)
def test_what_is_no_pair_is_told_and_not_guessed(names: list[str], words: str | None, tmp_path: Path) -> None:
    touch(tmp_path, "good.png", "good.npy", *names)
    pairs, problems = find(tmp_path)
    assert [pair.name for pair in pairs] == ["good"]
    assert len(problems) == (words is not None)
    assert all(words is not None and words.format(tmp_path) in problem for problem in problems)


def test_names_that_are_no_text_are_told(tmp_path: Path) -> None:
    (tmp_path / os.fsdecode(b"\xff.png")).touch()
    pairs, problems = find(tmp_path)
    assert pairs == []
    assert problems[0].isprintable()
    assert "expected a name" in problems[0]


def test_links_are_followed_and_do_not_loop(tmp_path: Path) -> None:
    touch(tmp_path, "in/a/7.png", "elsewhere/8.npy", "files/8.png")
    (tmp_path / "in/a/7.npy").symlink_to(tmp_path / "elsewhere/8.npy")
    (tmp_path / "in/b").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "elsewhere/8.png").symlink_to(tmp_path / "files/8.png")
    (tmp_path / "in/a/back").symlink_to(tmp_path / "in")
    (tmp_path / "in/a/itself").symlink_to(tmp_path / "in/a/itself")
    (tmp_path / "in/lost.png").symlink_to(tmp_path / "nothing.png")
    pairs, problems = find(tmp_path / "in")
    assert [pair.name for pair in pairs] == ["a/7", "b/8"]
    assert problems == []


def test_the_output_is_not_looked_at_under_another_name(tmp_path: Path) -> None:
    touch(tmp_path, "in/7.png", "in/7.npy", "out/maps/7.tiff", "out/maps/7.png")
    (tmp_path / "in/link").symlink_to(tmp_path / "out")
    assert [pair.name for pair in find_pairs(tmp_path / "in", tmp_path / "out")[0]] == ["7"]


def test_pipes_are_not_taken_and_missing_folders_are_empty(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "7.png")
    touch(tmp_path, "7.npy")
    assert find(tmp_path)[0] == []
    assert find(tmp_path / "nothing") == ([], [])


def test_a_folder_that_cannot_be_read_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    touch(tmp_path, "a/7.png", "b/8.png", "b/8.npy")
    scandir = os.scandir

    def refuse(path: str) -> object:
        if Path(path).name == "a":
            raise PermissionError(13, "Permission denied", str(path))
        return scandir(path)

    monkeypatch.setattr(os, "scandir", refuse)
    pairs, problems = find(tmp_path)
    assert [pair.name for pair in pairs] == ["b/8"]
    assert problems == [f"{tmp_path}/a: cannot be read (Permission denied). Fix the permissions."]


@pytest.mark.parametrize(
    ("rgb", "name"),
    [
        ("in/rgb/000.png", "000"),
        ("7_rgb.png", "7"),
        ("rgb.png", "sample"),
        (".7.png", "sample"),
        ("\x07.png", "sample"),
    ],
)
def test_name_of_a_single_pair(rgb: str, name: str) -> None:
    assert single_pair(Path(rgb), Path("cloud.tiff")) == Pair(name, Path(rgb), Path("cloud.tiff"))
