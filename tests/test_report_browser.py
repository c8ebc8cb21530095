"""The report in a real browser, from disk: what pointer, keys and buttons do, in numbers that results.json holds."""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fake_world import fake_grid, fake_results, few_scalers, simulate

from experiments import report
from experiments.figures import front_window
from experiments.report_words import DASH, share, usd

pytestmark = pytest.mark.e2e
TRACE = "azure-chat-hour (amplify)"
FRONT = '[data-chart="fronts"][data-index="0"] svg'
PANELS = '[data-chart="time"][data-index="0"] svg'


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    """A headless Chromium that is there already; none is downloaded."""
    driver = pytest.importorskip("playwright.sync_api", reason="needs playwright")
    found = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    if found is None:
        pytest.skip("needs chromium")
    with driver.sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=found, args=["--no-sandbox", "--disable-gpu"])
        yield chromium
        chromium.close()


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """A fake comparison of three rules and a policy on generated days and on a recorded hour."""
    grid = fake_grid(few_scalers(), test=6)
    return fake_results(grid, simulate(grid, tmp_path_factory.mktemp("fake") / "r"))


@pytest.fixture(scope="module")
def address(results: dict[str, Any], tmp_path_factory: pytest.TempPathFactory) -> str:
    """Where the report lies: a file, beside which there is nothing."""
    path = tmp_path_factory.mktemp("page") / "report.html"
    path.write_text(report.render(results))
    return path.as_uri()


class Visit:
    """Pages opened in one test, and all that went wrong or was asked for in them."""

    def __init__(self, browser: Any, address: str) -> None:
        self.browser, self.address = browser, address
        self.complaints: list[str] = []
        self.asked: set[str] = set()
        self._open: list[Any] = []

    def __call__(self, fragment: str = "", width: int = 1280, **settings: Any) -> Any:
        context = self.browser.new_context(viewport={"width": width, "height": 900}, **settings)
        self._open.append(context)
        page = context.new_page()
        page.on("console", lambda message: self.complaints.append(message.text))
        page.on("pageerror", lambda error: self.complaints.append(str(error)))
        page.on("request", lambda request: self.asked.add(request.url.split("#")[0]))
        page.goto(self.address + fragment)
        return page

    def close(self) -> None:
        for context in self._open:
            context.close()


@pytest.fixture
def visit(browser: Any, address: str) -> Iterator[Visit]:
    """Opens the report; afterwards nothing may have been complained about and nothing fetched but the file."""
    visit = Visit(browser, address)
    yield visit
    visit.close()
    assert visit.complaints == []
    assert visit.asked == {address}


def labels(page: Any, plots: str, nth: int = 0) -> list[str]:
    """Tick labels of one of the plots."""
    return page.locator(plots).nth(nth).locator(".tick text").all_text_contents()


def middle(page: Any, target: Any) -> tuple[float, float]:
    """Centre of an element, scrolled into view."""
    target.scroll_into_view_if_needed()
    box = target.bounding_box()
    return box["x"] + box["width"] / 2, box["y"] + box["height"] / 2


def drag(page: Any, plots: str, x: tuple[float, float], y: tuple[float, float], nth: int = 0) -> None:
    """Press, move and let go over a plot; from and to as shares of its width and height."""
    plot = page.locator(plots).nth(nth)
    plot.scroll_into_view_if_needed()
    box = plot.bounding_box()
    ends = [(box["x"] + box["width"] * x[i], box["y"] + box["height"] * y[i]) for i in (0, 1)]
    page.mouse.move(*ends[0])
    page.mouse.down()
    page.mouse.move(*ends[1], steps=4)
    page.mouse.up()


def chip(page: Any, name: str) -> Any:
    """The button that shows and hides a scaler or a load."""
    return page.locator(f'.chip[data-name="{name}"]')


def spaces(text: str) -> str:
    return re.sub(r"\s+", " ", text)


def test_pointing_at_a_front_says_the_knob_cost_attainment_and_interval_of_results_json(
    visit: Visit, results: dict[str, Any]
):
    page = visit()
    front = next(f for f in results["fronts"] if f["scaler"] == "headroom" and f["split"] == "test")
    assert front["load"] == "chat"
    low, high = front_window([f for f in results["fronts"] if f["load"] == "chat" and f["split"] == "test"])[2:]
    inside = [p for p in front["points"] if low <= p["level"] <= high]
    markers = page.locator(f'{FRONT} g[data-scaler="headroom"] path[transform]')
    assert markers.count() == len(front["points"]) and len(inside) >= 4
    said = set()
    for i, point in enumerate(front["points"]):
        if point in inside:
            page.mouse.move(*middle(page, markers.nth(i)))
            said.add(spaces(page.locator(".tip").inner_text()))
    for point in inside:
        ends = point["attainment_interval"]
        expected = [
            f"headroom {point['knob']:g}", f"cost {usd(point['usd_per_h'])} USD/h",
            f"attainment {spaces(share(point['attainment']))}",
            f"95 % interval {spaces(share(ends['low']))} {DASH} {spaces(share(ends['high']))}",
        ]  # fmt: skip
        assert any(all(part in text for part in expected) for text in said), (expected, said)
    page.mouse.move(5, 5)
    assert page.locator(".tip").is_hidden()


