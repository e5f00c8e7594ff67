"""The comparison page in a browser: sorting, selectors, choice of runs and seeds, plots, hostile names."""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Page

from evaluation.tables.published import load_published
from report.comparison import write_comparison
from tests.browser import open_page, wait_until
from tests.report.comparison_files import load, samples, write

# Slow: a browser has to start.
pytestmark = pytest.mark.slow
EVIL = "</script><img src=x onerror=alert(1)><b>&amp;"
A, B, BRANCH, C = "CFM 50ep_4bs, extractor x", "CFM 50ep_4bs, extractor y", "CFM (3D only) 50ep_4bs", "CFM 9ep_4bs"


def timing(seconds: float) -> dict[str, Any]:
    return {"timing": {"seconds_per_image_median": seconds, "device": "cpu"}}


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Four rows: A with seeds 0 and 1, B with seeds 0 and 1, a branch of B, and C, which lacks a class.

    I-AUROC of bagel and rope: A 0.8 ± 0.014, 0.6; B 0.7, 0.9; its branch 0.5, 0.4; C 0.95 and none.
    """
    root = tmp_path_factory.mktemp("comparison")
    for seed in (0, 1):
        parts = {**timing(0.5), **samples([0.1, 0.4], [0.35, 0.8])}
        write(root / f"a{seed}", "bagel", 0.79 + 0.02 * seed, seed=seed, extractor="x", parts=parts)
        write(root / f"a{seed}", "rope", 0.6, seed=seed, extractor="x", parts=timing(0.5))
        for name, value, own in (("bagel", 0.7, 0.5), ("rope", 0.9, 0.4)):
            defects: dict[str, float | None] = {"cut": 0.5, "hole": 1.0}
            write(root / f"b{seed}", name, value, defects=defects, branches={"3D only": own}, seed=seed, extractor="y")
    write(root / "c", "bagel", 0.95, run="9ep_4bs", mapper=EVIL, defects={EVIL: 0.9, "constructor": 0.8})
    return write_comparison(root / "page" / "comparison.html", load(root), "auto")


@pytest.fixture
def page(path: Path) -> Iterator[Page]:
    with opened(path) as page:
        yield page


@contextmanager
def opened(path: Path, **window: Any) -> Iterator[Page]:
    """The page once its plots are drawn."""
    with open_page(path, **window) as page:
        page.wait_for_selector("#class-plot .main-svg")
        yield page


def texts(page: Page, selector: str) -> list[str]:
    """Texts of the elements, without the symbols of runs and what only screen readers get."""
    script = """elements => elements.map(element => {
        const copy = element.cloneNode(true);
        copy.querySelectorAll('.glyph, .hidden-visually').forEach(part => part.remove());
        return copy.textContent.trim();
    })"""
    return list(page.eval_on_selector_all(selector, script))


def rows(page: Page, table: str) -> list[list[str]]:
    """Texts of a table's body, row by row."""
    count = page.locator(f"#{table} tbody tr").count()
    return [texts(page, f"#{table} tbody tr:nth-child({i + 1}) > *") for i in range(count)]


def names(page: Page) -> list[str]:
    return texts(page, "#means tbody th .run")


def points(page: Page, plot: str) -> list[list[float]]:
    """The x values of each trace of a plot that it shows."""
    found = page.evaluate(f"document.getElementById('{plot}').data.map(trace => Array.from(trace.x))")
    return [[figure for figure in x if figure is not None] for x in found]


def test_means_show_seeds_together_and_mark_the_best(page: Page) -> None:
    table = rows(page, "means")
    assert names(page) == [A, B, BRANCH, C]
    assert table[0][1] == "0.700 ± 0.007"  # means 0.695 and 0.705
    assert table[1][1] == "0.800 ± 0.000"
    assert table[2][1] == "0.450 ± 0.000"
    assert table[3][:2] == [f"{C}not comparable", "0.950"]
    assert texts(page, "#means td.best") == table[1][1:]
    (note,) = texts(page, "#means-notes p")
    assert note == f"{C}: without rope; its means are over 1 of 2 classes, not comparable with the others."


