"""Figures of the fidelity ladder, one per rung, from its tables. Standalone SVG files, nothing computed but errors."""

from __future__ import annotations

import io
import math
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter

from experiments.fidelity_errors import apart
from experiments.figures import STYLE
from experiments.svg import INK, MUTED

if TYPE_CHECKING:
    from matplotlib.axes import Axes

Row = Mapping[str, Any]
BLUE, ORANGE, GREEN, PINK = "#0072b2", "#d55e00", "#009e73", "#cc79a7"
FLEETS = {1: BLUE, 4: GREEN, 16: ORANGE}  # colours by replicas
MARKS = {1.0: "o", 2.0: "s", 3.5: "^"}  # by coefficient of variation of the arrivals
ERRORS = (("ttft_mean", "mean TTFT, %"), ("ttft_p99", "p99 TTFT, %"), ("tpot_mean", "mean TPOT, %"),
          ("attainment", "attainment, points"))  # fmt: skip
PERCENT = FuncFormatter(lambda value, _: f"{100 * value:+.3g}" if value else "0")
FARTHEST = 0.6  # an error beyond is drawn at the edge
SPREAD = 0.012  # sideways, so that points at one load do not hide each other


def written(draw: Callable[[Figure], None], width_in: float, height_in: float, salt: str) -> str:
    """A figure as text that is the same in every run."""
    import matplotlib as mpl

    with mpl.rc_context({**STYLE, "figure.facecolor": "white", "svg.hashsalt": salt}):
        fig = Figure(figsize=(width_in, height_in), layout="constrained")
        draw(fig)
        text = io.StringIO()
        fig.savefig(text, format="svg", metadata={"Date": None})
    return text.getvalue()


def theory(rows: Sequence[Row]) -> str:
    """Mean over theory with its interval, case by case; cases that are all grain are left out."""
    shown = [row for row in rows if row["theory"] > 0.01]

    def draw(fig: Figure) -> None:
        ax = fig.subplots()
        place = np.arange(len(shown))[::-1]
        middle = np.array([row["mean"] / row["theory"] for row in shown])
        half = np.array([(row["high"] - row["low"]) / 2.0 / row["theory"] for row in shown])
        colours = [BLUE if row["holds"] else ORANGE for row in shown]
        ax.axvline(1.0, color=INK, linewidth=1.0)
        ax.hlines(place, middle - half, middle + half, colors=colours, linewidth=1.6)
        ax.scatter(middle, place, c=colours, s=18, zorder=3)
        ax.set_yticks(place, [_case(row) for row in shown])
        ax.set_xlabel("simulated mean over theory, 95 % interval over the seeds")
        ax.grid(visible=False, axis="y")

    return written(draw, 8.2, 0.24 * len(shown) + 0.8, "theory")


def by_load(rows: Sequence[Row], name: str, goals: Mapping[str, float], salt: str) -> str:
    """Errors of the fluid by load, one panel per measure; `name` puts a measure into the column of its error."""
    panels = [(key, title) for key, title in ERRORS if name.format(key) in rows[0]]

    def draw(fig: Figure) -> None:
        axes = np.atleast_1d(fig.subplots(1, len(panels)))
        rng = np.random.default_rng(0)  # sideways only
        for ax, (key, title) in zip(axes, panels, strict=True):
            for row in rows:
                error = float(np.clip(row[name.format(key)], -FARTHEST, FARTHEST))
                ax.plot(row["load"] + rng.uniform(-SPREAD, SPREAD), error, MARKS[row["cv"]], markersize=4,
                        markerfacecolor=FLEETS[row["replicas"]], markeredgewidth=0, alpha=0.65)  # fmt: skip
            _goal(ax, goals.get(key))
            ax.set_title(title)
            ax.set_xlabel("load, of saturation")
            ax.yaxis.set_major_formatter(PERCENT)
        _marks(fig)

    return written(draw, 10.6, 3.4, salt)


