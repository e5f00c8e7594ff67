"""The page of one class in a browser: it shows, sorts, filters, opens and turns what it should."""

import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from playwright.sync_api import Page, expect

from report.evaluation import ReportSample, write_report
from tests.browser import open_page
from tests.report.tools import make_sample, write_class

# Slow: a browser has to start.
pytestmark = pytest.mark.slow

THRESHOLD = 1.0
SCORES = {
    "good": [0.5, 1.2, 0.9, 0.8, 1.1, 0.6],
    "hole": [0.8, 2.0, 1.5, 0.95],
    "cut": [0.7, 1.4, 3.0, 2.5, 1.05, 1.7],
}
WORST_FIRST = ["cut/000", "hole/000", "hole/003", "good/001", "good/004", "cut/004", "good/002"]
LOADED = "[...document.querySelectorAll('#pictures img')].every(image => image.naturalWidth === 48)"


def samples() -> list[ReportSample]:
    """Three missed, two false alarms; the later ones of a kind took longer."""
    return [
        make_sample(defect, f"{i:03d}", score, seconds=0.1 * i + 0.01 * len(defect))
        for defect, scores in SCORES.items()
        for i, score in enumerate(scores)
    ]


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_report(write_class(tmp_path_factory.mktemp("report"), samples(), THRESHOLD), samples())


def names(page: Page) -> list[str]:
    """The cards that are there, in their order."""
    return page.locator(".card .title").all_inner_texts()


def title(page: Page) -> str:
    return page.locator("#sample-title").inner_text()


def choose(page: Page, field: str, value: str) -> None:
    page.get_by_label(field, exact=True).select_option(value)


def pixels(page: Page, selector: str) -> np.ndarray:
    """What an element looks like, (h, w, 3)."""
    return np.asarray(Image.open(io.BytesIO(page.locator(selector).screenshot())).convert("RGB")).astype(int)


def wait_for(page: Page, happens: Callable[[], Any]) -> None:
    """Waits until it does; playwright's own way needs eval in the page, which the page's policy refuses."""
    for _ in range(100):
        if happens():
            return
        page.wait_for_timeout(50)
    pytest.fail("did not happen within 5 s")


def wait_until(page: Page, true: str) -> None:
    """Waits for a JavaScript expression."""
    wait_for(page, lambda: page.evaluate(true))


def wait_for_cloud(page: Page) -> None:
    expect(page.locator("#cloud[aria-busy=false] canvas").first).to_be_visible()
    expect(page.locator("#cloud-note")).to_contain_text("points")


def eye(page: Page) -> np.ndarray:
    """Where the cloud is seen from."""
    camera = page.evaluate("document.getElementById('cloud')._fullLayout.scene._scene.getCamera().eye")
    return np.array([camera[axis] for axis in "xyz"])


def overflow(page: Page) -> int:
    return int(page.evaluate("document.scrollingElement.scrollWidth - window.innerWidth"))


def test_cards_come_worst_first_and_sort(report: Path) -> None:
    with open_page(report) as page:
        expect(page.locator(".card")).to_have_count(16)
        assert names(page)[:7] == WORST_FIRST
        expect(page.locator("#shown")).to_have_text("16 of 16")
        assert page.locator(".card").first.get_attribute("aria-label") == "cut/000, missed, score 0.700"
        wait_until(page, "document.querySelector('.card img').naturalWidth === 224")
        every = [(f"{d}/{i:03d}", d, i, s) for d, scores in SCORES.items() for i, s in enumerate(scores)]
        keys: dict[str, Callable[[tuple[str, str, int, float]], Any]] = {
            "score": lambda s: -s[3],
            "name": lambda s: (s[2], s[1]),
            "defect": lambda s: (s[1], s[2]),
            "time": lambda s: -(0.1 * s[2] + 0.01 * len(s[1])),
        }
        for order, key in keys.items():
            choose(page, "Order", order)
            expected = sorted(every, key=key)
            found = names(page)
            if order in ("score", "time"):  # equal ones in either order
                values = {s[0]: key(s) for s in every}
                assert [values[name] for name in found] == pytest.approx([key(s) for s in expected])
                assert sorted(found) == sorted(s[0] for s in every)
            else:
                assert found == [s[0] for s in expected]


