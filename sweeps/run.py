"""A sweep from its grid to its tables: what `sweep.py` calls."""

import argparse
import secrets
import shlex
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import yaml
from tqdm import tqdm

from sweeps.engines import Shares, run_local, run_ray, slurm_script
from sweeps.grid import Grid, Point, read_grid
from sweeps.jobs import Job, Parsers, Step, make_jobs
from sweeps.locks import LOCK
from sweeps.results import check_published, write_tables
from sweeps.work import STATES, Place, record_of, state_of, work_to_the_end
from utils.errors import UserError


class Sweep:
    """A grid, its jobs, and the folder that they are in."""

    def __init__(self, options: argparse.Namespace, parsers: Parsers) -> None:
        """options: of `sweep.py`. parsers: see `sweeps.jobs`. Raises UserError where the grid cannot be done."""
        self.options = options
        self.grid: Grid = read_grid(options.grid, _replaced(options.set))
        check_published(self.grid)
        self.points: list[Point] = self.grid.points()
        self.jobs, self.steps = make_jobs(self.grid, self.points, parsers)
        self.place = Place(options.output.absolute(), Path.cwd(), secrets.token_hex(8), options.resume)

    def states(self) -> dict[str, list[Job]]:
        """The jobs by their state, see STATES."""
        found: dict[str, list[Job]] = {state: [] for state in STATES}
        for job in self.jobs:
            found[state_of(self.place, job)[0]].append(job)
        return found

    def describe(self, job: Job) -> str:
        """What sets a job apart, in words: the values that all of its points share."""
        labels = [self.points[number].labels for number in job.points]
        shared = {name: text for name, text in labels[0].items() if all(own[name] == text for own in labels)}
        return f"{job.id} ({', '.join(f'{name} {text}' for name, text in shared.items()) or self.grid.title})"

    def failure(self, job: Job) -> tuple[Step, dict[str, Any]] | None:
        """The command of a job that failed, and what is known of it."""
        records = ((step, record_of(self.place, job, step)) for step in job.steps)
        return next(((step, record) for step, record in records if record and record["status"]), None)

    def tables(self) -> str | None:
        """Write the tables of what is finished, see `sweeps.results.write_tables`."""
        by_point = {number: job for job in self.jobs for number in job.points}
        folders = [[self.place.step(by_point[i], step) for step in own] for i, own in enumerate(self.steps)]
        return write_tables(self.grid, self.points, folders, self.place.root / self.grid.name)


def run_sweep(options: argparse.Namespace, parsers: Parsers) -> int:
    """Do what a grid's jobs still lack, then write its tables.

    Returns:
        Exit status: 0 if every job is finished, else 1.
    """
    sweep = Sweep(options, parsers)
    states = sweep.states()
    todo = [*states["waiting"], *(states["failed"] if options.resume else [])]
    order = {job.id: number for number, job in enumerate(sweep.jobs)}
    todo.sort(key=lambda job: order[job.id])
    if options.dry_run:
        return _show(sweep, todo, states)
    if options.engine == "slurm":
        return _print_array(sweep, todo)
    _work(sweep, todo, done=len(states["finished"]))
    return _conclude(sweep)


def _work(sweep: Sweep, todo: Sequence[Job], done: int) -> None:
    """Work on jobs under a progress bar. done: jobs that are finished already."""
    shares = Shares(sweep.options.jobs, sweep.options.gpus_per_job)
    if sweep.options.engine == "ray":
        ended: Iterator[Job] = run_ray(sweep.place, todo, shares, sweep.options.address)
    else:
        ended = run_local(sweep.place, todo, shares)
    failures = 0
    with tqdm(total=len(sweep.jobs), initial=done, desc=sweep.grid.name, unit="job") as bar:
        for job in ended:
            state = state_of(sweep.place, job)[0]
            if state == "failed" and (found := sweep.failure(job)):
                failures += 1
                bar.write(f"failed: {sweep.describe(job)}: {found[1]['message']}", file=sys.stderr)
                bar.set_postfix_str(f"{failures} failed", refresh=False)
            bar.update(state == "finished")


def _conclude(sweep: Sweep) -> int:
    """Print and write the tables, and say what is not finished."""
    states = sweep.states()
    if (markdown := sweep.tables()) is not None:
        print(markdown)
        print(f"tables: {sweep.place.root / sweep.grid.name}")
    if len(states["finished"]) == len(sweep.jobs):
        return 0
    _print_unfinished(sweep, states)
    return 1


