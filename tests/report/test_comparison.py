"""What the comparison page shows, against figures worked out by hand."""

import json
import math
from pathlib import Path
from typing import Any

import pytest

from evaluation.tables.published import load_published
from evaluation.tables.runs import METRICS, load_folders
from report.comparison import comparison, reports, roc, settings_of, spread, write_comparison
from tests.report.comparison_files import load, samples, write
from utils.errors import UserError


def test_spread_is_the_mean_and_the_deviation_of_a_sample() -> None:
    found = spread([[0.8, None, None], [0.9, 0.5, None], [1.0, None, None]])
    assert found["mean"] == [pytest.approx(0.9), 0.5, None]
    assert found["deviation"] == [pytest.approx(0.1), None, None]


def vertices(curve: list[list[float]] | None) -> list[tuple[float, float]]:
    """Its different points as pairs."""
    assert curve is not None
    return list(dict.fromkeys(zip(*curve, strict=True)))


def test_roc_has_the_vertices_of_the_curve() -> None:
    scores = [(0.1, False), (0.35, True), (0.4, False), (0.8, True)]
    assert vertices(roc(scores)) == [(0, 0), (0, 0.5), (0.5, 0.5), (0.5, 1), (1, 1)]
    assert vertices(roc([(0.5, False), (0.5, True), (0.5, False)])) == [(0, 0), (1, 1)]  # ties: the diagonal
    assert vertices(roc([(3, True), (2, False), (1, False), (0, False)])) == [(0, 0), (0, 1), (1, 1)]
    assert vertices(roc([(3, True), (2, False), (1, True), (1, False), (1, False)]))[2] == (0.333333, 0.5)
    assert roc([(0.5, True)]) is roc([(0.5, False)]) is roc([]) is None


def test_seeds_are_taken_together_classes_first(tmp_path: Path) -> None:
    for seed, values in enumerate(((0.8, 0.6), (0.9, 0.9))):
        for name, value in zip(("cap", "gear"), values, strict=True):
            write(tmp_path / f"run{seed}", name, value, seed=seed)
    data = comparison(load(tmp_path), "auto")
    (entry,) = data["grouped"]
    assert (entry["label"], entry["seeds"], entry["members"]) == ("CFM 50ep_4bs", ["0", "1"], [0, 1])
    assert entry["means"]["mean"] == pytest.approx([0.8 - 0.01 * i for i in range(10)])
    assert entry["means"]["deviation"] == pytest.approx([math.sqrt(0.02)] * 10)  # of 0.7 and 0.9
    assert entry["classes"]["cap"]["mean"][0] == pytest.approx(0.85)
    assert entry["classes"]["cap"]["deviation"][0] == pytest.approx(math.sqrt(0.005))
    assert entry["defects"]["gear"]["hole"]["mean"] == pytest.approx([0.75, 0.375, 0.375])
    assert entry["partial"] == []
    assert [e["means"]["mean"][0] for e in data["single"]] == pytest.approx([0.7, 0.9])
    assert [(e["group"], e["place"], e["seeds"]) for e in data["single"]] == [(0, 0, ["0"]), (0, 1, ["1"])]
    assert data["single"][0]["means"]["deviation"] == [None] * 10
    assert data["metrics"] == list(METRICS)
    assert data["classes"] == ["cap", "gear"]


def test_a_class_that_only_some_seeds_have_is_named(tmp_path: Path) -> None:
    write(tmp_path / "a", "cap", 0.8, seed=0)
    write(tmp_path / "a", "gear", 0.5, seed=0)
    write(tmp_path / "b", "cap", 0.9, seed=1)
    (entry,) = comparison(load(tmp_path), "auto")["grouped"]
    assert entry["partial"] == ["gear"]
    assert entry["classes"]["gear"]["mean"][0] == 0.5
    assert entry["classes"]["gear"]["deviation"][0] is None
    assert entry["means"]["mean"][0] == pytest.approx((0.65 + 0.9) / 2)


def training(**config: Any) -> dict[str, Any]:
    return {"training": {"config": {"seed": 1, **config}}}