def test_filters(report: Path) -> None:
    with open_page(report) as page:
        choose(page, "Verdict", "missed")
        assert names(page) == WORST_FIRST[:3]
        expect(page.locator("#shown")).to_have_text("3 of 16")
        choose(page, "Defect", "hole")
        assert names(page) == ["hole/000", "hole/003"]
        page.get_by_label("Name contains").fill("E/003")
        assert names(page) == ["hole/003"]
        choose(page, "Verdict", "false alarm")
        assert names(page) == []
        expect(page.locator("#shown")).to_have_text("0 of 16")
        options = page.locator("#by-defect option").all_inner_texts()
        assert options == ["all", "cut", "good", "hole"]


def test_a_click_opens_the_sample(report: Path) -> None:
    with open_page(report) as page:
        page.locator(".card", has_text="hole/003").click()
        assert title(page) == "hole/003 missed"
        expect(page.locator("#sample-facts")).to_contain_text("score 0.950 · threshold 1.00 · ")
        assert page.url.endswith("#hole/003")
        shown = page.locator("#pictures img")
        assert [image.get_attribute("data-picture") for image in shown.all()] == [
            *("rgb", "mask", "depth", "map_2d", "map_3d", "combined")
        ]
        wait_until(page, LOADED)
        view = page.evaluate("Report.data('view-2')")  # the third of the worst
        for image in shown.all():
            assert image.get_attribute("src") == view[image.get_attribute("data-picture") or ""]
        assert page.locator(".mark").count() == 2
        wide = shown.first.bounding_box()
        page.get_by_role("button", name="whole image").click()
        whole = shown.first.bounding_box()
        assert wide is not None
        assert whole is not None
        assert wide["width"] > 1.3 * whole["width"]


def test_the_cloud_looks_like_the_photo_and_turns(report: Path) -> None:
    with open_page(report) as page:
        page.locator(".card", has_text="hole/003").click()
        wait_for_cloud(page)
        before = pixels(page, "#cloud")
        page.get_by_role("button", name="RGB").click()
        wait_for_cloud(page)
        wait_for(page, lambda: np.abs(pixels(page, "#cloud") - before).mean() > 3)
        first = pixels(page, "#cloud")
        background = first[2, 2]
        drawn = np.abs(first - background).max(axis=-1) > 30
        assert 0.2 < drawn.mean() < 0.9
        # The dome is bluer below and yellower to the right, as in the photo: not mirrored, not upside down.
        rows, columns = np.nonzero(drawn)
        blue, green = first[rows, columns, 2], first[rows, columns, 1]
        assert blue[rows > np.median(rows)].mean() > blue[rows < np.median(rows)].mean() + 10
        assert green[columns > np.median(columns)].mean() > green[columns < np.median(columns)].mean() + 5
        start = eye(page)
        box = page.locator("#cloud").bounding_box()
        assert box is not None
        middle = box["x"] + box["width"] / 2, box["y"] + box["height"] / 2
        page.mouse.move(*middle)
        page.mouse.down()
        page.mouse.move(middle[0] + 120, middle[1] + 40, steps=4)
        page.mouse.up()
        wait_for(page, lambda: np.abs(eye(page) - start).max() > 0.2)
        wait_for(page, lambda: np.abs(pixels(page, "#cloud") - first).mean() > 3)
        page.wait_for_timeout(300)  # the view comes to rest
        turned = eye(page)
        page.get_by_role("button", name="depth").click()
        wait_for_cloud(page)
        assert eye(page) == pytest.approx(turned, abs=1e-3)  # other colours, the same view


def test_the_cloud_turns_without_a_mouse(report: Path) -> None:
    def moved(axis: int) -> float:
        return float((eye(page) - first)[axis])

    with open_page(report) as page:
        page.locator(".card").first.click()
        wait_for_cloud(page)
        first = eye(page)
        assert first[1] < -1.2  # before the part, where the camera was
        for name, axis, sign in (("to the right", 0, 1), ("to the left", 0, -1), ("above", 2, 1), ("below", 2, -1)):
            page.get_by_role("button", name=name).press("Enter")
            wait_for(page, lambda: sign * moved(axis) > 0.3)  # noqa: B023, called at once
            assert np.linalg.norm(eye(page)) == pytest.approx(np.linalg.norm(first), abs=1e-3)
            page.get_by_role("button", name="As in the photo").press("Enter")
            wait_for(page, lambda: np.allclose(eye(page), first, atol=1e-3))


