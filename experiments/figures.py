"""Figures of the report as inline SVG. Knows the dictionaries of results.json and nothing of how they came about."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, ParamSpec

import matplotlib as mpl
import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, FuncFormatter, LogLocator, MaxNLocator, NullFormatter, NullLocator

from experiments.fronts import level_of
from experiments.palette import Palette
from experiments.svg import GRID, INK, MUTED, PAPER, of, svg
from rlscale.types import Floats

if TYPE_CHECKING:
    from matplotlib.axes import Axes

LEVEL_TICKS = (0.5, 0.8, 0.9, 0.95, 0.98, 0.99, 0.995, 0.999, 0.9999, 0.99999)
WIDTH_IN = 10.2
HOUR_S = 3600.0
LEAST, ALMOST_ALL = 1e-4, 0.999  # shares of requests between which latencies are drawn
FAR = 0.5  # a scaler that costs 50 % more would squeeze all others together
STYLE: dict[Any, Any] = {
    "svg.fonttype": "none", "font.size": 9.0, "axes.edgecolor": MUTED, "axes.linewidth": 0.7, "axes.labelcolor": INK,
    "axes.labelsize": 9.0, "axes.titlesize": 9.5, "axes.titlelocation": "left", "axes.titleweight": "bold",
    "axes.titlecolor": INK, "text.color": INK, "xtick.color": MUTED, "ytick.color": MUTED, "xtick.labelcolor": INK,
    "ytick.labelcolor": INK,
    "xtick.labelsize": 8.5, "ytick.labelsize": 8.5, "axes.spines.top": False, "axes.spines.right": False,
    "grid.color": GRID, "grid.linewidth": 0.7, "axes.grid": True, "axes.axisbelow": True, "figure.facecolor": "none",
    "axes.facecolor": "none", "lines.linewidth": 1.6, "xtick.major.size": 3.0, "ytick.major.size": 0.0,
}  # fmt: skip


P = ParamSpec("P")


def styled(draw: Callable[P, str]) -> Callable[P, str]:
    """Draw with the report's style; matplotlib reads it when a thing is made and when it is written."""

    @functools.wraps(draw)
    def wrapped(*args: P.args, **kwargs: P.kwargs) -> str:
        with mpl.rc_context(STYLE):
            return draw(*args, **kwargs)

    return wrapped


@styled
def fronts(
    load: Mapping[str, Any], entries: Sequence[Mapping[str, Any]], rows: Sequence[Mapping[str, Any]], palette: Palette
) -> str:
    """Cost against attainment: swept points, the front through them, frozen knobs ringed, product defaults crossed."""
    fig, ax = _figure(4.3)
    for target in load["targets"]:
        own = target == load["targets"][0]
        dash = (0, (5, 3)) if own else (0, (1, 3))
        ax.axhline(level_of(target), color=INK if own else MUTED, lw=0.9, ls=dash, zorder=1)
    for entry in entries:
        _one_front(ax, entry["points"], palette, entry["scaler"])
    for row in rows:
        at = (row["usd_per_h"], -math.log10(max(1.0 - row["attainment"], 0.5 / max(row["requests"], 1.0))))
        if row["variant"] == "defaults":
            ax.plot(*at, marker="X", ms=8, color=palette.colour(row["scaler"]), mec=INK, mew=0.8, ls="", zorder=6)
        elif row["variant"] == "frozen":
            ax.plot(*at, marker="o", ms=9, mfc="none", mec=palette.colour(row["scaler"]), mew=1.3, ls="", zorder=5)
    ax.set_xscale("log")
    cheap, dear, low, high = front_window(entries)
    ax.set_xlim(cheap, dear)
    ax.xaxis.set_major_locator(LogLocator(10, subs=(1, 1.5, 2, 2.5, 3, 4, 5, 6, 7, 8)))
    ax.xaxis.set_major_formatter(FuncFormatter(lambda v, _: f"{v:g}"))
    ax.xaxis.set_minor_locator(NullLocator())
    ax.yaxis.set_major_locator(FixedLocator([level_of(t) for t in LEVEL_TICKS]))
    ax.yaxis.set_major_formatter(FuncFormatter(lambda v, _: f"{100 * (1 - 10**-v):.5g} %"))
    ax.set_ylim(low, high)
    ax.set_xlabel("cost, USD/h (logarithmic)")
    ax.set_ylabel("requests within the SLO")
    return svg(fig, f"Cost against attainment on {load['name']}")


