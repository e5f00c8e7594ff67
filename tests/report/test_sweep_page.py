"""The page of a sweep in a browser: its curves, its tables, hostile names."""

from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Page

from evaluation.tables.runs import load_runs
from evaluation.tables.sweeps import Row, sweep_tables
from report.sweep import lines, write_sweep
from tests.browser import open_page, wait_until
from tests.report.comparison_files import write

EVIL = "</script><img src=x onerror=alert(1)><b>&amp;"


def rows_of(root: Path) -> list[Row]:
    """Two settings, each with 5 and 10 and all of 40 images; 0.5 and 0.7 at first; two seeds."""
    rows = []
    for base, name in ((0.5, "plain"), (0.7, EVIL)):
        for step, shots in enumerate(("5", "10", "all")):
            runs = {}
            for seed in (0, 1):
                folder = root / f"{base} {shots} {seed}"
                timing = {"timing": {"seconds_per_image_median": 0.1 + base - 0.05 * step, "device": "cpu"}}
                value = base + 0.1 * step + 0.02 * seed
                write(folder, "cap", value, parts=timing, seed=seed, training={"images": 40})
                [runs[str(seed)]] = load_runs(folder)
            rows.append(Row(f"{name}, shots {shots}", {"variant": name, "shots": shots}, runs))
    return rows


def page_of(root: Path, curve: str = "shots", seconds: bool = False) -> Path:
    rows = rows_of(root)
    tables = sweep_tables(f"Sweep of {EVIL}", rows, "variant", None)
    return write_sweep(root / "page.html", f"Sweep of {EVIL}", rows, tables, curve, seconds)


def test_curves_are_rows_that_differ_in_one_option(tmp_path: Path) -> None:
    first, second = lines(rows_of(tmp_path), "shots")
    assert (first["label"], second["label"]) == ("plain", EVIL)
    assert [(p["text"], p["x"]) for p in first["points"]] == [("5", 5), ("10", 10), ("all", 40)]
    assert [p["mean"][0] for p in first["points"]] == pytest.approx([0.51, 0.61, 0.71])
    assert first["points"][0]["deviation"][0] == pytest.approx(0.02 / 2**0.5)
    assert [p["seconds"] for p in second["points"]] == pytest.approx([0.8, 0.75, 0.7])
    assert lines(rows_of(tmp_path), "") == []


def drawn(page: Page) -> list[Any]:
    """x and y of each curve."""
    found: list[Any] = page.evaluate("document.getElementById('curves').data.map(trace => [trace.x, trace.y])")
    return found


# Slow: a browser has to start.
@pytest.mark.slow
def test_curves_follow_metric_and_axis(tmp_path: Path) -> None:
    with open_page(page_of(tmp_path)) as page:
        page.wait_for_selector("#curves .main-svg")
        assert drawn(page) == [
            [[5, 10, 40], pytest.approx([0.51, 0.61, 0.71])],
            [[5, 10, 40], pytest.approx([0.71, 0.81, 0.91])],
        ]
        assert page.locator("#legend li").all_inner_texts() == ["plain", EVIL]
        assert page.locator("h1").inner_text() == f"Sweep of {EVIL}"
        page.select_option("#metric", label="AUPRO@1%")
        wait_until(page, "document.getElementById('curves').layout.yaxis.title.text === 'AUPRO@1%'")
        assert drawn(page)[0][1] == pytest.approx([0.46, 0.56, 0.66])
        page.select_option("#against", label="seconds an image")
        wait_until(page, "document.getElementById('curves').layout.xaxis.title.text === 'seconds an image'")
        assert drawn(page)[1] == [pytest.approx([0.7, 0.75, 0.8]), pytest.approx([0.86, 0.76, 0.66])]
        headings = page.locator("h2").all_inner_texts()
        assert headings == ["Along shots", "Means over classes", "Differences over the same seeds", "Speed and memory"]
        cells = page.locator("tbody tr").first.locator("th, td").all_inner_texts()
        assert cells == ["plain, shots 5", "0.510 ± 0.014", "0.500 ± 0.014", "0.490 ± 0.014", "0.460 ± 0.014", "2"]


@pytest.mark.slow
def test_a_sweep_without_curves_is_tables(tmp_path: Path) -> None:
    with open_page(page_of(tmp_path, ""), width=360, height=740) as page:
        assert page.locator("#curves").count() == 0
        assert page.locator("table").count() == 3
        assert page.evaluate("document.documentElement.scrollWidth") == 360


@pytest.mark.slow
def test_the_time_of_an_image_may_be_the_first_axis(tmp_path: Path) -> None:
    with open_page(page_of(tmp_path, "shots", True)) as page:
        page.wait_for_selector("#curves .main-svg")
        assert drawn(page)[0][0] == pytest.approx([0.5, 0.55, 0.6])
