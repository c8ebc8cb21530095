"""Held-out errors of the iteration law: one panel per table and kind of time, by distance and GPU."""

from __future__ import annotations

import io
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, FuncFormatter, NullLocator

from experiments.figures import STYLE
from experiments.svg import INK
from rlscale.types import Floats

COLOURS = {"A100": "#cc79a7", "H100": "#0072b2", "H100, power cap": "#56b4e9", "H200": "#009e73", "B200": "#d55e00"}
PLAIN = {"h100-80gb": "H100", "a100-80gb": "A100", "h100-80gb-pcap": "H100, power cap"}
PANELS = (("AIConfigurator", "tpot", "TPOT"), ("Splitwise", "tpot", "TPOT"), ("ML.ENERGY", "tpot", "TPOT, mean"),
          ("AIConfigurator", "ttft", "TTFT"), ("Splitwise", "ttft", "TTFT"),
          ("ML.ENERGY, median ITL", "tpot", "median ITL"))  # fmt: skip
GOALS = {"tpot": 0.07, "ttft": 0.15}
EDGES = ((0.0, 1.01, "up to 1"), (1.01, 2.01, "1 to 2"), (2.01, np.inf, "more"))  # doublings
LEAST, MOST = 0.003, 3.0  # what is beyond is drawn at the edge


def draw(cells: list[dict[str, Any]]) -> str:
    """A standalone SVG file; a bar is the median of one GPU at one distance."""
    import matplotlib as mpl

    held = [cell for cell in cells if cell["part"] == "held out"]
    with mpl.rc_context({**STYLE, "figure.facecolor": "white", "svg.hashsalt": "hardware"}):
        fig = Figure(figsize=(10.2, 5.6), layout="constrained")
        axes = fig.subplots(2, 3, sharey=True)
        for ax, (table, time, title) in zip(axes.flat, PANELS, strict=True):
            inside = [cell for cell in held if cell["table"] == table and cell["time"] == time]
            _panel(ax, inside, f"{table.split(',')[0]}: {title} (n = {len(inside)})", GOALS[time])
        for ax in axes[:, 0]:
            ax.set_ylabel("absolute relative error, held out")
        for ax in axes[1]:
            ax.set_xlabel("doublings from the nearest fitted configuration")
        _legend(fig, held)
        text = io.StringIO()
        fig.savefig(text, format="svg", metadata={"Date": None})
    return text.getvalue()


def _panel(ax: Any, cells: list[dict[str, Any]], title: str, goal: float) -> None:
    ax.set_title(title)
    gpus = [gpu for gpu in COLOURS if any(_gpu(cell) == gpu for cell in cells)]
    width = 0.8 / max(1, len(gpus))
    rng = np.random.default_rng(0)  # sideways only
    for band, (low, high, _) in enumerate(EDGES):
        for i, gpu in enumerate(gpus):
            mine = [cell for cell in cells if _gpu(cell) == gpu and low <= cell["doublings"] < high]
            middle = band + (i - (len(gpus) - 1) / 2.0) * width
            _column(ax, np.array([cell["error"] for cell in mine]), middle, width, COLOURS[gpu], rng)
    ax.axhline(goal, color=INK, linestyle=(0, (4, 2)), linewidth=1.0)
    ax.set_xticks(range(len(EDGES)), [name for _, _, name in EDGES])
    ax.set_xlim(-0.5, len(EDGES) - 0.5)
    ax.grid(visible=False, axis="x")
    ax.set_yscale("log")
    ax.set_ylim(LEAST * 0.9, MOST * 1.1)
    ax.yaxis.set_major_locator(FixedLocator([0.003, 0.01, 0.03, 0.1, 0.3, 1.0, 3.0]))
    ax.yaxis.set_minor_locator(NullLocator())
    ax.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{100 * value:g} %"))


def _column(ax: Any, errors: Floats, middle: float, width: float, colour: str, rng: np.random.Generator) -> None:
    if not len(errors):
        return
    x = middle + 0.36 * width * rng.uniform(-1.0, 1.0, len(errors))
    y = np.clip(np.abs(errors), LEAST, MOST)
    ax.plot(x, y, "o", markersize=2.6, markeredgewidth=0, alpha=0.4, color=colour)
    median = float(np.median(np.abs(errors)))
    ax.plot([middle - 0.42 * width, middle + 0.42 * width], [median, median], color=INK, linewidth=2.4)


def _gpu(cell: dict[str, Any]) -> str:
    return str(PLAIN.get(cell["gpu"], cell["gpu"]))


def _legend(fig: Figure, held: list[dict[str, Any]]) -> None:
    from matplotlib.lines import Line2D

    there = {_gpu(cell) for cell in held}
    handles = [Line2D([], [], linestyle="", marker="o", markersize=5, color=colour, label=gpu)
               for gpu, colour in COLOURS.items() if gpu in there]  # fmt: skip
    handles.append(Line2D([], [], color=INK, linewidth=2.4, label="median"))
    handles.append(Line2D([], [], color=INK, linestyle=(0, (4, 2)), linewidth=1.0, label="goal for the median"))
    fig.legend(handles=handles, loc="outside upper center", ncols=len(handles), frameon=False, fontsize=8.5)