def front_window(entries: Sequence[Mapping[str, Any]]) -> tuple[float, float, float, float]:
    """What a figure of fronts shows: cheapest and dearest cost, lowest and highest level; nothing below half."""
    points = [point for entry in entries for point in entry["points"]]
    low, high = level_of(LEVEL_TICKS[0]), min(max((p["level"] for p in points), default=3.0), 5.0) + 0.15
    inside = [p["usd_per_h"] for p in points if p["level"] >= low] or [1.0, 100.0]
    return 0.93 * min(inside), 1.07 * max(inside), low, max(high, 2 * low)


@styled
def differences(load: Mapping[str, Any], entries: Sequence[Mapping[str, Any]], palette: Palette) -> str:
    """Paired difference to the best rule with its interval, one panel per target; empty without any difference."""
    labels = list(dict.fromkeys(e["scaler"] for e in entries if e["versus_best"] is not None))
    if not labels:
        return ""
    targets = load["targets"]
    fig, axes = _figure(0.75 + 0.27 * len(labels), 1, len(targets), sharey=True)
    row = np.atleast_1d(axes).ravel()
    for ax, target in zip(row, targets):
        here = {e["scaler"]: e for e in entries if e["target"] == target}
        best = next((e["scaler"] for e in here.values() if e["best_rule"]), "-")
        ax.axvline(0.0, color=INK, lw=0.9, zorder=1)
        for y, label in enumerate(labels):
            versus = here.get(label, {}).get("versus_best")
            if versus is not None:
                _difference(ax, y, versus, palette, label)
        if all(v is None or v["difference"] > FAR for v in (e["versus_best"] for e in here.values())):
            ax.set_xlim(-0.05 * FAR, FAR)
        ax.set_title(f"at {100 * target:g} %, against {best}")
        ax.xaxis.set_major_locator(MaxNLocator(5, steps=[1, 2, 5, 10]))
        ax.xaxis.set_major_formatter(FuncFormatter(lambda v, _: f"{100 * v:+.3g} %" if v else "0"))
        ax.grid(axis="y", visible=False)
    row[0].set_yticks(range(len(labels)), labels)
    _name_ticks(row[0], labels)
    row[0].set_ylim(len(labels) - 0.4, -0.6)
    return svg(fig, f"Cost difference to the best rule on {load['name']}")


