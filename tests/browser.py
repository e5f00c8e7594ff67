"""Pages in a headless Chromium or Chrome: a page that reports an error or asks for another file fails its test."""

import atexit
import functools
import os
import shutil
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from playwright.sync_api import Browser, BrowserContext, Page, sync_playwright

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
OPTIONS = (
    *("--disable-background-networking", "--disable-component-update", "--disable-sync", "--no-first-run"),
    *("--disable-quic", "--use-angle=swiftshader", "--enable-unsafe-swiftshader"),  # the last two: WebGL without a GPU
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


@contextmanager
def open_page(path: Path, width: int = 1280, height: int = 900, dark: bool = False) -> Iterator[Page]:
    """A file in a tab of its own; skips the test where no browser is installed.

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
    context = start_browser(executable).new_context(
        viewport={"width": width, "height": height},
        color_scheme="dark" if dark else "light",
        offline=True,
    )
    name, _, fragment = str(path).partition("#")
    url = Path(name).resolve().as_uri()
    try:
        faults = watch(context, url)
        page = context.new_page()
        page.on("websocket", lambda socket: faults.append(f"request: {socket.url}"))
        page.goto(f"{url}#{fragment}" if fragment else url)
        yield page
        page.evaluate(SETTLE)  # what has happened in the page is reported by then
        assert not faults, f"{name}:\n" + "\n".join(faults)
    finally:
        context.close()


def wait_until(page: Page, expression: str, seconds: float = 15) -> None:
    """Wait for a JavaScript expression to be true. `page.wait_for_function` may not run where eval is forbidden.

    Raises:
        AssertionError: it did not become true.
    """
    end = time.monotonic() + seconds
    while not page.evaluate(expression):
        assert time.monotonic() < end, f"after {seconds} seconds, not true: {expression}"
        page.wait_for_timeout(50)


def watch(context: BrowserContext, url: str) -> list[str]:
    """A list that takes the errors of a context's pages and their requests for anything but `url`, as they come."""
    faults: list[str] = []

    def note(kind: str, text: str) -> None:
        faults.append(f"{kind}: {text[:300]}")

    def see_request(asked: str) -> None:
        if asked.partition("#")[0] != url and not asked.startswith(("data:", "blob:")):
            note("request", asked)

    context.on("console", lambda message: note("console", message.text) if message.type == "error" else None)
    context.on("weberror", lambda error: note("exception", str(error.error)))
    context.on("request", lambda request: see_request(request.url))
    return faults