def test_columns_sort_both_ways(page: Page) -> None:
    def order(column: int) -> tuple[list[str], list[str | None]]:
        page.click(f"#means th:nth-child({column + 1}) button")
        heads = page.locator("#means thead th").all()
        return names(page), [head.get_attribute("aria-sort") for head in heads[:3]]

    assert order(1) == ([C, B, A, BRANCH], ["none", "descending", "none"])
    assert order(1) == ([BRANCH, A, B, C], ["none", "ascending", "none"])
    assert order(2) == ([C, B, A, BRANCH], ["none", "none", "descending"])
    assert order(0) == ([BRANCH, C, A, B], ["ascending", "none", "none"])  # 9 before 50
    assert order(0) == ([B, A, C, BRANCH], ["descending", "none", "none"])
    page.uncheck("#runs label:nth-of-type(2) input")
    assert names(page) == [A, C, BRANCH]  # the order stays
    page.focus("#means th:nth-child(2) button")
    page.keyboard.press("Enter")
    assert names(page)[0] == C
    assert page.evaluate("document.activeElement.textContent") == "I-AUROC"


def test_each_seed_by_itself(page: Page) -> None:
    page.check("#seeds")
    table = rows(page, "means")
    assert [row[1] for row in table] == ["0.695", "0.705", "0.800", "0.450", "0.800", "0.450", "0.950"]
    assert names(page)[0].startswith("CFM 50ep_4bs, ")
    assert names(page)[0].endswith("/a0")
    assert texts(page, "#runs label") == names(page)
    assert [len(x) for x in points(page, "class-plot")[1:]] == [2] * 6 + [1]
    heights = "['#class-plot', '#class-plot .main-svg'].map(part => document.querySelector(part).clientHeight)"
    wait_until(page, f"(([host, plot]) => host === plot && host > 300)({heights})")
    page.click("#none")
    wait_until(page, f"(([host, plot]) => host === plot)({heights})")
    page.click("#all")
    page.uncheck("#seeds")
    assert names(page) == [A, B, BRANCH, C]
    assert texts(page, "#runs label") == [f"{A} 2 seeds", f"{B} 2 seeds", f"{BRANCH} 2 seeds", C]


def test_runs_are_switched_off_everywhere(page: Page) -> None:
    page.uncheck("#runs label:nth-of-type(4) input")  # C
    assert names(page) == [A, B, BRANCH]
    assert texts(page, "#means-notes p") == []
    page.check("#runs label:nth-of-type(4) input")
    page.uncheck("#runs label:nth-of-type(1) input")  # A
    page.uncheck("#runs label:nth-of-type(2) input")  # B
    page.uncheck("#runs label:nth-of-type(3) input")  # its branch
    assert names(page) == [C]
    assert texts(page, "#means-notes p") == []  # beside nothing else, C is comparable
    assert texts(page, "#means .best") == []  # and nothing is the best of one
    assert texts(page, "#class-table thead th")[:2] == ["class", C]
    assert texts(page, "#defects tbody th") == [C]
    assert len(points(page, "class-plot")) == 2  # published ones, C
    assert len(points(page, "roc")) == 1  # chance
    assert page.is_hidden("#settings-box")
    page.click("#none")
    assert names(page) == texts(page, "#defects tbody th") == []
    assert texts(page, "#means-notes p") == ["No run is chosen."]
    assert not page.is_checked("#runs label:nth-of-type(4) input")
    page.click("#all")
    assert names(page) == [A, B, BRANCH, C]

    page.check("#seeds")  # a seed that is switched off stays off until its group is switched
    page.uncheck("#runs label:nth-of-type(1) input")
    assert len(names(page)) == 6
    page.uncheck("#seeds")
    assert names(page)[0] == A
    page.uncheck("#runs label:nth-of-type(1) input")
    page.check("#runs label:nth-of-type(1) input")
    page.check("#seeds")
    assert len(names(page)) == 7


