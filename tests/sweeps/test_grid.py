"""sweeps/grid.py: what points a grid stands for, and what is no grid."""

import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from sweeps.grid import Grid, read_grid
from utils.errors import UserError


def read(folder: Path, text: str, **replaced: Any) -> Grid:
    (folder / "some.yaml").write_text(text)
    return read_grid(folder / "some.yaml", replaced)


GRID = """
title: Some
options:
  kind:
    plain: {method: cfm}
    fine: {method: cfm, mapper: mlp_big, batch_size: 2}
  shots: [5, null]
  device: cpu
  seed: [0, 1]
exclude:
  - {kind: fine, shots: all}
  - {kind: plain, shots: 5, seed: [1]}
"""


def test_points_are_all_choices_but_the_excluded_ones(tmp_path: Path) -> None:
    grid = read(tmp_path, GRID)
    points = grid.points()
    assert [" ".join(point.labels.values()) for point in points] == [
        "plain 5 0",
        "plain all 0",
        "plain all 1",
        "fine 5 0",
        "fine 5 1",
    ]
    assert points[0].options == {"method": "cfm", "shots": 5, "device": "cpu", "seed": 0}
    assert points[3].options == {
        **{"method": "cfm", "mapper": "mlp_big", "batch_size": 2},
        **{"shots": 5, "device": "cpu", "seed": 0},
    }
    assert [grid.label(point.row) for point in points] == [
        "plain, shots 5",
        *["plain, shots all"] * 2,
        *["fine, shots 5"] * 2,
    ]
    assert (grid.name, grid.title, grid.axes) == ("some", "Some", ["kind", "shots", "seed"])


def test_options_are_replaced_and_added(tmp_path: Path) -> None:
    grid = read(tmp_path, "options: {seed: [0, 1], shots: 5}", seed=7, class_name=["a", "b"])
    assert [dict(point.options) for point in grid.points()] == [
        {"seed": 7, "shots": 5, "class_name": name} for name in ("a", "b")
    ]
    assert {grid.label(point.row) for point in grid.points()} == {"some"}  # classes are no rows


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("[1, 2]", "mapping `options`"),
        ("title: x", "mapping `options`"),
        ("options: {a: 1}\nsedes: 3", "unknown sedes"),
        ("options: {a: [1, [2]]}", "a: expected texts, numbers.*found \\[2\\]"),
        ("options: {a: {b: 1}}", "a: expected a mapping of options for each name"),
        ("options: {a: []}", "no point is left"),
        ("options: {a: [1, 2], b: 3}\nexclude: [{b: 3}]", "exclude: expected options with several values \\(a\\)"),
        ("options: {a: [1, 2]}\nexclude: [{a: [1, 2]}]", "no point is left"),
        ("options: {a: 1}\ncompare: b", "compare: b is none"),
        ("options: {a: 1}\ncurve: a", "curve: expected an option with several values"),
        ("options: {a: [1, 2]}\nagainst: memory", "against: expected seconds"),
        ("options: {a: 1}\ncommands: []", "commands"),
        ("options: {a: [1, 2]}\npublished: {a 3: X}", "published: \\['a 3'\\] is none of the rows"),
        ("options: {a: &a [1, *a]}", "cannot be read"),
        ("!!python/object/apply:os.getcwd []", "cannot be read"),
    ],
)
def test_what_is_no_grid_is_refused_in_words(text: str, found: str, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=f"{re.escape(str(tmp_path / 'some.yaml'))}: .*{found}"):
        read(tmp_path, text)


def test_grids_of_the_project_hold_what_their_title_says() -> None:
    """Each is YAML whose keys are those of a grid; tests/sweeps/test_jobs.py makes their commands."""
    root = Path(__file__).resolve().parents[2] / "grids"
    names = {path.stem for path in root.glob("*.yaml")}
    assert names >= {"mvtec_tables", "eyecandies_tables", "few_shot", "layer_pruning", "aggregations", "seeds"}
    assert names >= {"baselines", "demo"}
    for path in root.glob("*.yaml"):
        assert read_grid(path).title == yaml.safe_load(path.read_text())["title"]
