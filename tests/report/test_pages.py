"""report/pages.py: what is written holds everything, runs nothing that it should not, and escapes."""

import json
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from jinja2 import UndefinedError

from report import pages
from report.pages import as_data, figure

HOSTILE = "</script><!--<script><img src=x onerror=alert(1)>'\"&\u2028"
TEMPLATE = """{% extends "base.html.j2" %}
{% block title %}{{ name }}{% endblock %}
{% block content %}<p title="{{ name }}">{{ name }}</p>{% endblock %}
{% block data %}<script type="application/json" id="d">{{ value|as_data }}</script>{% endblock %}
"""


@pytest.fixture
def template(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """A page beside copies of the shared files."""
    for name in ("base.html.j2", "style.css", "common.js"):
        (tmp_path / name).write_text((pages.FOLDER / name).read_text())
    (tmp_path / "page.html.j2").write_text(TEMPLATE)
    monkeypatch.setattr(pages, "FOLDER", tmp_path)
    pages._environment.cache_clear()
    yield "page.html.j2"
    pages._environment.cache_clear()


def test_data_cannot_end_its_element_and_comes_back() -> None:
    value = {HOSTILE: [HOSTILE, 1.5, None, True, "é"]}
    text = as_data(value)
    assert not re.search("[<>&']", text)
    assert json.loads(text) == value
    with pytest.raises(ValueError, match="JSON"):
        as_data({"a": float("nan")})


def test_undefined_figures_are_a_dash() -> None:
    assert (figure(0.98765), figure(None), figure(0.5, 1)) == ("0.988", "-", "0.5")


def test_page_is_whole_and_escaped(template: str, tmp_path: Path) -> None:
    path = pages.render(template, tmp_path / "deep/page.html", name=HOSTILE, value=HOSTILE)
    text = path.read_text()
    assert len(text) > 1_000_000  # Plotly is in it
    shown = "&lt;/script&gt;&lt;!--&lt;script&gt;&lt;img src=x onerror=alert(1)&gt;&#39;&#34;&amp;\u2028"
    assert text.count(shown) == 3
    assert "<img src=x" not in text
    nonces = set(re.findall(r'<script nonce="([^"]{20,})">', text))
    assert len(nonces) == 1
    policy = re.search(r'http-equiv="Content-Security-Policy" content="([^"]*)"', text)
    assert policy is not None
    assert f"script-src 'nonce-{nonces.pop()}';" in policy[1]
    assert "default-src 'none'" in policy[1]
    other = pages.render(template, tmp_path / "other.html", name="", value=None).read_text()
    assert policy[1] not in other  # a page of the past tells nobody the nonce of the next


def test_nothing_is_written_where_a_value_is_missing(template: str, tmp_path: Path) -> None:
    with pytest.raises(UndefinedError, match="'name' is undefined"):
        pages.render(template, tmp_path / "out" / "page.html", value=1)
    assert not (tmp_path / "out").exists()