def test_keys_and_focus(report: Path) -> None:
    with open_page(report) as page:
        page.locator(".card").nth(1).focus()
        page.keyboard.press("Enter")
        assert title(page) == "hole/000 missed"
        for key, name in (("ArrowRight", WORST_FIRST[2]), ("ArrowLeft", WORST_FIRST[1]), ("ArrowLeft", WORST_FIRST[0])):
            page.keyboard.press(key)
            assert title(page).startswith(name)
        assert page.locator("#previous").is_disabled()
        page.keyboard.press("ArrowLeft")
        assert title(page).startswith(WORST_FIRST[0])
        page.keyboard.press("Escape")
        expect(page.locator("#sample")).not_to_be_visible()
        wait_until(page, "location.hash === ''")
        wait_until(page, "document.activeElement.getAttribute('aria-label') === 'cut/000, missed, score 0.700'")
        choose(page, "Order", "defect")
        page.locator(".card", has_text="good/005").click()
        page.keyboard.press("ArrowRight")
        assert title(page) == "hole/000 missed"  # the next in the present order
        page.get_by_role("button", name="Close").click()
        expect(page.locator("#sample")).not_to_be_visible()


def test_a_link_opens_its_sample(report: Path) -> None:
    with open_page(Path(f"{report}#cut/003")) as page:
        expect(page.locator("#sample-title")).to_have_text("cut/003 caught")
        page.evaluate("location.hash = '#hole/001'")
        expect(page.locator("#sample-title")).to_have_text("hole/001 caught")
        page.keyboard.press("Escape")
        page.evaluate("location.hash = '#no/such'")
        expect(page.locator("#sample")).not_to_be_visible()


def test_curves_are_drawn_and_the_range_can_be_chosen(report: Path) -> None:
    with open_page(report) as page:
        page.wait_for_selector("#plot-pro .scatterlayer .trace")
        traces = {
            name: page.evaluate(f"document.getElementById('plot-{name}').data.length")
            for name in ("scores", "image", "pixel", "pro")
        }
        assert traces == {"scores": 3, "image": 2, "pixel": 1, "pro": 2}  # a curve, and the point of the threshold
        assert page.evaluate("document.getElementById('plot-image').data[1].x") == [pytest.approx(2 / 6)]
        legend = page.locator("#plot-pro .legendtext").all_text_contents()
        cells = page.locator("table", has_text="AUPRO up to").locator("tbody tr").all()
        for text, row in zip(legend, cells, strict=True):
            figures = row.locator("td").all_inner_texts()
            assert text.endswith(f": AUPRO@30% {figures[0]}, @1% {figures[3]}")
        for name, end in (("to 5 %", 0.05), ("to 100 %", 1.0), ("to 30 %", 0.3)):
            page.get_by_role("button", name=name, exact=True).click()
            assert page.get_by_role("button", name=name, exact=True).get_attribute("aria-pressed") == "true"
            shown = page.evaluate("document.getElementById('plot-pro')._fullLayout.xaxis.range")
            assert end <= shown[1] <= 1.05 * end


def colours(page: Page) -> list[str]:
    """Of the page, and of the text in a plot."""
    page.wait_for_selector("#plot-pro .xtick text")
    ground = page.evaluate("getComputedStyle(document.body).backgroundColor")
    return [ground, page.evaluate("getComputedStyle(document.querySelector('#plot-pro .xtick text')).fill")]


def test_the_theme_follows_the_system_until_the_button_is_pressed(report: Path) -> None:
    with open_page(report) as page, open_page(report, dark=True) as dark_page:
        light, dark = colours(page), colours(dark_page)
        assert not set(light) & set(dark)
        page.get_by_role("button", name="Change to the dark theme").click()
        wait_for(page, lambda: colours(page) == dark)
        page.emulate_media(color_scheme="dark")
        page.get_by_role("button", name="Change to the light theme").click()
        wait_for(page, lambda: colours(page) == light)


