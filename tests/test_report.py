"""The report is one file that needs nothing else, says what results.json says, and renders without an error."""

from __future__ import annotations

import re
import shutil
import subprocess
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fake_world import fake_grid, fake_results, few_scalers, simulate

from experiments import report
from experiments.analysis import MINUS
from experiments.figures import Palette

VOID = {"meta", "br", "link", "img", "input", "hr", "path", "use", "line", "rect"}
SECTIONS = ("headline", "fronts", "time", "latency", "provisioning", "rows", "failures", "loads", "read", "provenance")


class Page(HTMLParser):
    """Tags that open and close in order, attributes, ids, and the text of every table cell."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.ids: list[str] = []
        self.fetched: list[str] = []
        self.tags: dict[str, int] = {}
        self.tables: dict[str, list[list[str]]] = {}
        self._table = ""
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = dict(attrs)
        self.tags[tag] = self.tags.get(tag, 0) + 1
        if tag not in VOID:
            self.open.append(tag)
        if tag.startswith("h") and given.get("id"):
            self.ids.append(str(given["id"]))
        targets = [str(v) for k, v in attrs if k in ("src", "href", "xlink:href", "srcset", "data")]
        self.fetched += [target for target in targets if not target.startswith("#")]
        if tag == "table":
            self._table = f"{given['class']} {given.get('data-load', '')}".strip()
            self.tables.setdefault(self._table, [])
        if tag == "tr":
            self.tables[self._table].append([])
        if tag in ("td", "th"):
            self.tables[self._table][-1].append("")

    def handle_endtag(self, tag: str) -> None:
        if tag not in VOID:
            assert self.open and self.open[-1] == tag, f"</{tag}> closes <{self.open[-1:]}>"
            self.open.pop()

    def handle_data(self, data: str) -> None:
        if self.open[-1:] and {"td", "th"} & set(self.open) and self._table and "text" not in self.open:
            row = self.tables[self._table][-1]
            row[-1] = f"{row[-1]} {data.strip()}".strip()


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """A fake comparison: generated days and a recorded hour, four scalers, one with product defaults, one learned."""
    grid = fake_grid(few_scalers(), test=6)
    found = fake_results(grid, simulate(grid, tmp_path_factory.mktemp("fake") / "r"))
    failure = {
        "load": "chat",
        "scaler": "hpa <x>",
        "split": "test",
        "seed": 3,
        "error": "1 < 2 & 3",
        "trace": "Traceback",
    }
    return found | {"failures": [failure]}


@pytest.fixture(scope="module")
def html(results: dict[str, Any]) -> str:
    return report.render(results)


@pytest.fixture(scope="module")
def page(html: str) -> Page:
    return Page(html)


def test_nothing_is_fetched_and_nothing_is_run(html: str, page: Page):
    assert page.fetched == []
    assert not re.search(r"https?://|@import|url\((?!#)", html)
    assert not {"script", "link", "img", "iframe"} & set(page.tags)


def test_every_section_is_there_in_order_and_every_tag_closes(page: Page):
    assert tuple(page.ids) == SECTIONS
    assert page.open == []


def test_the_file_is_small(html: str):
    assert len(html.encode()) < 1_000_000  # two loads, four scalers; ten loads and ten scalers must stay below 5 MB


def test_names_and_errors_are_escaped(html: str):
    assert "fake &lt;study&gt;" in html and "fake <study>" not in html
    assert "1 &lt; 2 &amp; 3" in html and "hpa &lt;x&gt;" in html


@pytest.mark.parametrize("load", ["chat", "azure-chat-hour (amplify)"])
def test_the_headline_table_says_what_results_json_says(results: dict[str, Any], page: Page, load: str):
    rows = {row[0].split()[0]: row for row in page.tables[f"headline {load}"][1:]}
    entries = [e for e in results["headline"] if e["load"] == load and e["target"] == 0.99]
    assert len(rows) == len(entries) == 4
    for entry in entries:
        cost = rows[entry["scaler"]][1]
        if entry["status"] == "reached":
            assert cost.startswith(f"{entry['usd_per_h']:.2f}")
            ends = entry["interval"]
            assert (ends is None) == (load != "chat")
            if ends is not None and ends["high"] is not None:
                assert f"{ends['low']:.2f} {report.DASH} {ends['high']:.2f}" in cost
        else:
            assert report.WORDS[entry["status"]] in cost


def test_a_load_with_two_blocks_says_no_interval_over_loads(results: dict[str, Any], html: str):
    assert [load["blocks"] for load in results["loads"]] == [6, 2]
    assert "2 load blocks: <strong>no interval over loads</strong>" in html
    assert "Intervals: 95 %, from 6 load blocks" in html


def test_the_winner_is_said_in_words_for_every_load(results: dict[str, Any], html: str):
    for verdict in results["verdicts"]:
        assert verdict["text"] in html
    assert "learned policy ppo" in html


def test_every_row_is_in_the_table_and_defaults_are_apart(results: dict[str, Any], page: Page):
    test_rows = [row for row in results["rows"] if row["split"] == "test"]
    assert len(page.tables["rows"]) == len(test_rows) + 2  # a heading per load
    defaults = page.tables["defaults"]
    assert [row[0].split()[0] for row in defaults if "upstream" in row[0]] == ["hpa", "hpa"]


def test_failed_cells_scaling_and_provenance_are_listed(results: dict[str, Any], page: Page, html: str):
    assert page.tables["failures"][1][-1] == "1 < 2 & 3"
    trace = page.tables["loads"][2]
    assert trace[8:] == ["amplify", "35.2", "1.39 / 3.86 / 16.1", "14.7 / 101 / 532"]
    for text in (results["provenance"]["command"], "0123456789abcdef", "uncommitted changes", "torch not installed"):
        assert text in html


def test_a_finding_without_test_rows_still_makes_a_report(results: dict[str, Any]):
    empty = {**results, "headline": [], "fronts": [], "rows": [], "latency": [], "examples": [], "verdicts": []}
    assert Page(report.render(empty)).open == []


def test_colours_are_the_same_in_every_figure_and_differ_between_scalers(results: dict[str, Any], html: str):
    palette = Palette(results["scalers"])
    colours = [palette.colour(scaler["label"]) for scaler in results["scalers"]]
    assert len(set(colours)) == len(colours)
    for figure in re.findall(r'<svg role="img" aria-label="Cost against.*?</svg>', html, re.S):
        assert all(colour in figure for colour in colours)


def test_many_scalers_differ_in_colour_marker_or_line():
    scalers = [{"label": f"s{i}", "kind": "rule"} for i in range(16)] + [{"label": "p", "kind": "learned"}]
    palette = Palette(scalers)
    names = [scaler["label"] for scaler in scalers]
    looks = {(palette.colour(n), palette.marker(n), str(palette.line(n)["linestyle"])) for n in names}
    assert len(looks) == 17


@pytest.mark.parametrize(
    ("value", "shown"),
    [(0.9903, "99.03 %"), (0.95, "95.00 %"), (0.99912, "99.912 %"), (0.7554, "75.54 %"), (1.0, "> 99.999 %")],
)
def test_attainment_has_two_digits_of_what_is_missing(value: float, shown: str):
    assert report.share(value).replace(report.NBSP, " ") == shown


def test_numbers_keep_sensible_precision():
    assert report.usd(36.984) == "36.98" and report.usd(12345.6) == "12,346" and report.usd(float("inf")) == report.DASH
    assert report.signed(-0.0234).replace(report.NBSP, " ") == f"{MINUS}2.3 %"
    assert report.seconds(0.0456) == "45.6 ms" and report.seconds(None) == "∞" and report.seconds(30.42) == "30.4 s"
    assert report.span({"low": 1.0, "high": None}) == f"1.00 {report.DASH} ∞"
    assert report.span({"low": None, "high": None}) == "not reached in most resamples"


@pytest.mark.e2e
def test_a_browser_renders_it_without_errors(html: str, tmp_path: Path):
    browser = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if browser is None:
        pytest.skip("needs chromium")
    (tmp_path / "report.html").write_text(html)
    flags = ["--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-sync",
             "--disable-background-networking", "--disable-component-update", "--enable-logging=stderr", "--v=0",
             f"--user-data-dir={tmp_path / 'profile'}", "--window-size=1280,4000",
             f"--screenshot={tmp_path / 'page.png'}"]  # fmt: skip
    done = subprocess.run(
        [browser, *flags, f"file://{tmp_path / 'report.html'}"], capture_output=True, text=True, timeout=120, check=True
    )
    assert "CONSOLE" not in done.stderr
    from matplotlib.image import imread

    pixels = imread(tmp_path / "page.png")[..., :3]
    assert pixels.shape[:2] == (4000, 1280)
    ink = (pixels.min(axis=2) < 0.9).any(axis=1)  # lines that are not blank
    for quarter in np.split(ink, 4):
        assert quarter.mean() > 0.4