def test_classes_by_metric_beside_published_figures(page: Page) -> None:
    published = load_published()["mvtec3d"]
    table = rows(page, "class-table")
    assert [row[0] for row in table] == ["bagel", "rope", *(c for c in published["classes"][1:] if c != "rope"), "mean"]
    assert table[0][1:5] == ["0.800 ± 0.014", "0.700 ± 0.000", "0.500 ± 0.000", "0.950"]
    assert table[1][1:5] == ["0.600 ± 0.000", "0.900 ± 0.000", "0.400 ± 0.000", "-"]
    assert table[-1][1:5] == ["* 0.700 ± 0.007", "* 0.800 ± 0.000", "* 0.450 ± 0.000", "* 0.950"]
    column = texts(page, "#class-table thead th").index("M3DM (secondary)")
    m3dm = published["i_auroc"]["M3DM"]
    assert [table[0][column], table[-1][column]] == [f"{m3dm['per_class'][0]:.3f}", f"{m3dm['mean']:.3f}"]
    given = [f["per_class"] for f in published["i_auroc"].values() if f["per_class"]]
    text = page.evaluate("document.getElementById('class-plot').data.at(1).text.at(-1)")
    assert text == f"bagel<br>{A}<br>± 0.014 over seeds"
    assert points(page, "class-plot")[0] == [figure for method in given for figure in published_order(table, method)]

    page.uncheck("#published")
    table = rows(page, "class-table")
    assert [row[0] for row in table] == ["bagel", "rope", "mean"]
    assert table[2][1:] == ["0.700 ± 0.007", "0.800 ± 0.000", "0.450 ± 0.000", "* 0.950"]
    assert texts(page, "#class-table td.best") == ["0.950", "0.900 ± 0.000", "0.800 ± 0.000"]
    expected = [[], [0.6, 0.8], [0.9, 0.7], [0.4, 0.5], [0.95]]
    assert [pytest.approx(x) for x in points(page, "class-plot")] == expected

    page.select_option("#metric", label="exact@1%")
    table = rows(page, "class-table")
    assert table[0][1:] == ["0.710 ± 0.014", "0.610 ± 0.000", "0.410 ± 0.000", "0.860"]
    assert page.evaluate("document.getElementById('class-plot').layout.xaxis.title.text") == "exact@1%"


def published_order(table: list[list[str]], per_class: list[float]) -> list[float]:
    """Figures of a method in the order of the plot, which begins with the table's last class."""
    classes = load_published()["mvtec3d"]["classes"]
    return [per_class[classes.index(row[0])] for row in reversed(table[:-1])]


def test_one_class_its_defects_and_curves(page: Page) -> None:
    assert texts(page, "#defects thead th") == ["run", EVIL, "constructor", "cut", "hole"]
    table = rows(page, "defects")
    assert [row[0] for row in table] == [A, B, BRANCH, C]
    assert table[1][1:] == ["-", "-", "0.500 ± 0.000", "1.000 ± 0.000"]
    assert table[3][1:] == ["0.900", "0.800", "-", "-"]
    heat = page.eval_on_selector_all("#defects td.heat", "all => all.map(one => +one.style.getPropertyValue('--heat'))")
    assert heat == pytest.approx([0.4, 1, 0, 1, 0, 0.2, 0.4])  # A's hole is 0.8; from 0.5, the lowest, to 1
    assert texts(page, "#scale span") == ["0.500", "", "1.000"]
    page.select_option("#defect-metric", label="P-AUROC")
    assert rows(page, "defects")[1][3] == "0.250 ± 0.000"

    assert [sorted(set(x)) for x in points(page, "roc")] == [[0, 1], [0, 0.5, 1], [0, 0.5, 1]]
    assert texts(page, "#roc-legend li") == [f"{A}, I-AUROC 0.800"]
    assert texts(page, "#roc-note") == [
        f"A line for each seed. No curve, since their files hold no scores of images: {B}; {BRANCH}; {C}."
    ]
    page.select_option("#class", label="rope")
    assert texts(page, "#defects tbody th") == [A, B, BRANCH]
    assert len(points(page, "roc")) == 1


