"""`00_demo.sh` from generated scenes to tables, with the seconds of each of its programs."""

import os
import re
import subprocess
from itertools import pairwise
from pathlib import Path

from benchmarks.measure import Setting, Work

ROOT = Path(__file__).resolve().parents[1]
TRACED = 'PS4="@ \\$EPOCHREALTIME "; set -x; source "$0"'
"""Bash code that runs the script $0 and notes on stderr, with the time, each command that it begins."""


def demo(setting: Setting, script: Path = ROOT / "00_demo.sh") -> Work:
    """The script, once; its results go to a temporary folder."""
    seconds: dict[str, float] = {}
    environment = {**os.environ, "LC_ALL": "C.UTF-8", "RESULTS": str(setting.folder)}

    def step() -> None:
        seconds.clear()
        command = ["bash", "-c", TRACED, str(script)]
        ran = subprocess.run(command, check=True, capture_output=True, text=True, env=environment, cwd=script.parent)
        seconds.update(stages(ran.stderr))

    return Work(step, figures=lambda: {"stages": seconds})


def stages(trace: str) -> dict[str, float]:
    """Seconds of each Python program in a trace by TRACED: from its own line to the next, summed over its calls."""
    found: dict[str, float] = {}
    lines = re.findall(r"^@+ (\d+\.\d+) (.*)$", trace, re.MULTILINE)
    for (begin, command), (end, _) in pairwise(lines):
        program = re.match(r"\S*python\S* (\S+\.py)", command)
        if program:
            found[program[1]] = round(found.get(program[1], 0) + float(end) - float(begin), 2)
    return found
