"""Tables from result files: classes found, means, undefined figures, several runs, published figures, formats."""

import csv
import io
import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from evaluation.tables.published import load_published
from evaluation.tables.runs import METRICS, load_folders, load_runs
from evaluation.tables.tables import class_table, defect_table, means_table
from processing.aggregate_results import main
from utils.errors import UserError

ROOT = Path(__file__).resolve().parents[2]
LIMITS = ("0.3", "0.1", "0.05", "0.01")


def write_result(folder: Path, class_name: str, value: float | None, run: str = "50ep_4bs", **config: Any) -> Path:
    """A result file whose ten figures are value, value - 0.01, … value - 0.09."""
    figures = [None if value is None else value - 0.01 * i for i in range(10)]
    result: dict[str, Any] = {
        "class_name": class_name,
        "i_auroc": figures[0],
        "p_auroc": figures[1],
        "aupro": dict(zip(LIMITS, figures[2:6], strict=True)),
        "aupro_thresholds": 99,
        "aupro_exact": dict(zip(LIMITS, figures[6:], strict=True)),
        "per_defect": {"hole": {"i_auroc": 0.5, "p_auroc": 0.6, "aupro_0.3": value}},
        "samples": [],
        "config": {"method": "CFM", **config},
    }
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{class_name}_{run}.json"
    path.write_text(json.dumps(result))
    return path


def cells(text: str, row: str) -> list[list[str]]:
    """Every Markdown row with this name, split into cells."""
    lines = [[cell.strip() for cell in line.strip("|").split("|")] for line in text.splitlines() if line[:1] == "|"]
    return [line[1:] for line in lines if line[0] == row]


def test_rows_are_the_classes_found_and_the_mean_is_theirs(tmp_path: Path) -> None:
    for name, value in (("my_part", 0.9), ("Zeta", 0.7), ("gear", 0.8)):
        write_result(tmp_path, name, value)
    (run,) = load_runs(tmp_path)
    table = class_table(run)
    assert [name for name, _ in table.rows] == ["Zeta", "gear", "my_part", "mean"]
    assert table.columns == list(METRICS)
    assert table.columns[2:] == [f"{p}@{limit}%" for p in ("AUPRO", "exact") for limit in (30, 10, 5, 1)]
    for (_, figures), value in zip(table.rows, (0.7, 0.8, 0.9, 0.8), strict=True):
        assert figures == pytest.approx([value - 0.01 * i for i in range(10)])


