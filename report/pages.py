"""From a template and its values to one HTML file that needs nothing but itself."""

import json
import os
import secrets
from functools import cache
from pathlib import Path
from typing import Any
from urllib.parse import quote

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from jinja2.utils import htmlsafe_json_dumps
from markupsafe import Markup

from utils.files import atomic_path

FOLDER = Path(__file__).parent / "assets"


def render(template: str, path: Path, **values: Any) -> Path:
    """Write a page, atomically; its styles, its scripts and Plotly's library go into the file.

    Text among the values is escaped, whatever it holds. The page's content security policy lets only those scripts run
    that carry its nonce, and nothing be fetched.

    Args:
        template: name of a file in `assets` that extends `base.html.j2`.
        path: of the page. values: what the template shows.

    Returns:
        `path`.
    """
    page = _environment().get_template(template).render(nonce=secrets.token_urlsafe(16), **values)
    with atomic_path(path) as temporary:
        temporary.write_text(page, encoding="utf-8")
    return path


def as_data(value: Any) -> Markup:
    """JSON to stand in a `<script type="application/json">`: no text in it can end that element.

    Raises:
        ValueError: a figure is NaN or infinite.
    """
    return htmlsafe_json_dumps(value, dumps=json.dumps, allow_nan=False, separators=(",", ":"), ensure_ascii=False)


@cache
def _environment() -> Environment:
    environment = Environment(
        loader=FileSystemLoader(FOLDER),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["as_data"] = as_data
    environment.filters["figure"] = figure
    environment.globals["source"] = _source
    environment.globals["plotly"] = _plotly
    return environment


def figure(value: float | None, decimals: int = 3) -> str:
    """A figure as tables show it; None, an undefined one, is "-"."""
    return "-" if value is None else f"{value:.{decimals}f}"


def _source(name: str) -> Markup:
    """A style sheet or script of this folder, to stand in its element as it is."""
    return Markup((FOLDER / name).read_text(encoding="utf-8"))


def _plotly() -> Markup:
    """Plotly's JavaScript library as its Python package brings it along."""
    from plotly.offline import get_plotlyjs

    return Markup(get_plotlyjs())


def report_path(result: Path) -> Path:
    """Where the page of one class lies: beside its result file, in a folder of the same name."""
    return result.with_suffix("") / "report.html"


def address(page: Path, seen_from: Path) -> str:
    """The relative address of one page in another."""
    return quote(Path(os.path.relpath(page, seen_from.parent)).as_posix())