@pytest.mark.parametrize(
    ("first", "second", "together"),
    [
        ({"seed": 0}, {"seed": 1}, True),
        ({"seed": 0, **training(seed=0, lr=1)}, {"seed": 1, **training(seed=1, lr=1)}, True),
        ({"seed": 0, "extractor": "x"}, {"seed": 1, "extractor": "x"}, True),
        ({"seed": 0, "extractor": "x"}, {"seed": 1, "extractor": "y"}, False),
        ({"seed": 0, "extractor": "x"}, {"seed": 1}, False),
        ({"seed": 0, **training(lr=1)}, {"seed": 1, **training(lr=2)}, False),
        ({"seed": 0, **training(model={"depth": 1})}, {"seed": 1, **training(model={"depth": 2})}, False),
        ({"seed": 0, "run": "50ep_4bs"}, {"seed": 1, "run": "60ep_4bs"}, False),
        ({"seed": 0, "method": "CFM"}, {"seed": 1, "method": "other"}, False),
        ({"seed": 0}, {"seed": 0}, False),  # the same twice says nothing of seeds
        ({"seed": 0}, {}, False),
        ({}, {}, False),
    ],
)
def test_only_runs_that_differ_in_nothing_but_a_known_seed_belong_together(
    first: dict[str, Any], second: dict[str, Any], together: bool, tmp_path: Path
) -> None:
    write(tmp_path / "a", "cap", 0.8, **first)
    write(tmp_path / "b", "cap", 0.9, **second)
    members = [entry["members"] for entry in comparison(load(tmp_path), "auto")["grouped"]]
    assert members == ([[0, 1]] if together else [[0], [1]])


def test_branches_are_grouped_by_themselves_and_have_no_curve_and_no_time(tmp_path: Path) -> None:
    parts = {"timing": {"seconds_per_image_median": 0.5, "device": "cpu"}, **samples([0], [1])}
    for seed in (0, 1):
        write(tmp_path / f"{seed}", "cap", 0.9, seed=seed, branches={"3D only": 0.5 + 0.1 * seed}, parts=parts)
    data = comparison(load(tmp_path), "auto")
    assert [(e["label"], e["members"], e["branch"]) for e in data["grouped"]] == [
        ("CFM 50ep_4bs", [0, 2], False),
        ("CFM (3D only) 50ep_4bs", [1, 3], True),
    ]
    assert data["grouped"][1]["classes"]["cap"]["mean"][0] == pytest.approx(0.55)
    assert [entry["seconds"] for entry in data["grouped"]] == [0.5, None]
    assert [list(curves) for curves in data["curves"]] == [["cap"], [], ["cap"], []]
    assert vertices(data["curves"][0]["cap"]) == [(0, 0), (0, 1), (1, 1)]


def test_labels_of_groups_tell_them_apart(tmp_path: Path) -> None:
    for kind, config in (
        ("a", {"extractor": "x", **training(lr=1)}),
        ("b", {"extractor": "y", **training(lr=1)}),
        ("c", {"extractor": "y", **training(lr=2)}),
    ):
        for seed in (0, 1):
            write(tmp_path / f"{kind}{seed}", "cap", 0.9, seed=seed, **config)
    labels = [entry["label"] for entry in comparison(load(tmp_path), "auto")["grouped"]]
    base = "CFM 50ep_4bs"
    assert labels == [f"{base}, extractor x, lr 1", f"{base}, extractor y, lr 1", f"{base}, extractor y, lr 2"]


def test_labels_of_groups_fall_back_to_their_folders(tmp_path: Path) -> None:
    """Three settings go into a label; two of these groups differ in a fourth."""
    for kind, lr in (("a", 1), ("b", 1), ("c", 2)):
        others: dict[str, Any] = {"extractor": True, "mapper": True, "score": True} if kind == "a" else {}
        for seed in (0, 1):
            write(tmp_path / f"{kind}{seed}", "cap", 0.9, seed=seed, **others, **training(lr=lr))
    labels = [entry["label"] for entry in comparison(load(tmp_path), "auto")["grouped"]]
    base = "CFM 50ep_4bs"
    assert labels == [
        f"{base}, extractor True, mapper True, score True",
        f"{base}, {tmp_path}/b0, {tmp_path}/b1",
        f"{base}, {tmp_path}/c0, {tmp_path}/c1",
    ]


