"""The report is one file that needs nothing else, says what results.json says, and renders without an error."""

from __future__ import annotations

import argparse
import json
import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fake_world import fake_grid, fake_results, few_scalers, simulate

from experiments import report, report_data
from experiments.analysis import MINUS, NBSP
from experiments.palette import Palette
from experiments.report_words import DASH, SENTENCES, STATUS, bottom_line, outcome, seconds, share, signed, span, usd
from experiments.results import write_json
from rlscale.errors import ResultError

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
    failure = {"load": "chat", "scaler": "hpa <x>", "split": "test", "seed": 3, "error": "1 < 2 & 3", "trace": "Trace"}
    return found | {"failures": [failure]}


@pytest.fixture(scope="module")
def html(results: dict[str, Any]) -> str:
    return report.render(results)


@pytest.fixture(scope="module")
def page(html: str) -> Page:
    return Page(html)


def test_nothing_is_fetched_and_only_the_pages_own_script_may_run(html: str, page: Page):
    assert page.fetched == []
    assert set(re.findall(r"https?://[^\"\s]*", html)) == {"http://www.w3.org/2000/svg"}  # a name, never fetched
    assert not re.search(r"@import|url\((?!#|\$)", html)
    assert not {"link", "img", "iframe"} & set(page.tags)
    assert "default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'" in html


def test_every_section_is_there_in_order_and_every_tag_closes(page: Page):
    assert tuple(page.ids) == SECTIONS
    assert page.open == []


def test_a_study_with_one_target_is_drawn_too(results: dict[str, Any]):
    one = json.loads(json.dumps(results))
    for load in one["loads"]:
        load["targets"] = [target := one["loads"][0]["targets"][0]]
    one["headline"] = [entry for entry in one["headline"] if entry["target"] == target]
    assert f"at {100 * target:g} %, against" in report.render(one)


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
                assert f"{ends['low']:.2f} {DASH} {ends['high']:.2f}" in cost
        else:
            assert STATUS[entry["status"]] in cost


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
    hues = {palette.hue(scaler["label"]) for scaler in results["scalers"]}
    assert len(hues) == len(results["scalers"])
    classes = dict(re.findall(r"^\.(k\d+) \{(.*)\}$", html, re.M))
    for figure in re.findall(r'<svg role="img" aria-label="Cost against.*?</svg>', html, re.S):
        drawn = " ".join(classes[name] for name in re.findall(r'class="(k\d+)"', figure))
        assert all(f"var(--hue-{hue})" in drawn for hue in hues)


@pytest.mark.parametrize(
    ("value", "shown"),
    [(0.9903, "99.03 %"), (0.95, "95.00 %"), (0.99912, "99.912 %"), (0.7554, "75.54 %"), (1.0, "> 99.999 %")],
)
def test_attainment_has_two_digits_of_what_is_missing(value: float, shown: str):
    assert share(value).replace(NBSP, " ") == shown


def test_numbers_keep_sensible_precision():
    assert usd(36.984) == "36.98" and usd(12345.6) == "12,346" and usd(float("inf")) == DASH
    assert signed(-0.0234).replace(NBSP, " ") == f"{MINUS}2.3 %"
    assert seconds(0.0456) == "45.6 ms" and seconds(None) == "∞" and seconds(30.42) == "30.4 s"
    assert span({"low": 1.0, "high": None}) == f"1.00 {DASH} ∞"
    assert span({"low": None, "high": None}) == "not reached in most resamples"


@pytest.mark.parametrize(
    ("status", "change", "interval", "word", "tone"),
    [
        ("reached", 0.26, {"low": 0.15, "high": 0.4}, "loses", "bad"),
        ("reached", 0.26, {"low": 0.15, "high": None}, "loses", "bad"),
        ("reached", -0.1, {"low": -0.2, "high": -0.05}, "wins", "good"),
        ("reached", 0.01, {"low": -0.02, "high": 0.03}, "cannot be told apart", "open"),
        ("reached", 0.347, None, "dearer, no interval", "bad"),
        ("reached", -0.02, None, "cheaper, no interval", "open"),
        ("never", None, None, "never reaches it", "bad"),
        ("above", None, None, "always above it", "open"),
        ("failed", None, None, "failed", "bad"),
    ],
)
def test_a_loss_is_called_a_loss(status: str, change: float | None, interval: Any, word: str, tone: str):
    versus = None if change is None else {"difference": change, "interval": interval}
    assert outcome({"status": status, "versus_best": versus}, True) == (word, tone)


def test_the_bottom_line_counts_wins_and_losses_over_loads(results: dict[str, Any], page: Page):
    line = bottom_line(results)
    own = [e for e in results["headline"] if e["target"] == 0.99 and e["scaler"] == "ppo"]
    found = [outcome(e, True).word for e in own]
    wins = found.count("wins")
    assert line.startswith(f"ppo beats the best rule on {wins or 'none'} of 2 loads")
    for word in set(found) - {"wins"}:
        assert SENTENCES[word].split("{}")[0].strip() in line
    single = {**results, "loads": results["loads"][:1]}
    verdict = next(v["text"] for v in results["verdicts"] if v["load"] == "chat" and v["target"] == 0.99)
    assert bottom_line(single) == verdict