def test_pointing_at_a_time_line_says_what_every_scaler_had_at_that_moment(visit: Visit, results: dict[str, Any]):
    page = visit()
    examples = {e["scaler"]: e for e in results["examples"] if e["load"] == "chat" and e["variant"] != "defaults"}
    assert len(examples) == page.locator(PANELS).count() == 4
    page.locator(PANELS).first.focus()
    for _ in range(20):
        page.keyboard.press("Shift+ArrowRight")
    series = examples["headroom"]["series"]
    i = 1 + 10 * 19
    rows = {row[0]: row[1:] for row in table(page)}
    assert rows.keys() == examples.keys()
    for label, example in examples.items():
        shown = [float(text.replace(",", "")) for text in rows[label]]
        kept = [example["series"][name][i] for name in ("ready", "pending", "waiting", "missed_per_s")]
        assert shown == pytest.approx(kept, rel=0.006)  # three digits
    minutes = round((series["t_s"][i] - series["t_s"][0]) / 60)
    text = spaces(page.locator(".tip").inner_text())
    assert f"{minutes // 60} h {minutes % 60:02d} min" in text
    assert f"need {series['need'][i]:g} replicas" in text
    assert "headroom" in page.locator("#said").text_content()  # keys are answered aloud
    assert page.locator(f"{PANELS} .cursor").count() == 4  # the same moment in every panel
    box = page.locator(PANELS).first.bounding_box()
    page.mouse.move(box["x"] + box["width"] * 0.9, box["y"] + 60)
    assert spaces(page.locator(".tip").inner_text()) != text


def table(page: Any) -> list[list[str]]:
    """Rows of the table beside the pointer, without the markers."""
    rows = page.locator(".tip tr").all()[1:]
    return [[re.sub(r"^\W+", "", cell).strip() for cell in row.locator("td").all_text_contents()] for row in rows]


def test_dragging_zooms_a_front_and_a_button_or_a_double_click_shows_all_again(visit: Visit):
    page = visit()
    whole = labels(page, FRONT)
    reset = page.locator(".hint button").first
    assert reset.is_hidden()
    for again in (reset.click, page.locator(FRONT).dblclick):
        drag(page, FRONT, (0.3, 0.6), (0.2, 0.6))
        zoomed = labels(page, FRONT)
        costs = [float(label) for label in zoomed if "%" not in label]
        all_costs = [float(label) for label in whole if "%" not in label]
        assert zoomed != whole and max(costs) - min(costs) < 0.7 * (max(all_costs) - min(all_costs))
        assert reset.is_visible()
        again()
        assert labels(page, FRONT) == whole and reset.is_hidden()
    page.locator(FRONT).focus()
    page.keyboard.press("+")
    assert labels(page, FRONT) != whole
    page.keyboard.press("Escape")
    assert labels(page, FRONT) == whole


def test_time_lines_of_a_load_zoom_together_and_other_loads_stay(visit: Visit):
    page = visit()
    other = '[data-chart="time"][data-index="1"] svg'
    whole, elsewhere = labels(page, PANELS), labels(page, other)
    drag(page, PANELS, (0.4, 0.7), (0.3, 0.4), nth=1)
    zoomed = [labels(page, PANELS, i) for i in range(4)]
    assert zoomed[0] != whole and zoomed == [zoomed[0]] * 4
    assert labels(page, other) == elsewhere
    page.locator(PANELS).nth(3).dblclick()
    assert [labels(page, PANELS, i) for i in range(4)] == [whole] * 4