def _print_unfinished(sweep: Sweep, states: dict[str, list[Job]]) -> None:
    """A table of the jobs that failed, and who holds others."""
    if states["failed"]:
        lines = ["| failed job | command | message | log |", "| --- | --- | --- | --- |"]
        for job in states["failed"]:
            step, record = sweep.failure(job) or (job.steps[0], {"message": ""})
            log = sweep.place.step(job, step) / "log.txt"
            message = record["message"].replace("|", "\\|")
            lines.append(f"| {sweep.describe(job)} | {Path(step.words[0]).name} | {message} | {log} |")
        print("\n".join(lines), "--resume tries them again.", sep="\n", file=sys.stderr)
    for job in states["locked"]:
        owner = state_of(sweep.place, job)[1]
        elsewhere = owner is not None and owner.lives is None
        advice = f", or did: if that process is no more, remove {sweep.place.job(job) / LOCK}" if elsewhere else ""
        print(f"{sweep.describe(job)}: {owner} works on it{advice}", file=sys.stderr)


def _show(sweep: Sweep, todo: Sequence[Job], states: dict[str, list[Job]]) -> int:
    """Print the commands that would be run."""
    for job in todo:
        print(f"# {sweep.describe(job)}")
        for step in job.steps:
            record = record_of(sweep.place, job, step)
            if record is None or record["status"]:
                print(shlex.join(["python", *sweep.place.words(job, step)]))
    counts = ", ".join(f"{len(states[state])} {state}" for state in STATES)
    print(f"# {len(sweep.points)} points, {len(sweep.jobs)} jobs: {counts}")
    return 0


def _print_array(sweep: Sweep, todo: Sequence[Job]) -> int:
    if not todo:
        raise UserError(
            f"{sweep.grid.name}: nothing is left to be done. sweep.py tables {sweep.options.grid} prints them."
        )
    options = sweep.options
    words = [str(options.grid), "--output", str(options.output), *(["--resume"] if options.resume else [])]
    words += ["--set", *options.set] if options.set else []
    print(slurm_script(options.grid, words, todo, Shares(options.jobs, options.gpus_per_job)), end="")
    return 0


def work_on_one(options: argparse.Namespace, parsers: Parsers) -> int:
    """Work on the job of --id in this process; exit status 1 unless it is finished then."""
    sweep = Sweep(options, parsers)
    chosen = [job for job in sweep.jobs if job.id == options.id]
    if not chosen:
        raise UserError(f"--id {options.id}: {sweep.grid.name} has no such job. --dry_run lists those to be done.")
    work_to_the_end(sweep.place, chosen[0], {})
    states = sweep.states()
    _print_unfinished(sweep, {state: [job for job in jobs if job in chosen] for state, jobs in states.items()})
    return 0 if chosen[0] in states["finished"] else 1


def print_status(options: argparse.Namespace, parsers: Parsers) -> int:
    """Print how many jobs are in which state, who works on which, and what failed."""
    sweep = Sweep(options, parsers)
    states = sweep.states()
    print(f"{sweep.grid.title}: {len(sweep.jobs)} jobs in {sweep.place.root}")
    print("\n".join(f"{state:9} {len(jobs):5}" for state, jobs in states.items()))
    spent = [
        record["seconds"]
        for job in states["finished"]
        for step in job.steps
        if (record := record_of(sweep.place, job, step))
    ]
    if spent and (left := len(sweep.jobs) - len(states["finished"])):
        hours = sum(spent) / len(states["finished"]) * left / 3600
        print(f"{left} jobs are left, {hours:.1f} hours one after the other, if they take as long as the finished ones")
    _print_unfinished(sweep, states)
    return 0


def print_tables(options: argparse.Namespace, parsers: Parsers) -> int:
    """Write and print the tables of what is finished; exit status 1 unless that is all."""
    sweep = Sweep(options, parsers)
    return _conclude(sweep)


def _replaced(words: Sequence[str]) -> dict[str, Any]:
    """Options of --set NAME=VALUE; the value is YAML, so that [a, b] is a list."""
    found = {}
    for word in words:
        name, sign, text = word.partition("=")
        if not sign or not name.isidentifier():
            raise UserError(f"--set {word}: expected NAME=VALUE, for example class_name=[bagel, rope] or device=cpu.")
        try:
            found[name] = yaml.safe_load(text)
        except yaml.YAMLError as error:
            raise UserError(f"--set {word}: the value is no YAML ({' '.join(str(error).split()):.200}).") from error
    return found


COMMANDS = {"run": run_sweep, "status": print_status, "tables": print_tables, "job": work_on_one}
"""Command of `sweep.py` → what does it."""