def test_undefined_figures_are_a_dash_and_left_out_of_the_mean(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_result(tmp_path, "gear", 0.8)
    write_result(tmp_path, "cap", None)
    assert main(["--quantitative_folder", str(tmp_path)]) == 0
    text = capsys.readouterr().out
    assert cells(text, "cap")[0] == ["-"] * 10
    assert cells(text, "mean") == cells(text, "gear")
    assert "left out of the mean" in text


def test_defects_have_rows_of_their_own(tmp_path: Path) -> None:
    write_result(tmp_path, "gear", 0.8)
    (run,) = load_runs(tmp_path)
    table = defect_table(run)
    assert table.columns == ["I-AUROC", "P-AUROC", "AUPRO@30%"]
    assert table.rows == [("gear / hole", [0.5, 0.6, 0.8])]


def test_runs_with_other_settings_are_not_averaged(tmp_path: Path) -> None:
    write_result(tmp_path, "cap", 0.9)
    write_result(tmp_path, "gear", 0.7)
    write_result(tmp_path, "gear", 0.5, run="250ep_4bs")
    write_result(tmp_path, "loaf", 0.6, extractor="handcrafted")
    runs = load_runs(tmp_path)
    assert {run.name: list(run.results) for run in runs} == {
        "50ep_4bs": ["cap", "gear"],
        "250ep_4bs": ["gear"],
        "50ep_4bs, extractor handcrafted": ["loaf"],
    }
    assert [run.method for run in runs] == ["CFM"] * 3


def test_any_single_value_of_a_method_sets_runs_apart_and_objects_do_not(tmp_path: Path) -> None:
    write_result(tmp_path, "cap", 0.9, method="Own", strength=2, bank={"rows": 7})
    write_result(tmp_path, "gear", 0.7, method="Own", strength=2, bank={"rows": 8})
    write_result(tmp_path, "loaf", 0.6, method="Own", strength=3, bank={"rows": 7})
    runs = load_runs(tmp_path)
    assert {run.label: list(run.results) for run in runs} == {
        "Own 50ep_4bs, strength 2": ["cap", "gear"],
        "Own 50ep_4bs, strength 3": ["loaf"],
    }


def add_branches(path: Path, **values: float) -> Path:
    """Give a result file branches whose figures differ from its own by a constant. Returns its path."""
    result = json.loads(path.read_text())
    result["branches"] = {}
    for name, value in values.items():
        own = json.loads(write_result(path.parent / "other", "x", value).read_text())
        kept = ("aupro", "aupro_thresholds", "aupro_exact", "p_auroc", "i_auroc", "per_defect")
        result["branches"][name.replace("_", " ")] = {key: own[key] for key in kept}
    path.write_text(json.dumps(result))
    return path


def test_branches_are_runs_of_their_own_after_the_whole(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for name, value in (("foam", 0.8), ("rope", 0.9)):
        add_branches(write_result(tmp_path, name, value, method="DBMRNet"), **{"3D_only": value - 0.2})
    write_result(tmp_path, "foam", 0.7, run="9ep_4bs", method="DBMRNet")
    runs = load_runs(tmp_path)
    labels = ["DBMRNet 50ep_4bs", "DBMRNet (3D only) 50ep_4bs", "DBMRNet 9ep_4bs"]
    assert [run.label for run in runs] == labels
    assert [figures[0] for _, figures in class_table(runs[1]).rows] == pytest.approx([0.6, 0.7, 0.65])
    assert [figures[2] for _, figures in defect_table(runs[1]).rows] == pytest.approx([0.6, 0.7])
    main(["--quantitative_folder", str(tmp_path)])
    text = capsys.readouterr().out
    section = text.split("### I-AUROC on MVTec 3D-AD")[1].split("###")[0]
    published = load_published()["mvtec3d"]["i_auroc"]["DBMRNet (3D only)"]
    assert cells(section, "DBMRNet (3D only)")[0][-1] == f"{published['mean']:.3f}"
    ours = cells(section, "ours: DBMRNet (3D only) 50ep_4bs")[0]
    assert [ours[5], ours[8], ours[10]] == ["0.600", "0.700", "0.650"]


def test_a_branch_that_only_some_classes_have(tmp_path: Path) -> None:
    add_branches(write_result(tmp_path, "cap", 0.8), **{"3D_only": 0.5})
    write_result(tmp_path, "gear", 0.9)
    whole, branch = load_runs(tmp_path)
    assert list(whole.results) == ["cap", "gear"]
    assert list(branch.results) == ["cap"]


def test_folders_are_compared_by_their_means(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for name, value in (("cap", 0.9), ("gear", 0.7)):
        write_result(tmp_path / "a", name, value)
        write_result(tmp_path / "b", name, value - 0.1, method="DBMRNet", seed=0)
    main(["--quantitative_folder", str(tmp_path / "a"), str(tmp_path / "b")])
    section = capsys.readouterr().out.split("### Means over classes")[1].split("###")[0]
    assert cells(section, "run") == [list(METRICS)]
    assert cells(section, "CFM 50ep_4bs") == [[f"{0.8 - 0.01 * i:.3f}" for i in range(10)]]
    assert cells(section, "DBMRNet 50ep_4bs") == [[f"{0.7 - 0.01 * i:.3f}" for i in range(10)]]
    assert "not comparable" not in section
    main(["--quantitative_folder", str(tmp_path / "a")])
    assert "Means over classes" not in capsys.readouterr().out


def test_means_over_other_classes_are_marked(tmp_path: Path) -> None:
    for name in ("cap", "gear", "loaf"):
        write_result(tmp_path / "a", name, 0.9)
    write_result(tmp_path / "b", "gear", 0.8, run="9ep_4bs")
    table = means_table(load_folders([tmp_path / "a", tmp_path / "b"]))
    assert [(name, figures[0]) for name, figures in table.rows] == [
        ("CFM 50ep_4bs", pytest.approx(0.9)),
        ("CFM 9ep_4bs", 0.8),
    ]
    note = "CFM 9ep_4bs: without cap, loaf; its means are over 1 of 3 classes, not comparable with the others."
    assert table.notes == [note]


def test_equal_labels_in_different_folders_are_told_apart(tmp_path: Path) -> None:
    a, b = tmp_path / "a", tmp_path / "b"
    write_result(a, "gear", 0.9)
    write_result(b, "gear", 0.8)
    write_result(b, "gear", 0.7, run="9ep_4bs")
    runs = load_folders([a, b, a])
    assert [run.label for run in runs] == [f"CFM 50ep_4bs, {a}", f"CFM 50ep_4bs, {b}", "CFM 9ep_4bs"]
    assert [run.results["gear"]["i_auroc"] for run in runs] == [0.9, 0.8, 0.7]
    assert [run.name for run in load_folders([a])] == ["50ep_4bs"]


@pytest.mark.parametrize("setting", ["preset", "fusion", "score", "checkpoint"])
def test_settings_of_two_branch_methods_set_runs_apart(setting: str, tmp_path: Path) -> None:
    write_result(tmp_path, "cap", 0.9, **{setting: "one"})
    write_result(tmp_path, "gear", 0.9, **{setting: "two"})
    assert [run.name for run in load_runs(tmp_path)] == [f"50ep_4bs, {setting} one", f"50ep_4bs, {setting} two"]


def test_settings_that_all_runs_share_are_not_in_their_names(tmp_path: Path) -> None:
    write_result(tmp_path, "cap", 0.9, extractor="handcrafted", seed=0)
    write_result(tmp_path, "gear", 0.9, extractor="handcrafted", seed=1)
    assert [run.name for run in load_runs(tmp_path)] == ["50ep_4bs, seed 0", "50ep_4bs, seed 1"]


def test_published_figures_stand_beside_ours(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    published = load_published()["mvtec3d"]
    for i, name in enumerate(published["classes"]):
        write_result(tmp_path, name, 0.9 + 0.01 * i)
    main(["--quantitative_folder", str(tmp_path)])
    text = capsys.readouterr().out
    for heading, key, offset in (("I-AUROC", "i_auroc", 0.0), ("AUPRO@30%", "aupro_0.3", 0.02)):
        section = text.split(f"### {heading} on MVTec 3D-AD")[1].split("###")[0]
        assert cells(section, "method") == [[*published["classes"], "mean"]]
        m3dm = published[key]["M3DM"]
        assert cells(section, "M3DM (secondary)") == [[f"{v:.3f}" for v in [*m3dm["per_class"], m3dm["mean"]]]]
        ours = [0.9 + 0.01 * i - offset for i in range(10)]
        assert cells(section, "ours: CFM 50ep_4bs") == [[f"{v:.3f}" for v in [*ours, sum(ours) / 10]]]
        assert m3dm["source"] in section
        assert cells(section, "DBMRNet"), "read: without a mark"
        assert "secondary: read where others quote it" in section
    assert "not comparable" not in text


def test_missing_classes_of_a_benchmark_are_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for name in load_published()["eyecandies"]["classes"][2:]:
        write_result(tmp_path, name, 0.9)
    main(["--quantitative_folder", str(tmp_path)])
    text = capsys.readouterr().out
    assert "no figure for CandyCane, ChocolateCookie; the mean is over 8 of 10 classes, not comparable" in text
    assert cells(text.split("AUPRO@1% on Eyecandies")[1], "ours: CFM 50ep_4bs")[0][:3] == ["-", "-", "0.850"]


@pytest.mark.parametrize(
    ("classes", "dataset", "shown"),
    [
        (["rope", "gear"], "auto", False),
        (["rope"], "auto", True),
        (["rope"], "none", False),
        (["rope", "gear"], "mvtec3d", True),
    ],
)
def test_choice_of_the_benchmark(
    classes: list[str], dataset: str, shown: bool, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in classes:
        write_result(tmp_path, name, 0.9)
    main(["--quantitative_folder", str(tmp_path), "--dataset", dataset])
    assert ("M3DM" in capsys.readouterr().out) == shown


def test_refuses_a_benchmark_without_any_of_its_classes(tmp_path: Path) -> None:
    write_result(tmp_path, "gear", 0.9)
    with pytest.raises(UserError, match=r"none of the classes found \(gear\)"):
        main(["--quantitative_folder", str(tmp_path), "--dataset", "eyecandies"])


def test_csv_holds_every_figure_in_full(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_result(tmp_path, "gear", 1 / 3)
    write_result(tmp_path, "cap", None)
    main(["--quantitative_folder", str(tmp_path), "--format", "csv"])
    rows = list(csv.DictReader(io.StringIO(capsys.readouterr().out)))
    assert len(rows) == 3 * 10 + 2 * 3
    by_cell = {(row["row"], row["column"]): row["value"] for row in rows}
    assert float(by_cell["gear", "I-AUROC"]) == 1 / 3
    assert float(by_cell["mean", "exact@1%"]) == 1 / 3 - 0.09
    assert by_cell["cap", "P-AUROC"] == ""


def test_latex_escapes_names_and_has_one_column_a_figure(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_result(tmp_path, "cable_x", 0.9)
    main(["--quantitative_folder", str(tmp_path), "--format", "latex"])
    text = capsys.readouterr().out
    assert r"cable\_x & 0.900 & 0.890 & 0.880" in text
    assert r"AUPRO@30\%" in text
    body = text.split(r"\end{tabular}")[0].splitlines()
    assert {line.count("&") for line in body if line.endswith(r"\\")} == {10}
    assert rf"\begin{{tabular}}{{l{'r' * 10}}}" in body


def test_output_file_holds_what_is_printed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_result(tmp_path / "q", "gear", 0.9)
    main(["--quantitative_folder", str(tmp_path / "q"), "--output", str(tmp_path / "new" / "table.md")])
    assert (tmp_path / "new" / "table.md").read_text() == capsys.readouterr().out


def test_a_page_beside_the_table_of_means(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for kind, value in (("a", 0.9), ("b", 0.8)):
        write_result(tmp_path / kind, "gear", value, extractor=kind)
    page = tmp_path / "new" / "page.html"
    folders = [str(tmp_path / kind) for kind in "ab"]
    assert main(["--quantitative_folder", *folders, "--format", "html", "--output", str(page)]) == 0
    text = capsys.readouterr().out
    assert [cells(text, f"CFM 50ep_4bs, {folder}")[0][0] for folder in folders] == ["0.900", "0.800"]
    assert text.splitlines()[-1] == f"page: {page}"
    assert text.count("###") == 1
    html = page.read_text(encoding="utf-8")
    assert html.startswith("<!doctype html>")
    assert all(f"CFM 50ep_4bs, {folder}</th>" in html for folder in folders)


def test_a_page_needs_a_file_and_sound_results(tmp_path: Path) -> None:
    command = ["--quantitative_folder", str(tmp_path / "q"), "--format", "html"]
    with pytest.raises(UserError, match=r"--format html: expected --output .* for example --output comparison\.html"):
        main(command)
    path = write_result(tmp_path / "q", "gear", 0.9)
    output = ["--output", str(tmp_path / "page.html")]
    with pytest.raises(UserError, match="--dataset eyecandies: none of the classes"):
        main([*command, *output, "--dataset", "eyecandies"])
    path.write_text(path.read_text().replace('"samples": []', '"samples": "none"'))
    with pytest.raises(UserError, match=r"gear_50ep_4bs\.json: damaged, its samples"):
        main([*command, *output])
    assert [entry.name for entry in tmp_path.iterdir()] == ["q"]


def test_a_run_knows_its_files(tmp_path: Path) -> None:
    path = add_branches(write_result(tmp_path, "cap", 0.8, seed=3), **{"3D_only": 0.5})
    whole, branch = load_runs(tmp_path)
    assert (whole.branch, branch.branch) == ("", "3D only")
    for run in (whole, branch):
        assert run.files["cap"].path == path
        assert run.files["cap"].content["config"]["seed"] == 3
    assert whole.results["cap"] is whole.files["cap"].content


def test_other_json_files_are_left_alone(tmp_path: Path) -> None:
    write_result(tmp_path, "gear", 0.9)
    (tmp_path / "settings.json").write_text("not JSON")
    assert list(load_runs(tmp_path)[0].results) == ["gear"]


def test_refusals_name_the_file(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="absent: expected a folder"):
        load_runs(tmp_path / "absent")
    with pytest.raises(UserError, match=r"CLASS_\{EPOCHS\}ep_\{BATCH\}bs\.json, found none"):
        load_runs(tmp_path)
    path = write_result(tmp_path, "gear", 0.9)
    path.rename(tmp_path / "cap_50ep_4bs.json")
    with pytest.raises(UserError, match=r"cap_50ep_4bs\.json: results of class gear"):
        load_runs(tmp_path)
    (tmp_path / "cap_50ep_4bs.json").write_text('{"class_name": "cap"')
    with pytest.raises(UserError, match=r"cap_50ep_4bs\.json: cannot be read .* Run the evaluation of this"):
        load_runs(tmp_path)
    (tmp_path / "cap_50ep_4bs.json").write_text('{"class_name": "cap"}')
    with pytest.raises(UserError, match=r"cap_50ep_4bs\.json: cannot be read .*the file is without aupro, "):
        load_runs(tmp_path)
    add_branches(write_result(tmp_path, "cap", 0.9), **{"3D_only": 0.5})
    text = (tmp_path / "cap_50ep_4bs.json").read_text()
    (tmp_path / "cap_50ep_4bs.json").write_text('"per_defects"'.join(text.rsplit('"per_defect"', 1)))
    with pytest.raises(UserError, match=r"cap_50ep_4bs\.json: cannot be read .*3D only is without per_defect\)"):
        load_runs(tmp_path)
    (tmp_path / "cap_50ep_4bs.json").write_text(re.sub(r'("p_auroc": )[0-9.]+', r'\1"high"', text, count=1))
    with pytest.raises(UserError, match=r"cap_50ep_4bs\.json: cannot be read \(ValueError: expected numbers .* 'high'"):
        load_runs(tmp_path)


@pytest.mark.parametrize("dataset", ["mvtec3d", "eyecandies"])
def test_published_means_are_those_of_their_classes(dataset: str) -> None:
    published = load_published()[dataset]
    figures = [f for key, methods in published.items() if isinstance(methods, dict) for f in methods.values()]
    complete = [f for f in figures if f["per_class"]]
    assert complete
    assert all(len(f["per_class"]) == len(published["classes"]) == 10 and f["source"] for f in complete)
    assert all(f["mean"] == pytest.approx(sum(f["per_class"]) / 10, abs=1.1e-3) for f in complete)


def test_command_line_prints_errors_without_a_traceback_and_loads_no_heavy_package(tmp_path: Path) -> None:
    command = [sys.executable, "-X", "importtime", "processing/aggregate_results.py"]
    done = subprocess.run(
        [*command, "--quantitative_folder", str(tmp_path)], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 2
    assert f"error: {tmp_path}: expected result files" in done.stderr
    assert "Traceback" not in done.stderr
    assert not any(f"| {name}" in done.stderr for name in ("torch", "numpy", "pandas", "matplotlib"))
