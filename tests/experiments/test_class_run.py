"""experiments/class_run.py: predictions of detector and branches, saved maps, figures with more panels."""

import json
import sys
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import tifffile
import torch

from evaluation.results import evaluate
from evaluation.tables.runs import load_runs
from evaluation.tables.tables import class_table
from evaluation.thresholds import NominalScores
from experiments.class_run import ClassRun, picture_names, reserved
from models.anomaly_map import AnomalyMap, make_anomaly_map
from utils.errors import UserError

SIDE = 24
IMAGE = np.zeros((SIDE, SIDE, 3), np.uint8)
XYZ = np.full((SIDE, SIDE, 3), 0.5, np.float32)


def maps(gt: np.ndarray, generator: torch.Generator) -> dict[str, AnomalyMap]:
    """A detector that sees the defect in 3D only."""
    psi_2d = torch.rand(SIDE, SIDE, generator=generator)
    psi_3d = torch.rand(SIDE, SIDE, generator=generator) + 2 * torch.from_numpy(gt)
    return {kind: make_anomaly_map(psi_2d, psi_3d, kind) for kind in ("sum", "2d", "3d")}


def collect(run: ClassRun, panels: bool = False) -> list[dict[str, AnomalyMap]]:
    """Add three good and three defective images; their maps."""
    generator, added = torch.Generator().manual_seed(0), []
    for i in range(6):
        gt = np.zeros((SIDE, SIDE), bool)
        gt[8:14, 4 + i : 10 + i] = i >= 3
        found = maps(gt, generator)
        branches = {"2D only": found["2d"], "3D only": found["3d"]}
        extra = {"reconstruction": np.full_like(IMAGE, i)} if panels else None
        where = "good" if i < 3 else "hole", f"{i:03d}"
        run.add(*where, IMAGE, XYZ, gt, found["sum"], 0.5 * i, branches=branches, extra=extra)
        added.append(found)
    return added


def test_branches_are_predictions_of_their_own(tmp_path: Path) -> None:
    run = ClassRun("gear", tmp_path, with_pictures=False)
    added = collect(run)
    assert list(run.branches) == ["2D only", "3D only"]
    kinds = (("sum", run.predictions), ("2d", run.branches["2D only"]), ("3d", run.branches["3D only"]))
    for kind, predictions in kinds:
        assert [(p.defect, p.stem) for p in predictions] == [(p.defect, p.stem) for p in run.predictions]
        for p, found, whole in zip(predictions, added, run.predictions, strict=True):
            assert p.image_score == found[kind].image_score()
            assert p.raw_max == float(found[kind].smoothed.max())
            assert np.array_equal(p.aupro_map, found[kind].aupro_map().numpy())
            assert np.array_equal(p.pixel_map, found[kind].pixel_map().numpy())
            assert (p.gt is whole.gt, p.seconds) == (True, whole.seconds)
    saved = tifffile.imread(tmp_path / "gear/test/hole/004.tiff")
    assert np.array_equal(saved, added[4]["sum"].aupro_map().numpy())
    seen, unseen = evaluate(run.branches["3D only"]), evaluate(run.branches["2D only"])
    assert seen["i_auroc"] == 1.0 > unseen["i_auroc"]
    assert run.timing()["seconds_per_image_median"] == 1.25


def test_without_plotly_only_the_report_is_left_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "plotly", None)  # importing it fails
    monkeypatch.setitem(sys.modules, "plotly.offline", None)
    run = ClassRun("gear", None, with_pictures=False)
    collect(run)
    path = run.write_results(tmp_path, 2, 4, {"method": "x"}, "cpu")
    assert json.loads(path.read_text())["config"] == {"method": "x"}
    assert path.with_suffix(".md").exists()
    assert not list(tmp_path.rglob("*.html"))
    assert "the report is left out, a package is missing" in capsys.readouterr().err