@styled
def timeline(examples: Sequence[Mapping[str, Any]], palette: Palette) -> str:
    """Ready and pending replicas against need, with the queue below, one panel per scaler."""
    rows = math.ceil(len(examples) / 2)
    fig, axes = _figure(0.4 + 1.75 * rows, 2 * rows, 2, heights=[3.2, 1.0] * rows, sharex=True)
    series = [example["series"] for example in examples]
    peak = max(np.maximum(np.add(s["ready"], s["pending"]), s["need"]).max() for s in series)
    queue = max(max(s["waiting"]) for s in series)
    for i, example in enumerate(examples):
        _one_timeline(axes[2 * (i // 2)][i % 2], axes[2 * (i // 2) + 1][i % 2], example, palette, 1.08 * peak, queue)
    if len(examples) % 2:
        for ax in (axes[-2][1], axes[-1][1]):
            ax.set_axis_off()
    fig.supxlabel("hours" if elapsed(series[0])[1] == HOUR_S else "minutes", fontsize=9.0)
    return svg(fig, "Capacity over time")


@styled
def latency(entries: Sequence[Mapping[str, Any]], palette: Palette) -> str:
    """Share of requests slower than a time; p50, p95 and p99 marked. A curve that levels off lost the rest."""
    fig, axes = _figure(3.1, 1, 3, sharey=True)
    titles = {"ttft": "time to first token", "tpot": "time per output token", "e2e": "whole request"}
    for ax, (name, title) in zip(axes[0], titles.items()):
        for entry in entries:
            inside = [point for point in entry["ccdf"][name] if 0.5 * LEAST <= point[1] < ALMOST_ALL]
            curve = np.array(inside[:-1:2] + inside[-1:]).reshape(-1, 2)  # every second point is smooth enough
            ax.plot(curve[:, 0], curve[:, 1], gid=of(entry["scaler"]), **palette.line(entry["scaler"]))
            marks = [(entry[f"{name}_{p}_s"], share) for p, share in (("p50", 0.5), ("p95", 0.05), ("p99", 0.01))]
            finite = [(s, share) for s, share in marks if s is not None and math.isfinite(s)]
            ax.plot(*np.array(finite).reshape(-1, 2).T, ls="", zorder=5, gid=of(entry["scaler"]),
                    color=palette.colour(entry["scaler"]), **palette.mark(entry["scaler"], 4))  # fmt: skip
        ax.set_xscale("log")
        ax.set_yscale("log")
        ax.set_ylim(LEAST, 1.3)
        first = [point[0] for entry in entries for point in entry["ccdf"][name] if point[1] < ALMOST_ALL]
        if first:
            ax.set_xlim(left=0.7 * min(first))
        ax.xaxis.set_major_formatter(FuncFormatter(lambda v, _: _seconds(v)))
        ax.xaxis.set_minor_formatter(NullFormatter())
        ax.yaxis.set_major_formatter(FuncFormatter(lambda v, _: f"{100 * v:g} %"))
        ax.yaxis.set_minor_locator(NullLocator())
        ax.set_title(title)
    axes[0][0].set_ylabel("share of requests slower")
    return svg(fig, "Latency distribution")


@styled
def bars(entries: Sequence[Mapping[str, Any]], palette: Palette) -> str:
    """Over- and under-provisioning, churn, started replicas and decision time, one row per scaler."""
    fig, axes = _figure(0.8 + 0.27 * len(entries), 1, 4, sharey=True, widths=[2.2, 1, 1, 1])
    over, churn, started, decision = axes[0]
    _bars(over, [e["over_gpu_h_per_h"] for e in entries], entries, palette)
    _bars(over, [-e["under_gpu_h_per_h"] for e in entries], entries, palette, alpha=0.45)
    over.axvline(0.0, color=INK, lw=0.9)
    over.set_title("GPUs too few  |  too many, on average")
    over.xaxis.set_major_formatter(FuncFormatter(lambda v, _: f"{abs(v):g}"))
    for ax, key, title in ((churn, "churn_per_h", "churn per hour"), (started, "started_per_h", "started per hour")):
        _bars(ax, [e[key] for e in entries], entries, palette)
        ax.set_title(title)
    for i, entry in enumerate(entries):
        label = entry["scaler"]
        decision.plot(entry["decision_us"], i, gid=of(label), color=palette.colour(label), **palette.mark(label, 6))
    decision.set_xscale("log")
    times_us = [entry["decision_us"] for entry in entries]
    decision.set_xlim(min(1.0, *times_us), 10.0 * max(10.0, *times_us))
    decision.xaxis.set_major_formatter(FuncFormatter(lambda v, _: _seconds(1e-6 * v)))
    decision.xaxis.set_minor_locator(NullLocator())
    decision.set_title("time per decision")
    names = [e["scaler"] + ("" if e["variant"] == "frozen" else f" ({e['variant']})") for e in entries]
    over.set_yticks(range(len(entries)), names)
    _name_ticks(over, [entry["scaler"] for entry in entries])
    over.set_ylim(len(entries) - 0.4, -0.6)
    for ax in axes[0]:
        ax.grid(axis="y", visible=False)
    return svg(fig, "Provisioning, churn and decision time")


def elapsed(series: Mapping[str, Any]) -> tuple[Floats, float]:
    """Times since the first, in hours or, where there are only two of them, in minutes; and the unit in seconds."""
    since_s = np.array(series["t_s"]) - series["t_s"][0]
    unit_s = HOUR_S if since_s[-1] > 2 * HOUR_S else 60.0
    return since_s / unit_s, unit_s


def example_title(example: Mapping[str, Any]) -> str:
    """Whose run it is and at which knob value."""
    knob = "" if example["value"] is None else f" · {example['knob']} {example['value']:.3g}"
    return str(example["scaler"]) + knob + ("" if example["variant"] == "frozen" else " · best attainment")


def _figure(
    height_in: float, rows: int = 1, columns: int = 1, sharey: bool = False, sharex: bool = False,
    widths: list[float] | None = None, heights: list[float] | None = None,
) -> tuple[Figure, Any]:  # fmt: skip
    fig = Figure((WIDTH_IN, height_in), layout="constrained")
    ratios = {"width_ratios": widths, "height_ratios": heights}
    single = rows == columns == 1
    return fig, fig.subplots(rows, columns, sharey=sharey, sharex=sharex, squeeze=single, gridspec_kw=ratios)


def _one_front(ax: Axes, points: Sequence[Mapping[str, Any]], palette: Palette, label: str) -> None:
    members = sorted({p["member"] for p in points})
    for member in members:
        mine = sorted((p for p in points if p["member"] == member), key=lambda p: p["usd_per_h"])
        front = [p for p in mine if p["on_front"]]
        faint = {"alpha": 0.35, "linewidth": 1.0} if len(members) > 1 else {}
        ax.plot([p["usd_per_h"] for p in front], [p["level"] for p in front], **{**palette.line(label), **faint})
        ax.plot([p["usd_per_h"] for p in mine], [p["level"] for p in mine], ls="", color=palette.colour(label),
                alpha=0.3 if len(members) > 1 else 0.85, mew=0, zorder=3, **palette.mark(label, 4))  # fmt: skip


def _difference(ax: Axes, y: int, versus: Mapping[str, Any], palette: Palette, label: str) -> None:
    """One scaler's bar; what lies beyond the panel is written at its edge."""
    colour, interval = palette.colour(label), versus["interval"]
    if versus["difference"] > FAR:
        text = f"{100.0 * versus['difference']:+.0f} % ▸"
        ax.annotate(text, (1.0, y), xycoords=("axes fraction", "data"), ha="right", va="center", gid=of(label))
        return
    if interval is not None and interval["low"] is not None:
        high = FAR if interval["high"] is None else min(interval["high"], FAR)
        ax.plot([interval["low"], high], [y, y], color=colour, lw=2.2, solid_capstyle="round", zorder=3,
                gid=of(label))  # fmt: skip
    looks = {"color": colour, "mec": PAPER, "mew": 0.8, **palette.mark(label, 7)}
    ax.plot(versus["difference"], y, gid=of(label), zorder=4, **looks)


def _bars(
    ax: Axes, values: Sequence[float], entries: Sequence[Mapping[str, Any]], palette: Palette, alpha: float = 1.0
) -> None:
    for i, (value, entry) in enumerate(zip(values, entries, strict=True)):
        ax.barh(i, value, 0.62, color=palette.colour(entry["scaler"]), alpha=alpha, gid=of(entry["scaler"]))


def _name_ticks(ax: Axes, labels: Sequence[str]) -> None:
    for tick, label in zip(ax.get_yticklabels(), labels, strict=True):
        tick.set_gid(of(label))


def _one_timeline(
    ax: Axes, below: Axes, example: Mapping[str, Any], palette: Palette, peak: float, queue: float
) -> None:
    series, colour = example["series"], palette.colour(example["scaler"])
    time, _ = elapsed(series)
    ready, pending = np.array(series["ready"]), np.array(series["pending"])
    ax.fill_between(time, 0, ready, step="post", color=colour, alpha=0.35, lw=0)
    ax.fill_between(time, ready, ready + pending, step="post", color=MUTED, alpha=0.55, lw=0)
    ax.plot(time, series["need"], color=INK, lw=1.0, drawstyle="steps-post")
    ax.set_ylim(0, peak)
    ax.set_xlim(time[0], time[-1])
    ax.set_title(example_title(example))
    ax.yaxis.set_major_locator(MaxNLocator(4, integer=True))
    ax.set_ylabel("replicas")
    below.fill_between(time, 0, series["waiting"], step="post", color=colour, alpha=0.9, lw=0)
    below.set_ylim(0, max(1.0, queue))
    below.yaxis.set_major_locator(MaxNLocator(1, integer=True))
    below.set_ylabel("queue")


def _seconds(value: float) -> str:
    if value < 0.9995e-3:
        return f"{1e6 * value:g} µs"
    return f"{1e3 * value:g} ms" if value < 0.9995 else f"{value:g} s"