def test_every_swept_point_of_a_load_with_enough_blocks_has_an_interval_around_it(results: dict[str, Any]):
    swept = [(f["load"], p) for f in results["fronts"] if f["split"] == "test" for p in f["points"]]
    assert {load for load, _ in swept} == {"chat", "azure-chat-hour (amplify)"}
    for load, point in swept:
        ends = point["attainment_interval"]
        assert (ends is None) == (load != "chat")
        # The level of no miss is that of half a miss, so a perfect attainment lies just above its interval.
        assert ends is None or ends["low"] <= point["attainment"] <= ends["high"] + 1.0 / point["requests"]


def test_thinning_keeps_the_smallest_and_the_largest_of_every_stretch():
    rng = np.random.default_rng(5)
    values = rng.normal(size=1000).cumsum()
    thin = report_data.thinned({"t_s": list(range(1000)), "ready": values.tolist()}, 100)
    assert len(thin["ready"]) == len(thin["t_s"]) == 100
    assert np.all(np.diff(thin["t_s"]) > 0)
    pairs = thin["ready"].reshape(50, 2)
    stretches = values.reshape(50, 20)
    assert np.array_equal(pairs.min(axis=1), stretches.min(axis=1))
    assert np.array_equal(pairs.max(axis=1), stretches.max(axis=1))
    assert np.array_equal(report_data.thinned({"t_s": [0.0, 1.0], "ready": [3.0, 4.0]}, 60)["ready"], [3.0, 4.0])


def test_names_cannot_leave_the_embedded_data(results: dict[str, Any], monkeypatch: pytest.MonkeyPatch):
    no_figures = dict.fromkeys(("fronts", "differences", "timeline", "latency", "bars"), "")
    monkeypatch.setattr(report, "_figures", lambda *args: no_figures)
    evil = "</script><script>alert(1)</script>"
    renamed = json.loads(json.dumps(results).replace("azure-chat-hour (amplify)", evil))
    page = Page(report.render(renamed))
    assert page.tags["script"] == 3  # the class for scripts, the data, the page's own


def large(results: dict[str, Any], loads: int, scalers: int, knobs: int) -> dict[str, Any]:
    """A study of so many loads, scalers and knob values, with time lines that are all noise."""
    rng = np.random.default_rng(9)
    rules = [f"rule-{i}" for i in range(scalers - 1)]
    big: dict[str, Any] = {**results, "scalers": [{**results["scalers"][0], "label": name} for name in rules]}
    big["scalers"].append(results["scalers"][-1])
    found: dict[str, list[Any]] = {key: [] for key in ("headline", "fronts", "rows", "latency", "examples")}
    for name in [*rules, "ppo"]:
        like = "ppo" if name == "ppo" else "headroom"
        for key, entries in found.items():
            mine = [e for e in results[key] if e["load"] == "chat" and e["scaler"] == like]
            if key in ("rows", "fronts"):
                mine = [e for e in mine if e["split"] == "test"]
            if key == "rows":
                mine += [e for e in mine if e["variant"] == "sweep"] * (knobs // 8)
            if key == "fronts":
                points = [{**p, "usd_per_h": p["usd_per_h"] * 1.01} for p in mine[0]["points"][: knobs - 8]]
                mine = [{**mine[0], "points": mine[0]["points"] + points}]
            if key == "examples":
                noise = {n: rng.integers(0, 3000, 480) / 7 for n in mine[0]["series"] if n != "t_s"}
                mine = [{**mine[0], "series": {**mine[0]["series"], **noise}}]
            entries += [{**e, "scaler": name} for e in mine]
    names = [f"load-{i}" for i in range(loads)]
    for key, entries in found.items():
        big[key] = [{**e, "load": name} for name in names for e in entries]
    big["loads"] = [{**results["loads"][0], "name": name} for name in names]
    big["verdicts"] = [{**results["verdicts"][0], "load": name} for name in names]
    return big


def test_a_large_study_stays_below_five_megabytes(results: dict[str, Any], monkeypatch: pytest.MonkeyPatch):
    drawn: list[dict[str, str]] = []
    draw = report._figures

    def once(*args: Any) -> dict[str, str]:  # the loads are alike, so that one set of figures stands for all
        if not drawn:
            drawn.append(draw(*args))
        return drawn[0]

    monkeypatch.setattr(report, "_figures", once)
    study = large(results, loads=10, scalers=12, knobs=12)
    assert len(study["examples"]) == 120
    size = len(report.render(study).encode())
    assert 1_000_000 < size < 5_000_000


def test_the_report_is_drawn_anew_from_results_json_alone(
    results: dict[str, Any], html: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    write_json(tmp_path / "results.json", results)
    (tmp_path / "report.html").write_text("an old one")
    assert report.run(argparse.Namespace(folders=[tmp_path])) == 0
    assert (tmp_path / "report.html").read_text() == html
    assert "report.html: " in capsys.readouterr().out
    assert sorted(path.name for path in tmp_path.iterdir()) == ["report.html", "results.json"]


def test_a_folder_without_a_comparison_gets_no_report(tmp_path: Path):
    with pytest.raises(ResultError, match=r"holds no results\.json"):
        report.run(argparse.Namespace(folders=[tmp_path]))
    write_json(tmp_path / "results.json", {"loads": []})
    with pytest.raises(ResultError, match=r"is not of a comparison \(no headline, rows, scalers\)"):
        report.run(argparse.Namespace(folders=[tmp_path]))
    assert not (tmp_path / "report.html").exists()
