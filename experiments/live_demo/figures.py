"""Figures of the live demo: what happened over time, live against simulated."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from experiments.figures import WIDTH_IN, styled
from experiments.palette import Palette
from experiments.svg import INK, MUTED, of, svg
from rlscale.types import Floats

if TYPE_CHECKING:
    from matplotlib.axes import Axes

MINUTE_S = 60.0
ROW_IN = 1.55


@styled
def over_time(entries: Sequence[Mapping[str, Any]], palette: Palette) -> str:
    """A column per scaler: requests per second, ready replicas, TTFT; `entries` hold `live` and `simulated` series."""
    fig = Figure((WIDTH_IN, 0.5 + 3 * ROW_IN), layout="constrained")
    axes = fig.subplots(3, len(entries), sharex=True, sharey="row", squeeze=False)
    for (load, fleet, ttft), entry in zip(axes.T, entries, strict=True):
        live, simulated = entry["live"], entry["simulated"]
        minutes = np.asarray(live["t_s"]) / MINUTE_S
        load.fill_between(minutes, 0, live["requests_per_s"], step="post", color=MUTED, alpha=0.35, lw=0)
        load.set_title(entry["scaler"])
        fleet.plot(minutes, live["need"], color=INK, lw=0.9, drawstyle="steps-post")
        for series, label in ((simulated, entry["labels"][1]), (live, entry["labels"][0])):
            line = palette.line(label)
            fleet.plot(minutes, series["ready"], gid=of(label), drawstyle="steps-post", **line)
            ttft.plot(minutes, _numbers(series["ttft_mean_s"]), gid=of(label), **line)
        fleet.yaxis.set_major_locator(MaxNLocator(5, integer=True))
        load.set_xlim(minutes[0], minutes[-1])
        ttft.set_xlabel("minutes")
    for ax in axes[:, 0]:  # rows share their axes; only now is everything in them
        ax.set_ylim(bottom=0)
    _names(axes)
    return svg(fig, "Load, replicas and time to first token, live and simulated")


def _names(axes: Any) -> None:
    names = ("requests per second", "ready replicas", "mean TTFT, s")
    for ax, name in zip(axes[:, 0], names, strict=True):
        axis: Axes = ax
        axis.set_ylabel(name)


def _numbers(values: Sequence[float | None]) -> Floats:
    return np.array([np.nan if value is None else value for value in values], dtype=np.float64)
