"""evaluation/tables/sweeps.py and paired.py: means, published figures, differences, intervals, costs."""

from pathlib import Path
from typing import Any

import pytest
from scipy import stats

from evaluation.tables.paired import differences, interval, paired_table
from evaluation.tables.published import load_published
from evaluation.tables.runs import Run, load_runs
from evaluation.tables.sweeps import Row, position, sweep_tables
from evaluation.tables.tables import Table
from tests.report.comparison_files import write

MVTEC = load_published()["mvtec3d"]


def run_of(folder: Path, figures: dict[str, float | None], **config: Any) -> Run:
    """A run with these I-AUROCs by class; the other metrics are lower by 0.01, 0.02, …"""
    parts = config.pop("parts", None)
    for name, value in figures.items():
        write(folder, name, value, parts=parts, **config)
    [run] = load_runs(folder)
    return run


def row_of(folder: Path, label: str, seeds: dict[str, dict[str, float | None]], **more: Any) -> Row:
    settings = more.pop("settings", {"variant": label})
    published = more.pop("published", "")
    runs = {seed: run_of(folder / label / seed, figures, **more) for seed, figures in seeds.items()}
    return Row(label, settings, runs, published=published)


def figures(table: Table, label: str) -> list[float | None]:
    return next(values for name, values in table.rows if name == label)


def test_means_over_classes_then_seeds_beside_published_ones(tmp_path: Path) -> None:
    bagel, rope = (MVTEC["i_auroc"]["DBMRNet"]["per_class"][MVTEC["classes"].index(name)] for name in ("bagel", "rope"))
    ours = row_of(
        tmp_path, "ours", {"0": {"bagel": 0.8, "rope": 0.6}, "1": {"bagel": 0.9, "rope": 0.6}}, published="DBMRNet"
    )
    tables = sweep_tables("T", [ours], "variant", MVTEC, ["said by the grid"])
    means, per_class = tables[0], tables[1]
    assert means.columns == ["I-AUROC", "P-AUROC", "AUPRO@30%", "AUPRO@1%", "seeds"]
    assert figures(means, "ours") == pytest.approx([0.725, 0.715, 0.705, 0.675, 2])
    assert means.deviations[0][:2] == pytest.approx([0.05 / 2**0.5, 0.05 / 2**0.5])
    assert means.rows[1][0] == "published: DBMRNet"
    theirs = (bagel + rope) / 2  # over the classes of the row, not over all ten
    assert [means.rows[1][1][0], means.rows[2][1][0]] == pytest.approx([theirs, 0.725 - theirs])
    assert means.rows[1][1][1] is None  # its P-AUROC is not published
    assert "said by the grid" in means.notes
    assert per_class.title == "T: I-AUROC"
    assert per_class.columns == ["bagel", "rope", "mean"]
    assert figures(per_class, "ours") == pytest.approx([0.85, 0.6, 0.725])
    assert figures(per_class, "difference") == pytest.approx([0.85 - bagel, 0.6 - rope, 0.725 - theirs])
    assert [table.title for table in tables[1:5]] == [f"T: {name}" for name in means.columns[:4]]


def test_a_published_mean_stands_beside_all_classes_only_and_with_its_mark(tmp_path: Path) -> None:
    all_classes: dict[str, float | None] = dict.fromkeys(MVTEC["classes"], 0.9)
    whole = row_of(tmp_path, "whole", {"0": all_classes}, published="CFM")
    part = row_of(tmp_path, "part", {"0": {"bagel": 0.9}}, published="CFM")
    [table, *_] = sweep_tables("T", [whole, part], "", MVTEC)
    assert [name for name, _ in table.rows] == [
        *("whole", "published: CFM (secondary)", "difference"),
        *("part", "published: CFM (secondary)", "difference"),
    ]
    assert table.rows[1][1][0] == 0.954
    assert table.rows[2][1][0] == pytest.approx(0.9 - 0.954)
    assert table.rows[4][1][0] is None
    assert table.rows[5][1][0] is None
    assert any("secondary: read where others quote it" in note for note in table.notes)