def test_another_map_can_be_saved(tmp_path: Path) -> None:
    run = ClassRun("gear", tmp_path, with_pictures=False)
    found = maps(np.zeros((SIDE, SIDE), bool), torch.Generator().manual_seed(0))["sum"]
    large = np.arange(30 * 50, dtype=np.float32).reshape(30, 50)
    run.add("good", "000", IMAGE, XYZ, np.zeros((SIDE, SIDE), bool), found, 0.25, saved=large)
    assert np.array_equal(tifffile.imread(tmp_path / "gear/test/good/000.tiff"), large)
    assert np.array_equal(run.predictions[0].aupro_map, found.aupro_map().numpy())


def test_methods_without_branches_and_panels() -> None:
    run = ClassRun("gear", None, with_pictures=False)
    found = maps(np.zeros((SIDE, SIDE), bool), torch.Generator().manual_seed(0))["sum"]
    run.add("good", "000", IMAGE, XYZ, np.zeros((SIDE, SIDE), bool), found, 0.25)
    assert len(run.predictions) == 1
    assert run.branches == {}
    assert run.panels == [{}]


def test_results_come_with_thresholds_and_a_report(tmp_path: Path) -> None:
    """Three good images, three with a defect; at half of the largest score of the good ones, which are false alarms."""
    run = ClassRun("gear", None, with_pictures=False)
    collect(run)
    highest = max(p.raw_max for p in run.predictions if not p.label)
    scores = NominalScores("validation", {}, "", [0.5 * highest], [0.2], [0.1])
    run.thresholds = scores.thresholds(0.5)
    path = run.write_results(tmp_path, 5, 2, {"method": "M"}, "cpu")
    result = json.loads(path.read_text())
    assert result["thresholds"] == run.thresholds.as_json()
    assert [sample["raw_max"] for sample in result["samples"]] == [p.raw_max for p in run.predictions]
    page = (tmp_path / "gear_5ep_2bs/report.html").read_text()
    assert run.thresholds.statement() in page
    assert all(f"{i:03d}" in page for i in range(6))


def test_without_thresholds_the_result_file_has_none(tmp_path: Path) -> None:
    run = ClassRun("gear", None, with_pictures=False)
    collect(run)
    path = run.write_results(tmp_path, 5, 2, {}, "cpu")
    assert "thresholds" not in json.loads(path.read_text())
    assert "calibrate.py" in (tmp_path / "gear_5ep_2bs/report.html").read_text()


