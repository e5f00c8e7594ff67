"""models/checkpoints.py: which run a path means."""

from pathlib import Path

import pytest

from models.checkpoints import find_run
from models.method import TrainedRun
from utils.checkpoint import CheckpointName
from utils.errors import UserError


def make(folder: Path, *names: str) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for name in names:
        (folder / name).touch()
    return folder


CFM = ("CFM_2Dto3D_cap_5ep_4bs.pth", "CFM_3Dto2D_cap_5ep_4bs.pth", "CFM_cap_5ep_4bs.json", "CFM_cap_5ep_4bs.jsonl")
DBMRNET = ("DBMRNet_cap_9ep_8bs.safetensors", "DBMRNet_best_cap_9ep_8bs.safetensors", "DBMRNet_cap_9ep_8bs.json")


@pytest.mark.parametrize(
    ("names", "method", "epochs", "batch"), [(CFM, "CFM", 5, 4), (CFM[:2], "CFM", 5, 4), (DBMRNET, "DBMRNet", 9, 8)]
)
def test_a_folder_with_one_run(names: tuple[str, ...], method: str, epochs: int, batch: int, tmp_path: Path) -> None:
    folder = make(tmp_path / "cap", *names, "notes.txt", "CFM_other_5ep_4bs.json")
    assert find_run(folder) == TrainedRun(method, CheckpointName(tmp_path, "cap", epochs, batch))


@pytest.mark.parametrize("name", CFM)
def test_any_file_of_a_run(name: str, tmp_path: Path) -> None:
    make(tmp_path / "cap", *CFM, *DBMRNET)
    assert find_run(tmp_path / "cap" / name) == TrainedRun("CFM", CheckpointName(tmp_path, "cap", 5, 4))


def test_best_weights_are_meant_by_their_file(tmp_path: Path) -> None:
    folder = make(tmp_path / "cap", *DBMRNET)
    assert [find_run(folder / name).best for name in DBMRNET] == [False, True, False]
    assert str(find_run(folder / DBMRNET[1])) == "DBMRNet cap 9ep_8bs (best)"


def test_class_names_may_hold_underscores_and_paths_be_relative(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make(tmp_path / "cable_gland_2", "CFM_2Dto3D_cable_gland_2_50ep_4bs.pth")
    monkeypatch.chdir(tmp_path / "cable_gland_2")
    for path in (Path(), Path("CFM_2Dto3D_cable_gland_2_50ep_4bs.pth")):
        assert find_run(path) == TrainedRun("CFM", CheckpointName(tmp_path, "cable_gland_2", 50, 4))


@pytest.mark.parametrize("class_name", ["best_gear", "extractor_2", "2Dto3D_cap", "thresholds_x"])
def test_class_names_may_look_like_parts(class_name: str, tmp_path: Path) -> None:
    folder = make(tmp_path / class_name, f"CFM_2Dto3D_{class_name}_5ep_4bs.pth", f"CFM_{class_name}_5ep_4bs.json")
    assert find_run(folder) == TrainedRun("CFM", CheckpointName(tmp_path, class_name, 5, 4))


def test_what_means_no_single_run_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"holds 2 runs \(CFM cap 5ep_4bs, DBMRNet cap 9ep_8bs\)\. Name a file"):
        find_run(make(tmp_path / "cap", *CFM, *DBMRNET))
    with pytest.raises(UserError, match="expected the checkpoint of a class"):
        find_run(make(tmp_path / "empty", "notes.txt"))
    with pytest.raises(UserError, match="no such file"):
        find_run(tmp_path / "cap/CFM_cap_6ep_4bs.json")
    with pytest.raises(UserError, match="not named like one"):
        find_run(make(tmp_path / "other", CFM[0], "CFM_other_5ep_4bs.json") / "CFM_other_5ep_4bs.json")


BEST_GEAR = tuple(name.replace("cap", "best_gear") for name in DBMRNET)


@pytest.mark.parametrize("folder", ["line3", "cap_2", "gear", "best", "best_best_gear", "DBMRNet_best_gear_9ep_8bs"])
@pytest.mark.parametrize(
    ("names", "method", "class_name", "epochs", "batch"),
    [
        (CFM, "CFM", "cap", 5, 4),
        (CFM[:2], "CFM", "cap", 5, 4),
        (("CFM_3Dto2D_cable_gland_2_50ep_4bs.pth",), "CFM", "cable_gland_2", 50, 4),
        (("CFM_2Dto3D_2Dto3D_cap_5ep_4bs.pth", "CFM_2Dto3D_cap_5ep_4bs.json"), "CFM", "2Dto3D_cap", 5, 4),
        (("CFM_2Dto3D_7ep_2bs_5ep_4bs.pth", "CFM_7ep_2bs_5ep_4bs.json"), "CFM", "7ep_2bs", 5, 4),
        (DBMRNET, "DBMRNet", "cap", 9, 8),
        ((*BEST_GEAR, "DBMRNet_best_thresholds_best_gear_9ep_8bs.json"), "DBMRNet", "best_gear", 9, 8),
        ((*DBMRNET[::2], "DBMRNet_thresholds_cap_9ep_8bs.json"), "DBMRNet", "cap", 9, 8),
    ],
)
def test_a_folder_may_be_renamed(
    folder: str, names: tuple[str, ...], method: str, class_name: str, epochs: int, batch: int, tmp_path: Path
) -> None:
    place = make(tmp_path / folder, *names)
    run = find_run(place)
    assert run == TrainedRun(method, CheckpointName(tmp_path, class_name, epochs, batch, place))
    for name in names:
        found = find_run(place / name)
        assert (found.method, found.name) == (run.method, run.name)
        assert found.best == name.replace(class_name, "CLASS").startswith("DBMRNet_best")
    files = {
        run.name.path(part, suffix)
        for part in ("CFM_2Dto3D", "CFM_3Dto2D", "DBMRNet")
        for suffix in (".pth", ".json", ".safetensors")
    }
    assert files & set(place.iterdir())


def test_the_class_that_a_folder_is_named_after_comes_first(tmp_path: Path) -> None:
    place = make(tmp_path / "cap", *CFM, "CFM_2Dto3D_other_5ep_4bs.pth")
    assert find_run(place) == TrainedRun("CFM", CheckpointName(tmp_path, "cap", 5, 4))
    assert find_run(place / "CFM_2Dto3D_other_5ep_4bs.pth").name.class_name == "other"


def test_several_classes_in_one_folder_are_several_runs(tmp_path: Path) -> None:
    place = make(tmp_path / "all", *CFM, *(name.replace("cap", "best_cap") for name in CFM), *BEST_GEAR)
    with pytest.raises(UserError, match=r"3 runs \(CFM best_cap 5ep_4bs, CFM cap 5ep_4bs, DBMRNet best_gear 9ep_8bs\)"):
        find_run(place)
    for name, class_name in (
        (CFM[0], "cap"),
        (CFM[2].replace("cap", "best_cap"), "best_cap"),
        (BEST_GEAR[2], "best_gear"),
    ):
        assert find_run(place / name).name.class_name == class_name
