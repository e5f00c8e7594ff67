"""Patterns: what fits, what the fields are, and messages for those that fit nothing."""

import re
from pathlib import Path

import pytest

from processing.own_data.file_patterns import Pattern, check_fields, spelled
from utils.errors import UserError


def make(root: Path, *names: str) -> None:
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).touch()


def found(root: Path, text: str) -> dict[str, dict[str, str]]:
    return {path.relative_to(root).as_posix(): fields for fields, path in Pattern("--rgb", f"{root}/{text}").find()}


def test_fields_and_star(tmp_path: Path) -> None:
    make(tmp_path, "a/train/good/1_color.png", "a/test/big_dent/2_color_v3.png", "a/train/good/1_depth.png", "b/x.png")
    assert found(tmp_path, "{class}/{split}/{defect}/{stem}_color*.png") == {
        "a/train/good/1_color.png": {"class": "a", "split": "train", "defect": "good", "stem": "1"},
        "a/test/big_dent/2_color_v3.png": {"class": "a", "split": "test", "defect": "big_dent", "stem": "2"},
    }
    assert found(tmp_path, "*/{split}/{defect}/{stem}_depth.png") == {
        "a/train/good/1_depth.png": {"split": "train", "defect": "good", "stem": "1"}
    }


def test_several_fields_in_a_name_and_one_that_comes_again(tmp_path: Path) -> None:
    make(tmp_path, "bolt/bolt-train-001.rgb.png", "bolt/nut-train-001.rgb.png", "bolt/bolt-train-.rgb.png")
    assert found(tmp_path, "{class}/{class}-{split}-{stem}.rgb.png") == {
        "bolt/bolt-train-001.rgb.png": {"class": "bolt", "split": "train", "stem": "001"}
    }


def test_a_field_holds_no_slash_and_dots_mean_themselves(tmp_path: Path) -> None:
    make(tmp_path, "a/b/1.png", "a/2.png", "a/2xpng", "3.png")
    assert set(found(tmp_path, "{class}/{stem}.png")) == {"a/2.png"}
    assert set(found(tmp_path, "*/*/{stem}.png")) == {"a/b/1.png"}


def test_hidden_files_and_folders_do_not_fit(tmp_path: Path) -> None:
    make(tmp_path, "._1.png", "1.png", ".git/2.png", "a/.3.png", "a/b.png/4.txt")
    assert set(found(tmp_path, "{stem}.png")) == {"1.png"}
    with pytest.raises(UserError, match="no file fits"):
        found(tmp_path, "{class}/{stem}.png")  # a/b.png is a folder


def test_pattern_without_fields_is_one_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    make(tmp_path, "cam.json", "scans/1.png")
    monkeypatch.chdir(tmp_path)
    assert Pattern("--intrinsics", "cam.json").find() == [({}, Path("cam.json"))]
    assert Pattern("--rgb", "scans/{stem}.png").find() == [({"stem": "1"}, Path("scans/1.png"))]
    assert Pattern("--rgb", "{class}/{stem}.png").find() == [({"class": "scans", "stem": "1"}, Path("scans/1.png"))]
    assert Pattern("--rgb", "{class}/{stem}.png").fields == ("class", "stem")


def test_tilde_is_the_home_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    make(tmp_path, "scans/1.png", "~/2.png")
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    pattern = Pattern("--rgb", "~/scans/{stem}.png")
    assert pattern.base == tmp_path / "scans"
    assert pattern.find() == [({"stem": "1"}, tmp_path / "scans/1.png")]
    assert pattern.filled({"stem": "3"}) == "~/scans/3.png"
    assert Pattern("--rgb", "*/{stem}.png").base == Path()
    assert found(tmp_path, "~/{stem}.png") == {"~/2.png": {"stem": "2"}}  # not in front: a folder's name
    with pytest.raises(UserError, match=r"--rgb '~nobody_of_that_name/{stem}.png': expected a home folder"):
        Pattern("--rgb", "~nobody_of_that_name/{stem}.png")


@pytest.mark.parametrize("text", ["{name}/{stem}.png", "{stem}/{}.png", "{stem.png", "stem}.png", "{{stem}}.png", ""])
def test_unknown_fields_and_lone_braces_are_refused(text: str) -> None:
    with pytest.raises(UserError, match=r"--rgb .*expected a path with the fields {class}, {split}, {defect}, {stem}"):
        Pattern("--rgb", text)


def test_message_shows_what_is_there(tmp_path: Path) -> None:
    make(tmp_path, *(f"scans/a/{index}.jpg" for index in range(9)), "scans/.hidden")
    with pytest.raises(UserError) as caught:
        found(tmp_path, "scans/{class}/{stem}.png")
    assert re.search(
        r"scans/{class}/{stem}.png': no file fits. Searched from .*/scans, which holds a/", str(caught.value)
    )
    assert str(caught.value).count(".jpg") == 5
    assert ".hidden" not in str(caught.value)
    with pytest.raises(UserError, match=f"Searched from the folder {tmp_path}, which holds scans/a/"):
        found(tmp_path, "elsewhere/deep/{stem}.png")


def test_filled_shows_the_file_that_is_missing() -> None:
    pattern = Pattern("--gt", "d/{split}/{stem}_*.png")
    assert pattern.filled({"split": "test", "stem": "7", "class": "a"}) == "d/test/7_*.png"


def test_spelling_is_that_of_the_layout() -> None:
    assert [spelled("split", name) for name in ("val", "Valid", "TRAIN", "test", "night")] == [
        "validation", "validation", "train", "test", "night",
    ]  # fmt: skip
    assert [spelled("defect", name) for name in ("GOOD", "ok", "Good", "Ok-ish", "val")] == [
        "good", "good", "good", "Ok-ish", "val",
    ]  # fmt: skip
    assert spelled("class", "GOOD") == "GOOD"


@pytest.mark.parametrize("field", ["class", "split", "defect", "stem"])
@pytest.mark.parametrize("value", ["..", ".a", "", "a/b", "a\\b", "a\nb", "a\x1b[2J", "a\u202eb", "\udcff"])
def test_names_that_play_tricks_are_refused(field: str, value: str) -> None:
    fields = {"class": "ä b", "split": "test", "defect": "塗装", "stem": "1.2"}
    check_fields(fields)
    with pytest.raises(UserError, match=f"{field} .*expected a plain name"):
        check_fields(fields | {field: value})


@pytest.mark.parametrize("field", ["class", "defect", "stem"])
def test_names_that_file_systems_do_not_take_are_refused(field: str) -> None:
    fields = {"class": "a", "split": "test", "defect": "b", "stem": "1"}
    for letter, most in (("x", 200), ("塗", 66)):  # bytes count
        check_fields(fields | {field: letter * most})
        with pytest.raises(UserError, match=f"{field} '{letter}{{40}}'…: expected at most 200 bytes, found 201"):
            check_fields(fields | {field: letter * (most + 1)})


def test_unknown_splits_and_defects_in_training_are_refused() -> None:
    fields = {"class": "a", "split": "train", "defect": "good", "stem": "1"}
    check_fields(fields)
    with pytest.raises(UserError, match="split 'night': expected train, validation"):
        check_fields(fields | {"split": "night"})
    for split in ("train", "validation"):
        with pytest.raises(UserError, match=f"{split} holds the defect 'dent': expected good samples only"):
            check_fields(fields | {"split": split, "defect": "dent"})