def test_runs_with_the_same_seed_keep_their_labels(tmp_path: Path) -> None:
    for kind in ("a", "b"):
        for seed in (0, 1):
            write(tmp_path / f"{kind}{seed}", "cap", 0.9, seed=seed)
    data = comparison(load(tmp_path), "auto")
    assert [entry["members"] for entry in data["grouped"]] == [[0], [1], [2], [3]]  # seeds 0, 1, 0, 1
    assert [entry["label"] for entry in data["grouped"]] == [entry["label"] for entry in data["single"]]
    assert len({entry["label"] for entry in data["grouped"]}) == 4


def test_settings_are_texts_without_seeds_and_hashes(tmp_path: Path) -> None:
    config: dict[str, Any] = {
        "seed": 3,
        "precision": "bf16",
        "shots": None,
        "extractor": "handcrafted",
        **training(
            precision="fp32",
            data={"sha256": "0" * 64, "shots": None},
            extractor={"extractor": "handcrafted", "version": 2},
            model={"view": "object", "layers": [1, 2]},
        ),
    }
    write(tmp_path / "a", "cap", 0.9, **config)
    write(tmp_path / "a", "gear", 0.9, **config)
    (run,) = load(tmp_path)
    assert settings_of(run) == {
        "method": "CFM",
        "precision": "bf16",
        "training precision": "fp32",
        "extractor": "handcrafted",
        "extractor version": "2",
        "view": "object",
        "layers": "[1, 2]",
    }


def test_what_differs_between_classes_stands_side_by_side(tmp_path: Path) -> None:
    for number in range(7):
        machine: dict[str, Any] = {
            "timing": {"device": "cuda" if number else "cpu", "machine": {"cpu": "EPYC", "gpu": "L4"}}
        }
        config: dict[str, Any] = {"training": {"images": number, "git_commit": "abcdefabcdef0123"}}
        write(tmp_path / "a", f"class{number}", 0.9, parts={**machine, "versions": {"torch": "2.6"}}, **config)
    (entry,) = comparison(load(tmp_path), "auto")["single"]
    assert entry["settings"] == {
        "method": "CFM",
        "training images": "7 different",
        "training commit": "abcdefabcd",
        "device": "cpu, cuda",
        "processor": "EPYC, L4",
        "torch": "2.6",
    }
    assert entry["device"] == "cpu, cuda"


def test_seconds_are_the_mean_over_classes_and_seeds(tmp_path: Path) -> None:
    for seed, times in enumerate(((0.1, 0.3), (0.4, None))):
        for name, seconds in zip(("cap", "gear"), times, strict=True):
            timing = {"timing": {"seconds_per_image_median": seconds}}
            write(tmp_path / f"{seed}", name, 0.9, seed=seed, parts=timing)
    data = comparison(load(tmp_path), "auto")
    assert [entry["seconds"] for entry in data["single"]] == pytest.approx([0.2, 0.4])
    assert data["grouped"][0]["seconds"] == pytest.approx(0.3)


def test_published_figures_by_method(tmp_path: Path) -> None:
    for name in ("bagel", "rope"):
        write(tmp_path / "a", name, 0.9)
    published = load_published()["mvtec3d"]
    found = comparison(load(tmp_path), "auto")["published"]
    by_label = {method["label"]: method for method in found}
    m3dm, cfm = by_label["M3DM"], by_label["CFM"]
    assert m3dm["classes"] == published["classes"]
    assert m3dm["benchmark"] == "MVTec 3D-AD"
    assert m3dm["figures"]["I-AUROC"] == [
        *published["i_auroc"]["M3DM"]["per_class"],
        published["i_auroc"]["M3DM"]["mean"],
    ]
    assert set(m3dm["figures"]) == {"I-AUROC", "AUPRO@30%"}
    assert cfm["figures"]["P-AUROC"] == [*[None] * 10, published["p_auroc"]["CFM"]["mean"]]
    assert m3dm["sources"] == [published[key]["M3DM"]["source"] for key in ("i_auroc", "aupro_0.3")]
    assert comparison(load(tmp_path), "none")["published"] == []
    with pytest.raises(UserError, match=r"--dataset eyecandies: none of the classes found \(bagel, rope\)"):
        comparison(load(tmp_path), "eyecandies")


