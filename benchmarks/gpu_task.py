"""What a step of on_gpu.py is given, and how it answers: figures, notes, a reason to skip; each written at once."""

import json
import statistics
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.measure import Setting, Work, timed


class Skipped(Exception):
    """A step cannot be done here; the text says why."""


@dataclass(frozen=True)
class Task:
    """One step of a run.

    Attributes:
        device: `cuda`, `cuda:N`, or `cpu`, which then takes the GPU's place.
        small: small sizes, for a trial of the steps themselves.
        folder: of the run: each step's answers in NAME.jsonl, and the files that it makes.
        name: of the step.
    """

    device: str
    small: bool
    folder: Path
    name: str

    @property
    def setting(self) -> Setting:
        """For the cases of the other benchmarks."""
        return Setting(self.device, self.folder)

    def tell(
        self,
        name: str,
        value: float,
        unit: str,
        *,
        least: float | None = None,
        most: float | None = None,
        floor: float | None = None,
    ) -> None:
        """Report a figure.

        Args:
            name, value, unit: of it.
            least, most: its target, one of them or none.
            floor: what it would be if arithmetic alone took time, at the rate that the machine was measured to have.
        """
        target = least if least is not None else most
        figure = {"figure": name, "value": value, "unit": unit, "target": target, "floor": floor}
        reached = None if target is None else value >= target if least is not None else value <= target
        self._write({**figure, "reached": reached})
        words = []
        if target is not None:
            words += [f"target {'≥' if least is not None else '≤'} {target:g}: {'reached' if reached else 'missed'}"]
        if floor is not None:
            words += [f"arithmetic alone: {floor:.4g}"]
        said = f" ({', '.join(words)})" if words else ""
        print(f"  {name}: {value:.4g} {unit}{said}", flush=True)

    def note(self, name: str, value: Any) -> None:
        """Report anything else, as JSON values."""
        self._write({"note": name, "value": value})
        print(f"  {name}: {value}", flush=True)

    def check(self, correct: bool, name: str, found: Any) -> None:
        """Report whether something is right. Raises AssertionError where it is not."""
        self.note(name, found)
        if not correct:
            raise AssertionError(f"{name}: {found}")

    def _write(self, line: dict[str, Any]) -> None:
        with (self.folder / f"{self.name}.jsonl").open("a", encoding="utf-8") as file:
            file.write(json.dumps(line) + "\n")


def answers(folder: Path, step: str) -> list[dict[str, Any]]:
    """What a step has told so far."""
    path = folder / f"{step}.jsonl"
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()] if path.exists() else []


def rate(task: Task, precision: str) -> float | None:
    """Operations a second that the step `machine` measured of bare matrix products; None where it told none."""
    found = {line.get("figure"): line["value"] for line in answers(task.folder, "machine")}
    value = found.get(f"matrix products, {precision}")
    return None if value is None else float(value) * 1e12


def median_seconds(work: Work, repetitions: int) -> float:
    """Seconds of a step after a warm-up."""
    timed(work)
    return statistics.median(timed(work) for _ in range(repetitions))