def test_speed_of_those_that_were_timed(page: Page) -> None:
    assert texts(page, "#speed-legend li") == [f"{A}, 0.500 s on cpu"]
    script = "document.getElementById('speed').data.map(trace => [trace.x[0], trace.y[0], trace.error_y.array[0]])"
    (point,) = page.evaluate(script)
    assert point == pytest.approx([0.5, 0.7, 0.01 / 2**0.5])
    page.select_option("#speed-metric", label="P-AUROC")
    assert page.evaluate(script)[0][1] == pytest.approx(0.69)


def test_settings_that_differ(page: Page) -> None:
    assert rows(page, "settings") == [
        ["seed", "0, 1", "0, 1", "-"],
        ["extractor", "x", "y", "-"],
        ["device", "cpu", "-", "-"],
        ["mapper", "-", "-", EVIL],
    ]
    page.click("#none")
    page.check("#runs label:nth-of-type(1) input")
    assert page.is_hidden("#settings-box")
    assert page.is_visible("#settings-note")
    assert page.evaluate("document.images.length") == page.locator("main b").count() == 0


def test_a_phone_scrolls_tables_not_the_page(path: Path) -> None:
    with opened(path, width=360, height=740) as page:
        assert page.evaluate("document.documentElement.scrollWidth") == 360
        box = "document.querySelector('#means').parentElement"
        assert page.evaluate(f"{box}.scrollWidth > {box}.clientWidth")
        page.focus(".table-box >> nth=0")
        page.keyboard.press("ArrowRight")
        wait_until(page, f"{box}.scrollLeft > 0")


def test_dark_and_light_and_back(path: Path) -> None:
    colours = "[getComputedStyle(document.body).backgroundColor, document.getElementById('roc').layout.font.color]"
    with opened(path, dark=True) as page:
        dark = page.evaluate(colours)
        page.click("#theme")
        light = page.evaluate(colours)
        page.click("#theme")
        assert page.evaluate(colours) == dark
    with opened(path) as page:
        assert page.evaluate(colours) == light
    assert all(a != b for a, b in zip(dark, light, strict=True))


def test_without_scripts_the_means_are_there(path: Path) -> None:
    """The table as the file holds it, before any script has run."""
    text = path.read_text(encoding="utf-8").split("<tbody>")[1].split("</tbody>")[0]
    assert re.sub(r"\s+", " ", re.sub(r"<[^>]+>", " ", text)).split(A)[1].startswith(" 0.700 ± 0.007 0.690 ± 0.007 ")
    assert [name in text for name in (A, B, BRANCH, C)] == [True] * 4


def test_a_single_class_without_anything_but_figures(tmp_path: Path) -> None:
    write(tmp_path / "runs/0", "__proto__", None, defects={})
    path = write_comparison(tmp_path / "page.html", load(tmp_path / "runs"), "auto")
    with opened(path) as page:
        assert rows(page, "class-table") == [["__proto__", "-"], ["mean", "* -"]]
        assert page.is_hidden("#speed-section")
        assert page.is_hidden("#scale")
        assert page.locator("#seeds").count() == page.locator("#published").count() == 0


def test_seeds_that_lack_a_class_are_told(tmp_path: Path) -> None:
    for seed, classes in enumerate((["cap", "gear"], ["cap"])):
        for name in classes:
            write(tmp_path / f"runs/{seed}", name, 0.9, seed=seed)
    path = write_comparison(tmp_path / "page.html", load(tmp_path / "runs"), "auto")
    with opened(path) as page:
        text = "CFM 50ep_4bs: not all of its seeds have gear; its means are not comparable with the others."
        assert texts(page, "#means-notes p") == [text]
        assert rows(page, "class-table")[-1] == ["mean", "* 0.900 ± 0.000"]
        page.check("#seeds")
        assert [row[1] for row in rows(page, "class-table")] == ["0.900"] * 3
        assert rows(page, "class-table")[1][2] == "-"
