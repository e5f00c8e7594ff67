"""The harness that opens pages: what a page does wrong fails the test, what it may do does not."""

import os
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from tests import browser
from tests.browser import find_browser, open_page, wait_until

PIXEL = "data:image/gif;base64,R0lGODlhAQABAIAAAAAAAP///yH5BAEAAAAALAAAAAABAAEAAAIBRAA7"
BLOB = (
    "fetch(URL.createObjectURL(new Blob(['text']))).then(answer => answer.text()).then(text => document.title = text)"
)

# Slow: a browser has to start.
pytestmark = pytest.mark.slow


def write(folder: Path, body: str) -> Path:
    path = folder / "a page.html"
    path.write_text(f"<!doctype html><title>it</title><meta charset=utf-8><body>{body}", encoding="utf-8")
    return path


def test_a_page_that_keeps_to_itself_passes(tmp_path: Path) -> None:
    harmless = (
        f"<img src='{PIXEL}'><a href='#below'>x</a><script>console.log('hello'); console.warn('hm'); {BLOB}</script>"
    )
    with open_page(write(tmp_path, harmless)) as page:
        page.click("a")
        wait_until(page, "document.title == 'text'")
        assert page.evaluate("document.images[0].naturalWidth") == 1
        assert page.url.endswith("a%20page.html#below")


@pytest.mark.parametrize(
    ("body", "told"),
    [
        ("<script>console.error('oh no')</script>", "console: oh no"),
        ("<script>throw new TypeError('not a thing')</script>", "exception: .*not a thing"),
        ("<script>Promise.reject(new Error('late'))</script>", "exception: .*late"),
        ("<script>setTimeout(() => { throw new Error('later') })</script>", "exception: .*later"),
        ("<img src=http://127.0.0.1:9/x.png>", r"request: http://127\.0\.0\.1:9/x\.png"),
        ("<img src=beside.png>", r"request: file:///.*beside\.png"),
        ("<style>body { background: url(http://127.0.0.1:9/b.png) }</style>", r"request: http://127\.0\.0\.1:9/b"),
        ("<script>fetch('http://127.0.0.1:9/f').catch(() => 0)</script>", r"request: http://127\.0\.0\.1:9/f"),
        ("<script>navigator.sendBeacon('http://127.0.0.1:9/b')</script>", r"request: http://127\.0\.0\.1:9/b"),
        ("<script>new WebSocket('ws://127.0.0.1:9/w')</script>", r"request: ws://127\.0\.0\.1:9/w"),
        ("<iframe src=http://127.0.0.1:9/i></iframe>", r"request: http://127\.0\.0\.1:9/i"),
    ],
)
def test_what_a_page_does_wrong_is_told(body: str, told: str, tmp_path: Path) -> None:
    with pytest.raises(AssertionError, match=told), open_page(write(tmp_path, body)):
        pass


def test_a_fault_after_the_first_view_is_told_too(tmp_path: Path) -> None:
    path = write(tmp_path, "<button onclick='nothing.to.see'>x</button>")
    with pytest.raises(AssertionError, match=r"exception: .*nothing is not defined"), open_page(path) as page:
        page.click("button")


def test_the_test_s_own_failure_comes_first(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="mine"), open_page(write(tmp_path, "<script>console.error(1)</script>")):
        raise ValueError("mine")


def test_waiting_ends_with_the_truth_or_with_the_time_even_where_eval_is_forbidden(tmp_path: Path) -> None:
    path = tmp_path / "page.html"
    policy = "<meta http-equiv=Content-Security-Policy content=\"script-src 'unsafe-inline'\">"
    path.write_text(f"<!doctype html>{policy}<script>setTimeout(() => document.title = 'late', 200)</script>")
    with open_page(path) as page:
        wait_until(page, "document.title === 'late'")
        with pytest.raises(AssertionError, match=r"after 0\.1 seconds, not true: 1 > 2"):
            wait_until(page, "1 > 2", 0.1)


def test_window_colours_and_webgl(tmp_path: Path) -> None:
    path = write(tmp_path, "<canvas></canvas>")
    with open_page(path, 360, 500, dark=True) as page:
        assert page.evaluate("[innerWidth, innerHeight]") == [360, 500]
        assert page.evaluate("matchMedia('(prefers-color-scheme: dark)').matches")
        assert page.evaluate("document.querySelector('canvas').getContext('webgl') !== null")
    with open_page(Path(f"{path}#part")) as page:
        assert page.evaluate("location.hash") == "#part"
        assert page.evaluate("matchMedia('(prefers-color-scheme: light)').matches")


def fake(folder: Path, name: str, body: str) -> None:
    (folder / name).write_text(f"#!/bin/sh\n{body}\n")
    (folder / name).chmod(0o755)


def found_in(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Path | None:
    """What a search finds when PATH is this folder and playwright has no browser of its own."""

    class Playwright:
        def __enter__(self) -> "Playwright":
            self.chromium = self
            self.executable_path = folder / "own"
            return self

        def __exit__(self, *error: object) -> None:
            pass

    monkeypatch.setenv("PATH", str(folder))
    monkeypatch.setattr(browser, "sync_playwright", Playwright)
    return find_browser.__wrapped__()


def test_snaps_and_their_stand_ins_are_no_browsers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert found_in(tmp_path, monkeypatch) is None
    fake(tmp_path, "chromium", "echo 'Chromium 120.0 snap'")
    fake(tmp_path, "chromium-browser", "echo 'requires the chromium snap to be installed' >&2; exit 1")
    assert found_in(tmp_path, monkeypatch) is None
    fake(tmp_path, "own", "")
    assert found_in(tmp_path, monkeypatch) == tmp_path / "own"
    fake(tmp_path, "google-chrome", "echo 'Google Chrome 120.0'")
    assert found_in(tmp_path, monkeypatch) == tmp_path / "google-chrome"


def test_without_a_browser_a_test_is_skipped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(browser, "find_browser", lambda: None)
    with pytest.raises(pytest.skip.Exception, match=r"run bash setup\.sh --dev"), open_page(tmp_path / "x.html"):
        pass


def test_the_browser_ends_with_the_session(tmp_path: Path) -> None:
    """A session of its own, from its start to its end: it leaves no complaint, and none of the browser's folders."""
    if find_browser() is None:
        pytest.skip("no browser")
    path = write(tmp_path, "x")
    test = tmp_path / "test_it.py"
    test.write_text(
        "from pathlib import Path\nfrom tests.browser import open_page\n"
        f"def test_it():\n    with open_page(Path({str(path)!r})) as page:\n        print('title', page.title())\n"
    )
    root = Path(browser.__file__).parents[1]
    command = [sys.executable, "-m", "pytest", "-s", "-c", str(root / "pyproject.toml"), str(test)]
    with tempfile.TemporaryDirectory() as left:  # a short path: sockets go there
        environment = {**os.environ, "TMPDIR": left}
        done = subprocess.run(
            command, cwd=root, env=environment, capture_output=True, text=True, timeout=120, check=False
        )
        entries = [entry.name for entry in Path(left).iterdir()]
    assert (done.returncode, done.stderr) == (0, ""), done.stdout
    assert "title it" in done.stdout
    assert entries == []