def test_old_files_with_figures_only_are_enough(tmp_path: Path) -> None:
    path = write(tmp_path / "a", "cap", None, defects={})
    result = json.loads(path.read_text())
    odds: tuple[dict[str, Any], ...] = ({}, {"config": None}, {"timing": None, "versions": 3, "samples": None})
    for odd in odds:
        path.write_text(json.dumps({**{k: v for k, v in result.items() if k != "config"}, **odd}))
        data = comparison(load(tmp_path), "auto")
        (entry,) = data["single"]
        assert entry["means"]["mean"] == [None] * 10
        assert (entry["seconds"], entry["device"], entry["settings"], entry["seeds"]) == (None, "", {}, [])
        assert data["curves"] == [{}]
        json.dumps(data, allow_nan=False)


@pytest.mark.parametrize(
    ("parts", "what"),
    [
        ({"samples": 3}, "samples"),
        ({"samples": [3]}, "samples"),
        ({"samples": [{"label": 1}]}, r"samples .*KeyError\('image_score'\)"),
        ({"samples": [{"label": 1, "image_score": "high"}]}, "samples .*'high'"),
        (samples([math.nan], [1]), "NaN or infinite"),
        ({"timing": {"seconds_per_image_median": "fast"}}, "expected seconds an image, found 'fast'"),
        ({"timing": {"seconds_per_image_median": math.inf}}, "NaN or infinite"),
        ({"p_auroc": math.nan}, "NaN or infinite"),
        ({"per_defect": {"hole": {"i_auroc": math.inf, "p_auroc": 1, "aupro_0.3": 1}}}, "NaN or infinite"),
    ],
)
def test_damaged_files_are_named(parts: dict[str, Any], what: str, tmp_path: Path) -> None:
    write(tmp_path / "a", "cap", 0.9)
    write(tmp_path / "a", "gear", 0.9, parts=parts)
    with pytest.raises(UserError, match=rf"gear_50ep_4bs\.json: damaged, .*{what}.*Run the evaluation of this class"):
        comparison(load(tmp_path), "auto")


def test_deeply_nested_settings_do_no_harm(tmp_path: Path) -> None:
    deep: dict[str, Any] = {"end": "x" * 1000}
    for _ in range(300):
        deep = {"k": deep}
    write(tmp_path / "a", "cap", 0.9, **training(deep=deep))
    ((_, text),) = [(k, v) for k, v in settings_of(load(tmp_path)[0]).items() if "end" in k]
    assert text == "x" * 120


def test_pages_of_classes_are_linked_where_they_exist(tmp_path: Path) -> None:
    for name in ("cap", "nut & bolt", "gear"):
        result = write(tmp_path / "runs/a", name, 0.9)
        if name != "gear":
            (result.parent / result.stem).mkdir()
            (result.parent / result.stem / "report.html").touch()
    page = tmp_path / "pages/comparison.html"
    found = reports(page, load_folders([tmp_path / "runs/a"]))
    prefix = "../runs/a"
    assert found == {
        "CFM 50ep_4bs": [
            ("cap", f"{prefix}/cap_50ep_4bs/report.html"),
            ("nut & bolt", f"{prefix}/nut%20%26%20bolt_50ep_4bs/report.html"),
        ]
    }
    text = write_comparison(page, load_folders([tmp_path / "runs/a"]), "none").read_text()
    assert f'<a href="{prefix}/nut%20%26%20bolt_50ep_4bs/report.html">nut &amp; bolt</a>' in text