def test_without_masks_figures_of_images_are_kept(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = ClassRun("gear", None, with_pictures=True)
    collect(run)
    known = json.loads(run.write_results(tmp_path / "known", 5, 2, {}, "cpu").read_text())
    assert "masks" not in capsys.readouterr().out
    for all_of in (run.predictions, *run.branches.values()):
        all_of[:] = [replace(p, gt=None) if p.label else p for p in all_of]
    run.samples = [replace(s, prediction=p) for s, p in zip(run.samples, run.predictions, strict=True)]
    path = run.write_results(tmp_path, 5, 2, {}, "cpu")
    assert capsys.readouterr().out == "note: gear: its defects have no masks, only figures of images are computed\n"
    result = json.loads(path.read_text())
    assert (result["i_auroc"], result["p_auroc"]) == (known["i_auroc"], None)
    assert (
        path.with_suffix(".md").read_text().splitlines()[2] == f"nan & nan & nan & nan & nan & {known['i_auroc']:.3f}"
    )
    row = class_table(load_runs(tmp_path)[0])
    assert row.rows[0][1] == [known["i_auroc"], *[None] * 9]
    assert "or no masks" in row.notes[-1]
    run.samples, run.panels, run.predictions = run.samples[-1:], run.panels[-1:], run.predictions[-1:]
    run.write_pictures(tmp_path / "pictures", show=False)
    assert (tmp_path / "pictures/gear/hole_005.png").is_file()


@pytest.mark.parametrize("panels", [False, True])
def test_figures_get_the_panels_of_their_image(panels: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    drawn: dict[str, dict[str, Any]] = {}

    def save(self: Any, path: Path, item: Any, extra: Mapping[str, np.ndarray]) -> None:
        drawn[path.relative_to(tmp_path).as_posix()] = {name: int(values.max()) for name, values in extra.items()}

    monkeypatch.setattr("report.figures.panels.QualitativeFigure.save", save)
    monkeypatch.setattr("report.figures.contact_sheet.save_contact_sheet", lambda *_: None)
    run = ClassRun("gear", None, with_pictures=True)
    collect(run, panels)
    run.write_pictures(tmp_path, show=False)
    names = [f"gear/{'good' if i < 3 else 'hole'}_{i:03d}.png" for i in range(6)]
    assert drawn == {name: {"reconstruction": i} if panels else {} for i, name in enumerate(names)}


def test_panels_are_drawn(tmp_path: Path) -> None:
    run = ClassRun("gear", None, with_pictures=True)
    collect(run, panels=True)
    run.samples, run.panels, run.predictions = run.samples[:1], run.panels[:1], run.predictions[:1]
    run.write_pictures(tmp_path, show=False)
    figures = sorted(path.relative_to(tmp_path).as_posix() for path in tmp_path.rglob("*.png"))
    assert figures == ["gear/good_000.png", "gear_contact_sheet.png"]


def images(*names: str) -> list[Any]:
    return [SimpleNamespace(defect=name.split("/")[0], stem=name.split("/")[1]) for name in names]


def test_every_image_has_a_picture_of_its_own() -> None:
    found = picture_names(images("good/000", "cut/deep_000", "cut_deep/000", "cut/deep_000_2", "CUT/DEEP_000"))
    assert found == ["good_000", "cut_deep_000", "cut_deep_000_2", "cut_deep_000_2_2", "CUT_DEEP_000_3"]


def test_pictures_of_two_images_with_one_name_are_both_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("report.figures.panels.QualitativeFigure.save", lambda self, path, *_: path.touch())
    monkeypatch.setattr("report.figures.contact_sheet.save_contact_sheet", lambda *_: None)
    run, generator = ClassRun("gear", None, with_pictures=True), torch.Generator().manual_seed(0)
    gt = np.zeros((SIDE, SIDE), bool)
    gt[3:6, 3:6] = True
    for defect, stem in (("cut", "deep_000"), ("cut_deep", "000")):
        run.add(defect, stem, IMAGE, XYZ, gt, maps(gt, generator)["sum"], 0.1)
    (tmp_path / "gear").mkdir()
    run.write_pictures(tmp_path, show=False)
    assert sorted(path.name for path in (tmp_path / "gear").iterdir()) == ["cut_deep_000.png", "cut_deep_000_2.png"]


def test_names_are_checked_before_work_begins(tmp_path: Path) -> None:
    def start(class_name: str, image: str, pictures: Path | None = None, maps: Path | None = None) -> None:
        with reserved(class_name, 5, 2, images(image), tmp_path / "q", pictures, maps):
            raise AssertionError("reached")

    fitting = f"good/{'x' * 250}"
    for arguments in (("gear", fitting), ("gear", fitting, None, tmp_path / "m"), ("gear", fitting[:-4], tmp_path)):
        with pytest.raises(AssertionError, match="reached"):
            start(*arguments)
    assert list(tmp_path.iterdir()) == []
    for arguments, name in (
        (("gear", fitting, tmp_path), r"good_x{250}\.png"),
        (("gear", fitting + "x", None, tmp_path / "m"), r"x{251}\.tiff"),
        (("g" * 250, "good/000"), r"g{250}_5ep_2bs\.json"),
    ):
        with pytest.raises(UserError, match=f"{name}: cannot be written"):
            start(*arguments)
    assert list(tmp_path.iterdir()) == []


def test_two_evaluations_do_not_write_the_same_files(tmp_path: Path) -> None:
    q, pictures, saved = (tmp_path / name for name in ("q", "p", "m"))
    one = images("good/000")
    with reserved("gear", 5, 2, one, q, pictures, saved):
        for other, what in (
            (("gear", 5, 2, one, q, None, None), "q/gear_5ep_2bs"),
            (("gear", 6, 2, one, q, pictures, None), "p/gear"),
            (("gear", 6, 2, one, q, None, saved), "m/gear"),
        ):
            with pytest.raises(UserError, match=f"{what}: another command is writing"), reserved(*other):
                raise AssertionError("not reached")
        with reserved("gear", 6, 2, one, q, None, None), reserved("cap", 5, 2, one, q, pictures, saved):
            pass
    with reserved("gear", 5, 2, one, q, q, q):  # one folder for all
        pass
