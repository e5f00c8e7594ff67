"""report/evaluation.py: what the page says, without a browser."""

import json
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy import ndimage

from evaluation.results import evaluate, write_results
from report import pictures
from report.evaluation import MAX_SAMPLES, ReportSample, write_report
from tests.report.tools import make_sample, write_class
from utils.errors import UserError

HOSTILE = "</script><img src=x onerror=alert(1)>"


class Reader(HTMLParser):
    """Collects what tests ask about: tables as lists of rows, JSON by id, links, elements with their attributes."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.tables: list[list[list[str]]] = []
        self.data: dict[str, Any] = {}
        self.links: list[str] = []
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.words = ""
        self._cell, self._json, self._hidden = False, "", False
        self.feed(path.read_text())

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        attributes = dict(attrs)
        self.elements.append((tag, attributes))
        self._cell = self._cell or tag in ("td", "th")
        if tag == "table":
            self.tables.append([])
        elif tag == "tr":
            self.tables[-1].append([])
        elif tag in ("td", "th"):
            self.tables[-1][-1].append("")
        elif tag == "a":
            self.links.append(attributes["href"] or "")
        self._hidden = self._hidden or tag in ("script", "style")
        self._json = attributes.get("id") or "" if attributes.get("type") == "application/json" else self._json

    def handle_endtag(self, tag: str) -> None:
        self._cell = self._cell and tag not in ("td", "th")
        self._hidden = self._hidden and tag not in ("script", "style")
        self._json = "" if tag == "script" else self._json

    def handle_data(self, data: str) -> None:
        if self._json:
            self.data[self._json] = json.loads(data)
        elif not self._hidden:
            self.words += data
            if self._cell:
                self.tables[-1][-1][-1] += data

    def table(self, corner: str) -> list[list[str]]:
        """The table whose first heading is `corner`."""
        return next(table for table in self.tables if table[0][0] == corner)


def samples() -> list[ReportSample]:
    """At the threshold 1: two of five defects missed, one of three good images above."""
    scores = [("good", 0.5), ("good", 1.2), ("good", 0.9), ("hole", 0.8), ("hole", 2.0), ("cut", 0.7), ("cut", 1.5)]
    found = [make_sample(d, f"{i:03d}", s, 10 * s, seconds=0.1 * i) for i, (d, s) in enumerate(scores)]
    return [*found, make_sample("cut", "007", 3.0, 30.0)]


def test_page_tells_the_figures_and_the_decisions(tmp_path: Path) -> None:
    path = write_class(tmp_path, samples(), threshold=1.0)
    page = write_report(path, samples())
    assert page == tmp_path / "gear_12ep_4bs/report.html"
    found, result = Reader(page), json.loads(path.read_text())
    words = " ".join(found.words.split())
    low, high = result["i_auroc_interval"]
    tiles = (
        f"I-AUROC {result['i_auroc']:.3f} images, 95 % interval {low:.3f} to {high:.3f} "
        f"P-AUROC {result['p_auroc']:.3f} pixels "
        f"AUPRO@30% {result['aupro']['0.3']:.3f} 99 thresholds AUPRO@30% {result['aupro_exact']['0.3']:.3f} exact "
        f"AUPRO@1% {result['aupro']['0.01']:.3f} 99 thresholds AUPRO@1% {result['aupro_exact']['0.01']:.3f} exact"
    )
    for text in (tiles, "3 caught 2 missed 1 false alarm 2 passed", "At most 1 % of good parts exceed it."):
        assert text.replace(" ", "") in words.replace(" ", "")
    assert "gear CFM extractor handcrafted · seed 0 · 12 epochs in batches of 4" in words
    rows = {row[0]: row[1:4] for row in found.table("defect")}
    assert rows == {"defect": ["images", "caught", "missed"], "cut": ["3", "2", "1"], "hole": ["2", "1", "1"]}
    figures = [f"{result['per_defect']['cut'][key]:.3f}" for key in ("i_auroc", "p_auroc", "aupro_0.3")]
    assert [*found.table("defect")[1][4:5], *found.table("defect")[1][6:]] == figures
    names = [f"{s['defect']}/{s['stem']}" for s in found.data["index"]["samples"]]
    assert names == ["cut/005", "hole/003", "good/001", "good/002", "cut/006", "good/000", "hole/004", "cut/007"]
    verdicts = [s["verdict"] for s in found.data["index"]["samples"]]
    assert verdicts == ["missed", "missed", "false alarm", "passed", "caught", "passed", "caught", "caught"]
    assert found.data["index"]["samples"][1]["score"] == pytest.approx(0.8)
    assert found.data["index"]["samples"][1]["image_score"] == pytest.approx(8.0)
    assert found.data["plots"]["threshold"] == 1.0
    details = dict(row for table in found.tables for row in table if len(row) == 2)
    assert details["training.git_commit"] == "0a1b"
    assert details["numpy"] == "1.26"
    assert details["seconds_per_image_median"] == "0.1"


def test_a_mask_that_is_not_known_is_not_shown(tmp_path: Path) -> None:
    unknown = [replace(s, prediction=replace(s.prediction, gt=None)) if s.prediction.label else s for s in samples()]
    found = Reader(write_report(write_class(tmp_path, unknown), unknown))
    told = found.data["index"]["samples"]
    shown = [(one["defect"] == "good", found.data[f"view-{i}"]["mask"] is not None) for i, one in enumerate(told)]
    assert set(shown) == {(True, True), (False, False)}
    curves = found.data["plots"]["curves"]
    assert (len(curves["image"]) > 0, curves["pixel"], curves["pro"]) == (True, [], [])


def test_every_sample_has_its_own_pictures_on_the_scale_of_the_class(tmp_path: Path) -> None:
    found = Reader(write_report(write_class(tmp_path, samples()), samples()))
    by_name = {(s.prediction.defect, s.prediction.stem): s for s in samples()}
    scale = found.data["index"]["scale"]
    for i, told in enumerate(found.data["index"]["samples"]):
        sample, view = by_name[told["defect"], told["stem"]], found.data[f"view-{i}"]
        for key in ("map_2d", "map_3d", "combined"):
            assert view[key] == pictures.map_png(getattr(sample, key), scale[key], "inferno")
        depth = np.where(sample.xyz[..., 2] == 0, np.nan, sample.xyz[..., 2])
        assert view["depth"] == pictures.map_png(depth, view["depth_ends"], "viridis_r")
        assert sample.prediction.gt is not None
        assert view["mask"] == pictures.mask_png(sample.prediction.gt)
        assert view["rgb"] == pictures.jpeg(sample.rgb)
        assert view["cloud"] == pictures.cloud(sample.xyz)
    assert len({found.data[f"thumbnail-{i}"] for i in range(8)}) == 8
    assert 0 <= scale["combined"][0] < 1 < scale["combined"][1] <= 3
    left, top, side = found.data["view-0"]["window"]
    assert 0 <= left < left + side <= 48
    assert 0 <= top < top + side <= 48
    assert 25 < side < 48


def test_without_thresholds_nothing_is_missed(tmp_path: Path) -> None:
    found = Reader(write_report(write_class(tmp_path, samples()), samples()))
    assert "python calibrate.py" in found.words
    assert "missed" not in found.words.replace("counts as missed", "")
    stems = [s["stem"] for s in found.data["index"]["samples"]]
    assert stems == ["005", "003", "006", "004", "007", "001", "002", "000"]
    assert {s["verdict"] for s in found.data["index"]["samples"]} == {None}


def test_classes_of_the_same_run_stand_beside(tmp_path: Path) -> None:
    for name in ("cap", "rope & string", "gear"):
        path = write_class(tmp_path, samples(), class_name=name)
    write_class(tmp_path, samples(), class_name="nut", config={"method": "CFM", "seed": 1})
    for name in ("rope & string", "gear"):  # its own was written before
        (tmp_path / f"{name}_12ep_4bs").mkdir()
        (tmp_path / f"{name}_12ep_4bs/report.html").touch()
    found = Reader(write_report(path, samples()))
    table = found.table("class")
    assert [row[0] for row in table[1:]] == ["cap", "gear", "rope & string", "mean"]
    assert [link for link in found.links if "report" in link] == ["../rope%20%26%20string_12ep_4bs/report.html"]
    marked = [attributes for tag, attributes in found.elements if tag == "tr" and "class" in attributes]
    assert [attributes["class"] for attributes in marked] == ["marked", "total"]


def test_published_figures_of_a_known_dataset(tmp_path: Path) -> None:
    found = Reader(write_report(write_class(tmp_path, samples(), class_name="bagel"), samples()))
    tables = [table for table in found.tables if table[0][0] == "method" and len(table[0]) > 2]
    assert len(tables) >= 3
    for table in tables:
        assert table[0][1] == "bagel"
        assert table[-1][0].startswith("ours: CFM 12ep_4bs")
        assert table[-1][2] == "-"  # the class that was not evaluated


def test_branches_have_rows_of_their_own(tmp_path: Path) -> None:
    predictions = [sample.prediction for sample in samples()]
    metrics = evaluate(predictions)
    branch = {**metrics, "i_auroc": 0.123}
    config: dict[str, Any] = {"method": "DBMRNet"}
    path = write_results(tmp_path, "gear", 3, 8, metrics, predictions, config, {}, {}, {"3D only": branch})
    table = Reader(write_report(path, samples())).table("map")
    assert [row[:2] for row in table[1:]] == [
        ["DBMRNet", f"{metrics['i_auroc']:.3f}"],
        ["DBMRNet (3D only)", "0.123"],
    ]


def test_results_that_say_nothing_of_how_they_were_made(tmp_path: Path) -> None:
    predictions = [sample.prediction for sample in samples()]
    path = write_results(tmp_path, "gear", 3, 8, evaluate(predictions), predictions, {}, {}, {})
    words = " ".join(Reader(write_report(path, samples())).words.split())
    assert "gear Evaluation 3 epochs in batches of 8" in words


def test_a_damaged_file_of_another_class_does_not_stop_the_page(tmp_path: Path) -> None:
    path = write_class(tmp_path, samples())
    (tmp_path / "nut_12ep_4bs.json").write_text("{")
    found = Reader(write_report(path, samples()))
    assert "nut_12ep_4bs.json: cannot be read" in found.words


@pytest.mark.parametrize("chosen", [[0], [3], [0, 1, 2], [0, 3], [3, 4]])
def test_few_kinds_of_samples(chosen: list[int], tmp_path: Path) -> None:
    few = [samples()[i] for i in chosen]
    few[0] = replace(few[0], xyz=np.zeros_like(few[0].xyz))  # without a valid point
    found = Reader(write_report(write_class(tmp_path, few, threshold=1.0), few))
    assert len(found.data["index"]["samples"]) == len(few)
    views = [found.data[f"view-{i}"] for i in range(len(few))]
    assert [view["cloud"] for view in views].count(None) == 1
    undefined = chosen in ([0], [3], [0, 1, 2], [3, 4])
    assert ("I-AUROC-" in "".join(found.words.split())) == undefined
    assert bool(found.data["plots"]["curves"]["image"]) != undefined


def test_gallery_is_limited_and_says_so(tmp_path: Path) -> None:
    many = [make_sample("hole", f"{i:03d}", 2 + 0.01 * i, side=16) for i in range(MAX_SAMPLES + 1)]
    many.append(make_sample("good", "000", 1.0, side=16))
    found = Reader(write_report(write_class(tmp_path, many, threshold=0.5), many))
    stems = [s["stem"] for s in found.data["index"]["samples"]]
    assert (len(stems), f"view-{MAX_SAMPLES - 1}" in found.data, f"view-{MAX_SAMPLES}" in found.data) == (
        150,
        True,
        False,
    )
    assert found.data["index"]["samples"][0]["defect"] == "good"  # the false alarm
    assert stems[-1] == f"{MAX_SAMPLES - 2:03d}"
    assert "150 of 152 images" in found.words
    assert sum(map(sum, found.data["plots"]["scores"]["counts"].values())) == 152


def test_names_stay_text(tmp_path: Path) -> None:
    named = [
        make_sample("good", HOSTILE, 0.5),
        make_sample(HOSTILE, "<b>1", 2.0),
        make_sample("{{ 7*7 }}", "&amp;", 1.5),
    ]
    config = {"method": HOSTILE, "extractor": HOSTILE, "training": {HOSTILE: [HOSTILE]}}
    class_name = "<img src=x onerror=alert(1)>"
    path = write_class(tmp_path, named, 1.0, class_name, config)
    content = json.loads(path.read_text())
    content["thresholds"]["statement"] = content["versions"]["numpy"] = HOSTILE
    path.write_text(json.dumps(content))
    found = Reader(write_report(path, named))
    tags = [tag for tag, _ in found.elements]
    assert not {"img", "b", "iframe"} & set(tags)
    assert not any(name.startswith("on") for _, attributes in found.elements for name in attributes)
    assert {HOSTILE, "{{ 7*7 }}"} <= {row[0] for row in found.table("defect")}
    names = {(s["defect"], s["stem"]) for s in found.data["index"]["samples"]}
    assert names == {("good", HOSTILE), (HOSTILE, "<b>1"), ("{{ 7*7 }}", "&amp;")}
    assert found.words.count(HOSTILE) >= 5


def test_results_of_other_samples_are_refused(tmp_path: Path) -> None:
    path = write_class(tmp_path, samples())
    with pytest.raises(UserError, match="expected the results of 7 samples, found those of 8 others; run"):
        write_report(path, samples()[1:])
    path.write_text("[1")
    with pytest.raises(UserError, match=r"gear_12ep_4bs\.json: cannot be read .* Run the evaluation again"):
        write_report(path, samples())
    assert not (tmp_path / "gear_12ep_4bs").exists()


def test_a_sample_takes_little_room(tmp_path: Path) -> None:
    """100 samples of 224², all of the image covered, texture and noise everywhere: 30 MB, Plotly's 5 included."""
    side, rng = 224, np.random.default_rng(0)

    def mottled(*widths: float) -> np.ndarray:
        parts = [width * ndimage.gaussian_filter(rng.standard_normal((side, side)), width) for width in widths]
        return np.asarray(sum(parts) / len(widths), np.float32)

    v, u = np.mgrid[:side, :side] / side
    full = []
    for number in range(4):
        sample = make_sample("hole", str(number), 1.0, side=side)
        rgb = np.clip(128 + 60 * np.stack([mottled(0.7, 2, 8, 20) for _ in range(3)], axis=-1), 0, 255).astype(np.uint8)
        z = (0.6 + 0.01 * mottled(3, 10, 30) + 4e-5 * rng.standard_normal((side, side))).astype(np.float32)
        xyz = np.stack([(u - 0.5) * z, (v - 0.5) * z, z], axis=-1).astype(np.float32)
        maps = [np.abs(mottled(1.5, 4, 12)) for _ in range(2)]
        full.append(replace(sample, rgb=rgb, xyz=xyz, map_2d=maps[0], map_3d=maps[1]))
    sizes = [write_report(write_class(tmp_path, full[:n]), full[:n]).stat().st_size for n in (1, 4)]
    assert (sizes[1] - sizes[0]) / 3 < 250_000
    assert sizes[0] < 6_000_000