def test_a_hidden_scaler_is_gone_from_every_figure_and_table(visit: Visit):
    page = visit()
    everywhere = page.locator('[data-scaler="hpa"]')
    kinds = ("table.headline tr", "table.frozen tr", "table.rows tr", "table.defaults tr",
             '[data-chart="time"] > div', "svg[role=img] g")  # fmt: skip
    page.evaluate("document.querySelectorAll('details').forEach((part) => { part.open = true; })")
    for kind in kinds:
        assert page.locator(f'{kind}[data-scaler="hpa"]').first.is_visible(), kind
    chip(page, "hpa").click()
    assert chip(page, "hpa").get_attribute("aria-pressed") == "false"
    assert not any(element.is_visible() for element in everywhere.all())
    assert page.locator(f'{FRONT} g[data-scaler="hpa"]').count() == 0
    assert page.locator(f'{FRONT} g[data-scaler="ppo"]').count() == 1
    page.locator(PANELS).first.focus()
    page.keyboard.press("ArrowRight")
    assert [row[0] for row in table(page)] == ["headroom", "scheduled", "ppo"]
    page.get_by_role("button", name="show all").first.click()
    assert page.locator('table.headline tr[data-scaler="hpa"]').first.is_visible()
    chip(page, "ppo").click(modifiers=["Shift"])  # alone
    assert [chip(page, name).get_attribute("aria-pressed") for name in ("headroom", "ppo")] == ["false", "true"]


def test_a_hidden_load_is_gone_from_every_section(visit: Visit):
    page = visit()
    everywhere = page.locator(f'[data-load="{TRACE}"]')
    assert everywhere.count() >= 7
    chip(page, TRACE).focus()
    page.keyboard.press("Space")
    assert not any(element.is_visible() for element in everywhere.all())
    assert page.locator('section[data-load="chat"]').first.is_visible()


def test_the_address_keeps_filters_and_windows(visit: Visit):
    page = visit()
    chip(page, "hpa").click()
    chip(page, TRACE).click()
    drag(page, FRONT, (0.3, 0.6), (0.2, 0.6))
    drag(page, PANELS, (0.4, 0.7), (0.3, 0.4))
    page.locator('nav a[href="#latency"]').click()
    fragment = page.evaluate("location.hash")
    assert "hide=hpa" in fragment and "at=latency" in fragment
    again = visit(fragment)
    for plots, nth in ((FRONT, 0), (PANELS, 0), (PANELS, 2)):
        assert labels(again, plots, nth) == labels(page, plots, nth)
    assert again.locator('table.headline tr[data-scaler="hpa"]').first.is_hidden()
    assert again.locator(f'section[data-load="{TRACE}"]').first.is_hidden()
    bar = again.locator(".bar").bounding_box()
    top = again.locator("#latency").bounding_box()["y"]
    assert bar["height"] <= top < 450  # in sight, and not behind the bar


def test_a_strange_address_shows_the_whole_report(visit: Visit):
    page = visit("#hide=nobody&zoom=fronts-0_3_1_x&zoom=fronts-99_1_2&zoom=time-0_a_b&at=nowhere")
    assert labels(page, FRONT) == labels(visit(), FRONT)
    assert page.locator(".chip[aria-pressed=false]").count() == 0


@pytest.mark.parametrize("system", ["light", "dark"])
def test_colours_follow_the_system_until_the_reader_chooses(visit: Visit, system: str):
    page = visit(color_scheme=system)
    other = "dark" if system == "light" else "light"
    assert scheme(page) == system
    page.locator("#theme").click()
    assert scheme(page) == other
    page.reload()
    assert scheme(page) == other  # kept
    page.locator("#theme").click()
    assert scheme(page) == system
    page.emulate_media(color_scheme=other)
    assert scheme(page) == other  # the system is followed again


def scheme(page: Any) -> str:
    """Light or dark, by the page's own colours: background, letters, and one line of a figure."""
    shades = page.evaluate(
        """() => [document.body, document.querySelector("[data-chart] text")].map((element) => {
            const style = getComputedStyle(element);
            return (element === document.body ? style.backgroundColor : style.fill).match(/\\d+/g).map(Number);
        })"""
    )
    paper, ink = (float(np.mean(shade[:3])) for shade in shades)
    assert abs(paper - ink) > 100
    return "light" if paper > ink else "dark"


def test_without_a_script_everything_can_be_read(visit: Visit):
    page = visit(java_script_enabled=False)
    pictures = page.locator('svg[role="img"]')
    assert pictures.count() == 10 and all(picture.is_visible() for picture in pictures.all())
    assert page.locator("table.headline").first.is_visible()
    assert page.locator(".tools").is_hidden()


@pytest.mark.parametrize("width", [1280, 420])
def test_the_page_fits_its_window_and_has_no_large_gaps(visit: Visit, width: int, tmp_path: Path):
    page = visit(width=width)
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    page.screenshot(path=tmp_path / "page.png", full_page=True)
    from matplotlib.image import imread

    pixels = imread(tmp_path / "page.png")[..., :3]
    ink = (pixels.min(axis=2) < 0.9).any(axis=1)  # lines that are not blank
    for quarter in np.array_split(ink, 4):
        assert quarter.mean() > 0.4
