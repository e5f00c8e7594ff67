"""What documents hold: their commands, to be run in this process, and their Python."""

import importlib
import re
import shlex
from collections.abc import Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]


def documents() -> list[Path]:
    """README and the chapters."""
    return [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]


def blocks(document: Path, language: str = "") -> list[str]:
    """The fenced blocks of a document in one language, or of none, without their indentation."""
    text = document.read_text(encoding="utf-8")
    found = re.findall(r"^( *)```(\w*)\n(.*?)^ *```$", text, flags=re.DOTALL | re.MULTILINE)
    return [re.sub(f"^{indent}", "", body, flags=re.MULTILINE) for indent, name, body in found if name == language]


def commands(document: Path) -> list[list[str]]:
    """The words of each command of a document: of the lines in fenced blocks that begin with python or bash."""
    lines = [line for block in blocks(document) for line in block.replace("\\\n", " ").splitlines()]
    return [shlex.split(line, comments=True) for line in lines if line.startswith(("python ", "bash "))]


def run_here(words: Sequence[str]) -> int:
    """Run `SCRIPT …` of the project in this process; its exit status."""
    name = words[0].removesuffix(".py").replace("/", ".")
    status: int = importlib.import_module(name).main(list(words[1:]))
    return status