@pytest.mark.parametrize("width", [360, 768])
def test_nothing_is_wider_than_the_window(report: Path, width: int) -> None:
    with open_page(report, width, 740) as page:
        page.wait_for_selector("#plot-pro .scatterlayer .trace")
        page.evaluate("document.querySelectorAll('details').forEach(part => { part.open = true; })")
        assert overflow(page) <= 0
        page.locator(".card").first.click()
        wait_for_cloud(page)
        assert overflow(page) <= 0
        assert page.evaluate("(d => d.scrollWidth - d.clientWidth)(document.getElementById('sample'))") <= 0


def test_without_thresholds(tmp_path: Path) -> None:
    with open_page(write_report(write_class(tmp_path, samples()), samples())) as page:
        assert names(page)[:3] == ["cut/000", "hole/000", "hole/003"]
        assert page.get_by_label("Verdict").is_disabled()
        page.locator(".card").first.click()
        assert title(page).strip() == "cut/000"
        wait_for_cloud(page)
        assert page.locator(".mark").count() == 0


@pytest.mark.parametrize(("chosen", "valid"), [([0], True), ([0, 1], False), ([6], True), ([6, 7], False)])
def test_few_kinds_of_samples(chosen: list[int], valid: bool, tmp_path: Path) -> None:
    few = [samples()[i] for i in chosen]
    if not valid:
        for sample in few:
            sample.xyz[:] = 0
    with open_page(write_report(write_class(tmp_path, few, THRESHOLD), few)) as page:
        expect(page.locator(".card")).to_have_count(len(few))
        expect(page.locator("#plot-image")).to_contain_text("Undefined")
        page.locator(".card").first.click()
        if valid:
            wait_for_cloud(page)
        else:
            expect(page.locator("#cloud-note")).to_have_text("This sample has no valid point.")


def test_hostile_names_are_shown_and_nothing_else(tmp_path: Path) -> None:
    hostile = "</script><img src=x onerror=alert(1)>"
    named = [make_sample("good", "0", 0.5), make_sample(hostile, "<b>1", 2.0), make_sample("<b>Cut</b>", "%2F#", 1.5)]
    path = write_class(tmp_path, named, THRESHOLD, "<img src=x onerror=alert(1)>", {"method": hostile})
    with open_page(write_report(path, named)) as page:
        page.on("dialog", lambda dialog: pytest.fail(f"a dialog: {dialog.message}"))
        page.wait_for_selector("#plot-pro .scatterlayer .trace")
        assert f"{hostile}/<b>1" in names(page)
        assert page.locator("#plot-scores .ytick").all_text_contents() == ["good", hostile, "<b>Cut</b>"]
        page.get_by_label("Name contains").fill("CUT</b>/%2f")
        assert names(page) == ["<b>Cut</b>/%2F#"]
        page.get_by_label("Name contains").fill("")
        page.locator(".card", has_text="<b>1").click()
        assert title(page) == f"{hostile}/<b>1 caught"
        address = page.url
        page.keyboard.press("Escape")
        assert page.locator("img[src='x']").count() == 0
    with open_page(Path(f"{path.with_suffix('')}/report.html#{address.partition('#')[2]}")) as page:
        expect(page.locator("#sample-title")).to_have_text(f"{hostile}/<b>1 caught")


def test_more_cards_come_on_request(tmp_path: Path) -> None:
    many = [make_sample("hole", f"{i:03d}", 2.0 + i, side=16) for i in range(30)]
    with open_page(write_report(write_class(tmp_path, many, THRESHOLD), many)) as page:
        expect(page.locator(".card")).to_have_count(24)
        page.locator(".card").last.click()
        page.keyboard.press("ArrowRight")
        assert title(page) == "hole/024 caught"
        page.keyboard.press("Escape")
        expect(page.locator(".card")).to_have_count(30)
        assert page.evaluate("document.activeElement.getAttribute('aria-label')").startswith("hole/024")
        expect(page.locator("#more")).not_to_be_visible()
