"""A grid: a YAML file of options, each with one value or several, and the points that it stands for."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import product
from pathlib import Path
from typing import Any

import yaml

from utils.files import read_text, read_with

COMMANDS = ("train.py", "evaluate.py")
CLASS, SEED = "class_name", "seed"
"""Options that a row of a table is taken over: it has figures of every class, and of every seed."""


@dataclass(frozen=True)
class Point:
    """One choice of a value for every option.

    Attributes:
        labels: option → text of its value, of the `Grid.axes`.
        options: option → value, of all; named choices are dissolved into theirs.
    """

    labels: Mapping[str, str]
    options: Mapping[str, Any]

    @property
    def row(self) -> tuple[tuple[str, str], ...]:
        """What tells the row of the tables: labels but those of class and seed."""
        return tuple((name, text) for name, text in self.labels.items() if name not in (CLASS, SEED))


@dataclass(frozen=True)
class Grid:
    """A grid as its file says it.

    Attributes:
        name: of the file, without suffix. title: of tables and pages.
        options: option → its values; a mapping of names → options is a choice between these.
        exclude: points with all of these texts of options are left out.
        commands: of each point, in their order: names of scripts, or a mapping from one to all of its options.
        benchmark: whose published figures to show, see `evaluation.tables.published`; None for none.
        published: row → name of the published method that it stands beside.
        compare: option whose values are compared, each with the first; empty: the first with several values.
        curve: option along whose values curves are drawn; empty for none. against: `seconds` an image, where these are
            to be the axis at first, not the option.
        notes: to stand below the tables.
    """

    name: str
    title: str
    options: Mapping[str, Any]
    exclude: Sequence[Mapping[str, Any]] = ()
    commands: Sequence[str | Mapping[str, Mapping[str, Any]]] = COMMANDS
    benchmark: str | None = None
    published: Mapping[str, str] = field(default_factory=dict)
    compare: str = ""
    curve: str = ""
    against: str = ""
    notes: Sequence[str] = ()

    @property
    def axes(self) -> list[str]:
        """The options that set points apart, in the order of the file: with several values, or with named ones."""
        return [name for name, v in self.options.items() if isinstance(v, dict) or len(_values(name, v)) > 1]

    def points(self) -> list[Point]:
        """All choices of values, the last option changing fastest, without those that are excluded."""
        axes = self.axes
        choices = product(*(_values(name, values) for name, values in self.options.items()))
        found = [_point(choice, axes) for choice in choices]
        return [point for point in found if not any(_matches(point, rule) for rule in self.exclude)]

    def label(self, row: Sequence[tuple[str, str]]) -> str:
        """Name of a `Point.row`: named values by their names, others with their option's."""
        parts = [text if isinstance(self.options[name], dict) else f"{name} {text}" for name, text in row]
        return ", ".join(parts) or self.title


def read_grid(path: Path, replaced: Mapping[str, Any] | None = None) -> Grid:
    """Read a grid.

    Args:
        path: of the file.
        replaced: options whose values stand in the place of the file's, or are added.

    Raises:
        UserError: the file is no grid.
    """

    def parse(file: Path) -> Grid:
        content = yaml.safe_load(read_text(file))
        if not isinstance(content, dict) or not isinstance(content.get("options"), dict):
            raise ValueError("expected `title` and a mapping `options` from names to values")
        known = set(Grid.__dataclass_fields__) - {"name"}
        if unknown := sorted(map(str, content.keys() - known)):
            raise ValueError(f"unknown {', '.join(unknown)}; known are {', '.join(sorted(known))}")
        grid = Grid(file.stem, **{"title": file.stem, **content, "options": content["options"] | dict(replaced or {})})
        _check(grid)
        return grid

    return read_with(path, parse, "See docs/sweeps.md for what a grid holds.")


def _check(grid: Grid) -> None:
    """Raises ValueError where the parts do not fit each other."""
    axes = grid.axes
    for rule in grid.exclude:
        if not isinstance(rule, dict) or not rule or (unknown := sorted(rule.keys() - set(axes))):
            raise ValueError(f"exclude: expected options with several values ({', '.join(axes)}), found {unknown}")
    if grid.compare and grid.compare not in grid.options:
        raise ValueError(f"compare: {grid.compare} is none of the options")
    if grid.curve and grid.curve not in axes:
        raise ValueError(f"curve: expected an option with several values ({', '.join(axes)}), found {grid.curve}")
    if grid.against not in ("", "seconds"):
        raise ValueError(f"against: expected seconds, or nothing, found {grid.against!r:.60}")
    if not grid.commands:
        raise ValueError("commands: expected at least one script")
    points = grid.points()
    if not points:
        raise ValueError("no point is left: every one is excluded, or an option has no value")
    rows = {grid.label(point.row) for point in points}
    if unknown := sorted(grid.published.keys() - rows):
        raise ValueError(f"published: {unknown} is none of the rows {sorted(rows)}")


def _values(name: str, values: Any) -> list[tuple[str, str, Mapping[str, Any]]]:
    """Option, text and options of each value. Raises ValueError where something else stands there."""
    if isinstance(values, dict):
        wrong = [text for text, own in values.items() if not isinstance(own, dict)]
        if wrong:
            raise ValueError(f"{name}: expected a mapping of options for each name, found none for {wrong[0]}")
        return [(name, str(text), own) for text, own in values.items()]
    listed = values if isinstance(values, list) else [values]
    if wrong := [value for value in listed if not isinstance(value, str | int | float | None)]:
        raise ValueError(f"{name}: expected texts, numbers, true, false or null, found {wrong[0]!r:.60}")
    return [(name, _text(value), {name: value}) for value in listed]


def _text(value: Any) -> str:
    return "all" if value is None else str(value)


def _point(choice: Sequence[tuple[str, str, Mapping[str, Any]]], axes: Sequence[str]) -> Point:
    options: dict[str, Any] = {}
    for _, _, own in choice:
        options |= own
    return Point({name: text for name, text, _ in choice if name in axes}, options)


def _matches(point: Point, rule: Mapping[str, Any]) -> bool:
    return all(
        point.labels[name] in map(_text, wanted if isinstance(wanted, list) else [wanted])
        for name, wanted in rule.items()
    )
