"""Held-out errors of the iteration law by distance from what it was fitted on: a column of panels per table."""

from __future__ import annotations

import io
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, FuncFormatter, NullLocator

from experiments.figures import STYLE
from experiments.svg import INK, MUTED

COLOURS = {"H100": "#0072b2", "H200": "#009e73", "B200": "#d55e00", "A100": "#cc79a7", "H100, 50 % power": "#56b4e9"}
PLAIN = {"h100-80gb": "H100", "a100-80gb": "A100", "h100-80gb-pcap": "H100, 50 % power"}
GOALS = {"tpot": 0.07, "ttft": 0.15}
LEAST, MOST = 0.003, 3.0  # what is beyond is drawn at the edge
SPREAD = 0.08  # of the points sideways, doublings: half of them are exactly one doubling away


def draw(cells: list[dict[str, Any]]) -> str:
    """TPOT above TTFT, as a standalone SVG file; the line is the median of each quarter of the distances."""
    import matplotlib as mpl

    held = [cell for cell in cells if cell["part"] == "held out"]
    tables = list(dict.fromkeys(cell["table"] for cell in held))
    with mpl.rc_context({**STYLE, "figure.facecolor": "white", "svg.hashsalt": "hardware"}):
        fig = Figure(figsize=(3.1 * len(tables), 5.4), layout="constrained")
        axes = fig.subplots(2, len(tables), sharey=True, squeeze=False)
        for column, table in enumerate(tables):
            for row, time in enumerate(("tpot", "ttft")):
                inside = [cell for cell in held if cell["table"] == table and cell["time"] == time]
                _panel(axes[row][column], inside, f"{table}: {time.upper()}", GOALS[time])
        axes[0][0].set_ylabel("error of TPOT, held out")
        axes[1][0].set_ylabel("error of TTFT, held out")
        for ax in axes[1]:
            ax.set_xlabel("doublings from the nearest fitted one")
        _legend(fig, held)
        text = io.StringIO()
        fig.savefig(text, format="svg", metadata={"Date": None})
    return text.getvalue()


def _panel(ax: Any, cells: list[dict[str, Any]], title: str, goal: float) -> None:
    ax.set_title(title)
    if not cells:
        ax.text(0.5, 0.5, "not measured", transform=ax.transAxes, ha="center", color=MUTED)
        ax.set_xticks([])
        ax.grid(visible=False)
        return
    rng = np.random.default_rng(0)
    for gpu, colour in COLOURS.items():
        mine = [cell for cell in cells if PLAIN.get(cell["gpu"], cell["gpu"]) == gpu]
        x = np.array([cell["doublings"] for cell in mine]) + rng.uniform(-SPREAD, SPREAD, len(mine))
        y = np.clip(np.abs([cell["error"] for cell in mine]), LEAST, MOST)
        ax.plot(x, y, "o", markersize=3.0, markeredgewidth=0, alpha=0.55, color=colour)
    distance = np.array([cell["doublings"] for cell in cells])
    error = np.clip(np.abs([cell["error"] for cell in cells]), LEAST, MOST)
    order = np.argsort(distance, kind="stable")
    quarters = [part for part in np.array_split(order, 4) if len(part)]
    ax.plot([distance[part].mean() for part in quarters], [np.median(error[part]) for part in quarters], color=INK,
            linewidth=1.6, marker="s", markersize=4)  # fmt: skip
    ax.axhline(goal, color=MUTED, linestyle=(0, (4, 2)), linewidth=1.0)
    ax.set_yscale("log")
    ax.set_ylim(LEAST * 0.9, MOST * 1.1)
    ax.yaxis.set_major_locator(FixedLocator([0.003, 0.01, 0.03, 0.1, 0.3, 1.0, 3.0]))
    ax.yaxis.set_minor_locator(NullLocator())
    ax.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{100 * value:g} %"))


def _legend(fig: Figure, held: list[dict[str, Any]]) -> None:
    from matplotlib.lines import Line2D

    there = {PLAIN.get(cell["gpu"], cell["gpu"]) for cell in held}
    handles = [Line2D([], [], linestyle="", marker="o", markersize=5, color=colour, label=gpu)
               for gpu, colour in COLOURS.items() if gpu in there]  # fmt: skip
    handles.append(Line2D([], [], color=INK, marker="s", markersize=4, label="median of a quarter of the points"))
    handles.append(Line2D([], [], color=MUTED, linestyle=(0, (4, 2)), linewidth=1.0, label="goal for the median"))
    fig.legend(handles=handles, loc="outside upper center", ncols=len(handles), frameon=False, fontsize=8.5)
