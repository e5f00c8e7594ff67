"""Pages in a headless Chromium or Chrome: a page that reports an error or asks for another file fails its test."""

import atexit
import functools
import os
import re
import shutil
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from playwright.sync_api import Browser, BrowserContext, Page, sync_playwright

NAMES = ("chromium-headless-shell", "chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
OPTIONS = (
    *("--disable-background-networking", "--disable-component-update", "--disable-sync", "--no-first-run"),
    *("--disable-quic", "--use-angle=swiftshader", "--enable-unsafe-swiftshader"),  # the last two: WebGL without a GPU
    *("--disable-gpu-compositing", "--disable-gpu-rasterization"),  # pages are drawn faster without a stand-in for it
)
SETTLE = "() => new Promise(done => requestAnimationFrame(() => setTimeout(done, 20)))"


@functools.cache
def find_browser() -> Path | None:
    """The installed browser to use, of PATH or playwright's own; None where there is none that works.

    A snap is none: it cannot read files below /tmp, where tests write. Neither is Ubuntu's script that stands in
    for one.
    """
    for found in filter(None, map(shutil.which, NAMES)):
        done = subprocess.run([found, "--version"], capture_output=True, text=True, timeout=60, check=False)
        if done.returncode == 0 and "snap" not in done.stdout:
            return Path(found)
    with sync_playwright() as playwright:
        own = Path(playwright.chromium.executable_path)
    return own if own.exists() else None


@functools.cache
def start_browser(executable: Path) -> Browser:
    """The browser of this session, without network. It is closed when Python ends.

    While it runs, playwright's event loop counts as the running one of this thread: `asyncio.run` needs another.
    """
    playwright = sync_playwright().start()
    atexit.register(playwright.stop)  # waits until the browser has ended and removed its folders
    as_root = ["--no-sandbox"] if os.geteuid() == 0 else []
    return playwright.chromium.launch(executable_path=executable, args=[*OPTIONS, *as_root])


class Tab(NamedTuple):
    """A tab, and the folder of the pages that it shows."""

    page: Page
    folder: Path


IDLE: list[Tab] = []
"""Tabs that pages were opened in: one that has run Plotly opens the next page in a third of the time, where that is the
same script to it: in a file of the same address, with the same nonce."""


def new_tab(executable: Path) -> Tab:
    page, folder = start_browser(executable).new_context(offline=True).new_page(), tempfile.mkdtemp()
    atexit.register(shutil.rmtree, folder)
    return Tab(page, Path(folder))


def copy_page(path: Path, folder: Path) -> Path:
    """A copy of a page in a folder, with a nonce that all copies have."""
    text = path.read_text(encoding="utf-8")
    if found := re.search(r'<script nonce="([^"]+)"', text):
        text = text.replace(found[1], "the-nonce-of-all-copies")
    (folder / path.name).write_text(text, encoding="utf-8")
    return folder / path.name


@contextmanager
def open_page(path: Path, width: int = 1280, height: int = 900, dark: bool = False) -> Iterator[Page]:
    """A copy of a file in a tab that no other page is in; skips the test where no browser is installed.

    Args:
        path: of the page; may end in a fragment, as in `Path("report.html#hole/003")`.
        width, height: of the window in CSS pixels. dark: whether the system prefers dark colours.

    Raises:
        AssertionError: at the end, if the page wrote an error to the console, left an exception uncaught, or asked
            for anything but itself and what is in it (data:, blob:).
    """
    executable = find_browser()
    if executable is None:
        pytest.skip(f"no browser: none of {', '.join(NAMES)} on PATH, nor playwright's own; run bash setup.sh --dev")
    name, _, fragment = str(path).partition("#")
    tab = IDLE.pop() if IDLE else new_tab(executable)
    page, url = tab.page, copy_page(Path(name), tab.folder).as_uri()
    try:
        page.set_viewport_size({"width": width, "height": height})
        page.emulate_media(color_scheme="dark" if dark else "light")
        with watching(page, url) as faults:
            page.goto(f"{url}#{fragment}" if fragment else url)
            yield page
            page.evaluate(SETTLE)  # what has happened in the page is reported by then
        assert not faults, f"{name}:\n" + "\n".join(faults)
        page.mouse.move(0, 0)
        page.goto("about:blank")
        IDLE.append(tab)
    except BaseException:
        page.context.close()
        raise


def wait_until(page: Page, expression: str, seconds: float = 15) -> None:
    """Wait for a JavaScript expression to be true. `page.wait_for_function` may not run where eval is forbidden.

    Raises:
        AssertionError: it did not become true.
    """
    end = time.monotonic() + seconds
    while not page.evaluate(expression):
        assert time.monotonic() < end, f"after {seconds} seconds, not true: {expression}"
        page.wait_for_timeout(50)


@contextmanager
def watching(page: Page, url: str) -> Iterator[list[str]]:
    """A list that takes the errors of a tab and its requests for anything but `url`, as they come."""
    faults: list[str] = []

    def note(kind: str, text: str) -> None:
        faults.append(f"{kind}: {text[:300]}")

    def see_request(asked: str) -> None:
        if asked.partition("#")[0] != url and not asked.startswith(("data:", "blob:")):
            note("request", asked)

    seen: list[tuple[Page | BrowserContext, Any, Callable[[Any], None]]] = [
        (page.context, "console", lambda message: note("console", message.text) if message.type == "error" else None),
        (page.context, "weberror", lambda error: note("exception", str(error.error))),
        (page.context, "request", lambda request: see_request(request.url)),
        (page, "websocket", lambda socket: note("request", socket.url)),
    ]
    for source, event, handler in seen:
        source.on(event, handler)
    try:
        yield faults
    finally:
        for source, event, handler in seen:
            source.remove_listener(event, handler)