def by_case(rows: Sequence[Row], engines: Mapping[str, str], goals: Mapping[str, float], salt: str) -> str:
    """Errors of the fluid against each truth, case by case; `engines`: column prefix of a truth -> its name."""
    cases = list(dict.fromkeys(row["case"] for row in rows))

    def draw(fig: Figure) -> None:
        axes = np.atleast_1d(fig.subplots(1, len(ERRORS), sharey=True))
        for ax, (key, title) in zip(axes, ERRORS, strict=True):
            for offset, (prefix, label), colour in zip((-0.14, 0.14), engines.items(), (BLUE, ORANGE), strict=True):
                for row in rows:
                    error = apart(key, row[f"fluid_{key}"], row[f"{prefix}_{key}"])
                    y = len(cases) - 1 - cases.index(row["case"]) + offset
                    ax.plot(float(np.clip(error, -FARTHEST, FARTHEST)), y, "o", markersize=4, color=colour, alpha=0.6,
                            markeredgewidth=0, label=label)  # fmt: skip
            if key in goals:
                ax.axvspan(-goals[key], goals[key], color=MUTED, alpha=0.12, linewidth=0)
            ax.axvline(0.0, color=INK, linewidth=0.8)
            ax.set_title(title)
            ax.xaxis.set_major_formatter(PERCENT)
            ax.grid(visible=False, axis="y")
        axes[0].set_yticks(range(len(cases)), cases[::-1])
        handles, labels = axes[0].get_legend_handles_labels()
        one = dict(zip(labels, handles, strict=True))
        fig.legend(
            one.values(), [f"against {name}" for name in one], loc="outside upper center", ncols=2, frameon=False
        )

    return written(draw, 10.6, 0.42 * len(cases) + 1.3, salt)


def by_lengths(rows: Sequence[Row], salt: str) -> str:
    """Errors of the fluid by load, one colour per kind of request."""
    colours = dict(zip(dict.fromkeys(row["lengths"] for row in rows), (BLUE, GREEN, ORANGE, PINK), strict=False))
    panels = [(key, title) for key, title in ERRORS if f"error_{key}" in rows[0]]

    def draw(fig: Figure) -> None:
        rng = np.random.default_rng(0)  # sideways only
        for ax, (key, title) in zip(np.atleast_1d(fig.subplots(1, len(panels))), panels, strict=True):
            for lengths, colour in colours.items():
                mine = [row for row in rows if row["lengths"] == lengths]
                place = [row["load"] + rng.uniform(-SPREAD, SPREAD) for row in mine]
                ax.plot(place, [row[f"error_{key}"] for row in mine], "o", markersize=4, color=colour, alpha=0.6,
                        markeredgewidth=0, label=lengths)  # fmt: skip
            _goal(ax, None)
            ax.set_title(title)
            ax.set_xlabel("load, of what the weaker side carries")
            ax.yaxis.set_major_formatter(PERCENT)
        fig.legend(*ax.get_legend_handles_labels(), loc="outside upper center", ncols=len(colours), frameon=False)

    return written(draw, 8.4, 3.2, salt)


def ranking(ranks: Sequence[Row], rows: Sequence[Row]) -> str:
    """Rank in the request engine against rank in the fluid, one panel per scenario; on the line they agree."""
    columns = 6

    def draw(fig: Figure) -> None:
        lines = math.ceil(len(ranks) / columns)
        axes = fig.subplots(lines, columns, squeeze=False, sharex=True, sharey=True).ravel()
        for ax in axes[len(ranks) :]:
            ax.set_visible(False)
        for ax, rank in zip(axes, ranks, strict=False):
            mine = [row for row in rows if row["scenario"] == rank["scenario"]]
            most = max(int(row["fluid_rank"]) for row in mine) + 0.7
            swapped = {name for pair in rank["swapped"] for name in pair}
            ax.plot([0.3, most], [0.3, most], color=MUTED, linewidth=0.8)
            ax.scatter([int(row["fluid_rank"]) for row in mine], [int(row["request_rank"]) for row in mine], s=16,
                       c=[ORANGE if row["scaler"] in swapped else BLUE for row in mine], zorder=3)  # fmt: skip
            ax.set_title(f"{rank['scenario']}\ntau {rank['tau']:.2f}", fontsize=8.5)
        fig.supxlabel("rank in the fluid engine", fontsize=9)
        fig.supylabel("rank in the request engine", fontsize=9)

    return written(draw, 10.6, 1.75 * math.ceil(len(ranks) / columns) + 0.5, "ranking")


def _case(row: Row) -> str:
    model = row["model"].replace("M/M/c", f"M/M/{row['servers']}")
    return f"{model}, load {row['load']:g}"


def _goal(ax: Axes, goal: float | None) -> None:
    ax.axhline(0.0, color=INK, linewidth=0.8)
    if goal is not None:
        ax.axhspan(-goal, goal, color=MUTED, alpha=0.12, linewidth=0)


def _marks(fig: Figure) -> None:
    from matplotlib.lines import Line2D
    from matplotlib.patches import Patch

    handles: list[Any] = [
        Line2D([], [], linestyle="", marker="o", color=colour, label=f"{count} replica{'s' * (count > 1)}")
        for count, colour in FLEETS.items()
    ]
    handles += [
        Line2D([], [], linestyle="", marker=mark, color=MUTED, label=f"CV {cv:g}") for cv, mark in MARKS.items()
    ]
    handles.append(Patch(color=MUTED, alpha=0.12, label="goal"))
    fig.legend(handles=handles, loc="outside upper center", ncols=len(handles), frameon=False, fontsize=8.5)
