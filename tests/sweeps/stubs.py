"""Grids of stub commands: small scripts in place of the project's, that take no time and whose results are known."""

import json
from pathlib import Path
from typing import Any

import sweep
from sweeps.locks import LOCK
from sweeps.run import Sweep
from sweeps.work import RECORD
from tests.report.comparison_files import write

METRIC_OF = """
import os, sys, time  # and no more: others take longer to import than all that is done here

options = dict(zip(sys.argv[1::2], sys.argv[2::2]))
with open(options["--trace"], "a") as trace:
    trace.write(options["--value"] + " " + options["--seed"] + "\\n")
time.sleep(float(options.get("--seconds", 0)))
if options["--value"] in options.get("--broken", "").split(","):
    print("Traceback (most recent call last):")
    print("ValueError: the value is " + options["--value"])
    sys.exit(3)
value = int(options["--value"]) / 100 + int(options["--seed"]) / 1000
own = {"VALUE": str(value), "SEED": options["--seed"], "CLASS": '"' + options["--class_name"] + '"'}
with open(options["--template"]) as file:
    result = file.read()
for name in own:
    result = result.replace('"' + name + '"', own[name])
os.makedirs(options["--quantitative_folder"], exist_ok=True)
with open(options["--quantitative_folder"] + "/" + options["--class_name"] + "_50ep_4bs.json", "w") as file:
    file.write(result)
"""
"""Writes a result file whose I-AUROC is VALUE / 100 + SEED / 1000, and a line to a file, for each time it is run."""


def write_grid(folder: Path, options: dict[str, Any], extra: str = "", **more: Any) -> Path:
    """A grid whose only command is the stub. options: of the grid. extra: more options of the stub, as YAML's words."""
    folder.mkdir(parents=True, exist_ok=True)
    script = folder / "stub.py"
    script.write_text(METRIC_OF)
    write(folder, "template", 0.5)
    template = folder / "template_50ep_4bs.json"
    result = json.loads(template.read_text()) | {"i_auroc": "VALUE", "class_name": "CLASS"}
    result["config"]["seed"] = "SEED"
    template.write_text(json.dumps(result))
    places = {"quantitative_folder": "{step}/results", "trace": str(folder / "trace")}
    own = places | {"template": str(template)}
    own |= {name: f"{{{name}}}" for name in ("value", "seed", "class_name")} | json.loads(extra or "{}")
    content = {"title": "Stubs", "commands": [{str(script): own}], "options": options, **more}
    path = folder / "stubs.yaml"
    path.write_text(json.dumps(content))  # which is YAML too
    return path


def trace(folder: Path) -> list[str]:
    """What was run, a line each."""
    path = folder / "trace"
    return path.read_text().splitlines() if path.exists() else []


def load(grid: Path, output: Path, *words: str) -> Sweep:
    """The sweep of a grid."""
    return Sweep(sweep.parse([str(grid), "--output", str(output), *words]), sweep.PARSERS)


def counts(grid: Path, output: Path) -> dict[str, int]:
    """Number of jobs in each state that has any."""
    return {state: len(jobs) for state, jobs in load(grid, output).states().items() if jobs}


def grid_file(folder: Path) -> Path:
    """A grid."""
    options = {"kind": {"a": {"seed": 0}, "b": {"seed": 1}}, "value": [1, 2], "class_name": "gear"}
    content = {"title": "Some", "options": options, "exclude": [{"kind": "a", "value": 1}], "curve": "value"}
    (folder / "some.yaml").write_text(json.dumps(content))  # which is YAML too
    return folder / "some.yaml"


def lock_file(folder: Path) -> Path:
    """The lock of a job."""
    owner = {"host": "elsewhere", "pid": 7, "born": "1", "since": "2026-01-01 00:00:00 UTC", "sweep": "ab"}
    (folder / LOCK).write_text(json.dumps(owner))
    return folder / LOCK


def record_file(folder: Path) -> Path:
    """The record of a command that failed."""
    record = {"status": 3, "message": "exit status 3", "tail": ["a", "b"], "command": ["x"], "seconds": 1.5}
    (folder / RECORD).write_text(json.dumps(record))
    return folder / RECORD