def test_differences_are_paired_by_seed_and_class(tmp_path: Path) -> None:
    one = {str(s): run_of(tmp_path / f"a{s}", {"cap": 0.8 + 0.02 * s, "gear": 0.5}, seed=s) for s in range(3)}
    other = {str(s): run_of(tmp_path / f"b{s}", {"cap": 0.7 + 0.01 * s, "nut": 0.1}, seed=s) for s in (1, 2, 3)}
    assert differences(one, other, "I-AUROC") == pytest.approx([0.11, 0.12])
    half = float(stats.t.ppf(0.975, 1)) * 0.01 / 2**0.5 / 2**0.5
    assert interval([0.11, 0.12]) == pytest.approx((0.115 - half, 0.115 + half))
    assert half == pytest.approx(12.7062 * 0.005, rel=1e-4)  # Student's t of one degree of freedom, from tables
    assert interval([0.1]) == (None, None)
    table = paired_table("T", [("a - b", one, other)])
    assert table.rows[0][0] == "a - b: I-AUROC"
    assert table.rows[0][1] == pytest.approx([0.115, 0.115 - half, 0.115 + half, 2])
    assert table.deviations[0][0] == pytest.approx(0.01 / 2**0.5)


def test_pairs_differ_in_the_compared_setting_alone(tmp_path: Path) -> None:
    rows = [
        row_of(tmp_path, f"{variant} {shots}", {"0": {"cap": value}}, settings={"variant": variant, "shots": shots})
        for variant, shots, value in (("a", "5", 0.5), ("a", "10", 0.6), ("b", "5", 0.7), ("b", "50", 0.9))
    ]
    [table] = [table for table in sweep_tables("T", rows, "variant", None) if "differences" in table.title]
    assert [name for name, _ in table.rows][::3] == ["b - a, shots 5: I-AUROC"]
    assert table.rows[0][1] == pytest.approx([0.2, None, None, 1])
    [table] = [table for table in sweep_tables("T", rows, "shots", None) if "differences" in table.title]
    assert [name for name, _ in table.rows][::3] == ["10 - 5, variant a: I-AUROC", "50 - 5, variant b: I-AUROC"]
    assert not any("differences" in table.title for table in sweep_tables("T", rows[:1], "variant", None))


def test_cost_of_an_image_and_of_a_training(tmp_path: Path) -> None:
    timing = {"seconds_per_image_median": 0.25, "timed": "all of it", "device": "cpu"}
    timing |= {
        "peak_mib": {"process": 900.4, "gpu": None},
        "weights_mb": 2.5,
        "machine": {"cpu": "Z80", "cores": 2, "gpu": None},
    }
    training = {"seconds": {"extraction": 3.0, "training": 9.5}, "images": 5}
    row = row_of(tmp_path, "new", {"0": {"cap": 0.5}}, parts={"timing": timing}, training=training)
    old = row_of(tmp_path, "old", {"0": {"cap": 0.5}})
    table = sweep_tables("T", [row, old], "", None)[-1]
    assert table.columns == ["s an image", "images a s", "peak MiB", "GPU MiB", "training s", "weights MB"]
    assert table.rows == [("new", [0.25, 4.0, 900.4, None, 12.5, 2.5]), ("old", [None] * 6)]
    assert "all of it" in table.notes[0]
    assert "Z80, 2 cores, device cpu" in table.notes[2]


def test_where_a_row_stands_along_an_option(tmp_path: Path) -> None:
    everything = row_of(tmp_path, "a", {"0": {"cap": 0.5}}, settings={"shots": "all"}, training={"images": 112})
    assert position(everything, "shots") == 112
    assert position(Row("b", {"shots": "5", "mapper": "mlp"}, {}), "shots") == 5
    assert position(Row("b", {"shots": "5", "mapper": "mlp"}, {}), "mapper") is None


def test_what_is_missing_is_said(tmp_path: Path) -> None:
    row = row_of(tmp_path, "part", {"0": {"cap": 0.5}})
    part = Row(row.label, row.settings, row.runs, ["gear (seed 0)"])
    [table, *_] = sweep_tables("T", [part, Row("none", {"variant": "none"}, {}, ["cap (seed 0)"])], "variant", None)
    assert figures(table, "none") == [None] * 4 + [0]
    assert [note for note in table.notes if "not there" in note or "Not finished" in note] == [
        "Not finished at all: none.",
        "part: not there are gear (seed 0); its means are over the rest, not comparable with the others.",
    ]
