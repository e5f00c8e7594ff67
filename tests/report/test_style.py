"""report/assets/style.css: text can be read in both themes (WCAG 2.2: contrast of at least 4.5, of lines 3)."""

import re

import pytest

from report.pages import FOLDER

TEXT = ("text", "muted", "accent", "bad", "warn", "fine")
GROUNDS = ("ground", "surface", "raised", "marked")


def colours(theme: str) -> dict[str, str]:
    """Name → #rrggbb of a theme."""
    selector = ':root[data-theme="dark"]' if theme == "dark" else ":root"
    block = re.search(rf"^{re.escape(selector)} {{(.*?)}}", (FOLDER / "style.css").read_text(), re.M | re.S)
    assert block is not None
    return dict(re.findall(r"--([a-z0-9-]+): (#[0-9a-f]{6});", block[1]))


def luminance(colour: str) -> float:
    """Relative luminance, WCAG 2.2."""
    parts = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    linear = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def contrast(one: str, other: str) -> float:
    high, low = sorted((luminance(one), luminance(other)), reverse=True)
    return (high + 0.05) / (low + 0.05)


def test_contrast_by_hand() -> None:
    assert contrast("#000000", "#ffffff") == pytest.approx(21)
    assert contrast("#777777", "#ffffff") == pytest.approx(4.48, abs=0.01)


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_text_stands_out(theme: str) -> None:
    named = colours(theme)
    pairs = [(text, ground, 4.5) for text in TEXT for ground in GROUNDS]
    pairs += [("on-accent", "accent", 4.5), *(("line-strong", ground, 3.0) for ground in ("ground", "surface"))]
    pairs += [(f"series-{i}", "surface", 3.0) for i in range(1, 9)]
    weak = [
        (a, b, round(contrast(named[a], named[b]), 2)) for a, b, least in pairs if contrast(named[a], named[b]) < least
    ]
    assert weak == []


def test_themes_define_the_same_colours() -> None:
    assert colours("light").keys() == colours("dark").keys()
