"""From points to jobs: what is run for them, in which folders, and under which names."""

import argparse
import contextlib
import io
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from models.method import Method
from models.methods import METHODS
from sweeps.grid import Grid, Point
from utils.errors import UserError
from utils.files import sha256_text

Parsers = Mapping[str, Callable[[Method], argparse.ArgumentParser]]
"""Script → the options that it has for a method. Scripts that are not among these get all options of their own."""

PLACES = {
    "checkpoint_savepath": "{job}/checkpoints",
    "checkpoint_folder": "{job}/checkpoints",
    "quantitative_folder": "{step}/results",
    "qualitative_folder": "{step}/pictures",
}
"""Options that say where files go: each job has a folder, and each command of it one within that."""
SHARED = {"token_cache": "{tokens}", "resume": True}
"""What else is asked for where a command has it; neither changes a result. A grid may say otherwise."""


@dataclass(frozen=True)
class Step:
    """One command of a job.

    Attributes:
        name: of its folder in the job's: the script, and a hash of its options.
        words: the command line without Python. In them {job}, {step} and {tokens} stand for folders.
    """

    name: str
    words: tuple[str, ...]


@dataclass(frozen=True)
class Job:
    """What is done in one go and in one folder: a command, and all commands that go on from what it wrote.

    Attributes:
        id: hash of the first command's options; name of the folder.
        steps: in the order in which they are run.
        points: those that it is for, by their numbers.
    """

    id: str
    steps: tuple[Step, ...]
    points: tuple[int, ...]


def make_jobs(grid: Grid, points: Sequence[Point], parsers: Parsers) -> tuple[list[Job], list[list[Step]]]:
    """The jobs of a grid. Points whose first commands are the same share one: what they train is trained once.

    Returns:
        The jobs in the order of their first points; and for each point its steps.

    Raises:
        UserError: an unknown method, or options that a command refuses.
    """
    maker = _StepMaker(grid, parsers)
    steps = [maker.steps(point) for point in points]
    jobs: dict[str, Job] = {}
    for number, own in enumerate(steps):
        name = own[0].name.rpartition("_")[2]
        job = jobs.get(name, Job(name, (), ()))
        jobs[name] = replace(job, steps=tuple(dict.fromkeys((*job.steps, *own))), points=(*job.points, number))
    return list(jobs.values()), steps


class _StepMaker:
    """Makes commands of points, with one parser for each script and method."""

    def __init__(self, grid: Grid, parsers: Parsers) -> None:
        self.grid, self.parsers = grid, parsers
        self.made: dict[tuple[str, str], argparse.ArgumentParser] = {}

    def steps(self, point: Point) -> list[Step]:
        """The commands of a point."""
        found = []
        used: set[str] = {"method"}
        for command in self.grid.commands:
            if isinstance(command, str):
                options, words = self._known(command, point)
                used |= options.keys()
            else:
                [(command, own)] = command.items()
                options = {name: _filled(value, point) for name, value in own.items()}
                words = _words(command, options)
                used |= point.options.keys()
            said = sorted((name, str(value)) for name, value in options.items() if _words("", {name: value})[1:])
            text = json.dumps([Path(command).name, said])
            found.append(Step(f"{Path(command).stem}_{sha256_text(text)[:12]}", tuple(words)))
        if unknown := sorted(point.options.keys() - used):
            raise UserError(
                f"{self.grid.name}: none of {', '.join(map(str, self.grid.commands))} has the option "
                f"--{unknown[0]} with method {point.options.get('method')}. Remove it from the grid, or correct it."
            )
        return found

    def _known(self, script: str, point: Point) -> tuple[dict[str, Any], list[str]]:
        """Those of a point's options that a script has, and its command line, checked as the script checks it."""
        if script not in self.parsers:
            raise UserError(
                f"{self.grid.name}: commands: {script} takes its options from a mapping, `- {script}: {{name: value}}`"
                f"; without one stand {', '.join(self.parsers)}."
            )
        method = _method(self.grid, point)
        if (key := (script, method.name)) not in self.made:
            self.made[key] = self.parsers[script](method)
        parser = self.made[key]
        known = vars(parser.parse_args(["--class_name", "x"])).keys()
        if given := sorted(point.options.keys() & PLACES.keys()):
            raise UserError(f"{self.grid.name}: --{given[0]} is set by the sweep. Remove it from the grid.")
        options = {name: value for name, value in point.options.items() if name in known}
        places = {name: value for name, value in (PLACES | SHARED | options).items() if name in known}
        _check_words(parser, _words("", places)[1:], f"{self.grid.name}: {script}")
        method_of = {"method": point.options["method"]}
        return method_of | options, _words(script, method_of | places)


def _method(grid: Grid, point: Point) -> Method:
    name = point.options.get("method")
    if name not in METHODS:
        raise UserError(
            f"{grid.name}: method {name!r} is not known; there are {', '.join(METHODS)}. Correct the grid, or leave "
            "that method out of it."
        )
    return METHODS[name]


def _check_words(parser: argparse.ArgumentParser, words: Sequence[str], where: str) -> None:
    """Refuse what a script would refuse. Raises UserError."""
    with contextlib.redirect_stderr(io.StringIO()) as said:
        try:
            parser.parse_args(words)
        except SystemExit as error:
            reason = said.getvalue().strip().rpartition("error: ")[2]
            raise UserError(f"{where} refuses {' '.join(words)}: {reason}") from error


def _filled(value: Any, point: Point) -> Any:
    """A text with the values of a point's options in the place of their names: {class_name}."""
    if not isinstance(value, str):
        return value
    for name, own in point.options.items():
        value = value.replace(f"{{{name}}}", str(own))
    return value


def _words(script: str, options: Mapping[str, Any]) -> list[str]:
    """A command line: true is an option without a value; null and false leave it out."""
    words = [script]
    for name, value in options.items():
        if value is True:
            words.append(f"--{name}")
        elif value is not None and value is not False:
            words += [f"--{name}", str(value)]
    return words
