"""The best and the worst day of a forecaster on a series: what came, the median forecast and its 10 to 90 % band."""

from __future__ import annotations

import io
import re

import numpy as np

from experiments.backtest import Forecasts, extremes
from rlscale.types import DAY_S, Floats

POINTS = 480  # per panel; more would be closer than half a point
HOUR_S = 3600.0


def draw(found: Forecasts) -> str:
    """A standalone SVG file."""
    import matplotlib as mpl
    from matplotlib.figure import Figure

    from experiments.figures import STYLE
    from experiments.svg import INK

    period, *parts = extremes(found)
    with mpl.rc_context({**STYLE, "figure.facecolor": "white", "svg.hashsalt": found.series.name}):
        fig = Figure(figsize=(10.2, 5.2), layout="constrained")
        fig.suptitle(f"{found.series.name}: {found.forecaster}, {found.ahead * found.series.interval_s:g} s ahead",
                     x=0.01, ha="left", fontsize=10.5, fontweight="bold")  # fmt: skip
        short = (parts[0].stop - parts[0].start) * found.series.interval_s <= 3 * HOUR_S
        unit_s, unit = (60.0, "minutes") if short else (HOUR_S, "hours")
        for ax, part, which in zip(fig.subplots(2, 1), parts, ("best", "worst"), strict=True):
            since_s, came, low, middle, high = _lines(found, part)
            time = since_s / unit_s
            ax.fill_between(time, low, high, color="#2a80d6", alpha=0.25, lw=0, label="10 to 90 % of the forecast")
            ax.plot(time, came, color=INK, lw=0.8, label="rate")
            ax.plot(time, middle, color="#cc4100", lw=1.1, label="median forecast")
            ax.set_title(f"{which} {period}, {_words(part.start * found.series.interval_s)}")
            ax.set_ylabel("requests/s")
            ax.set_ylim(0.0, 1.05 * float(np.nanmax(np.concatenate([came, np.minimum(high, 3 * np.nanmax(came))]))))
            ax.set_xlim(time[0], time[-1])
        fig.axes[0].legend(frameon=False, fontsize=8, ncols=3, loc="upper right", bbox_to_anchor=(1.0, 1.14))
        fig.axes[-1].set_xlabel(f"{unit} since then")
        text = io.StringIO()
        fig.savefig(text, format="svg", metadata={"Date": None})
    # A tenth of a point cannot be seen, and digits are most of the file.
    return re.sub(r' d="[^"]*"', lambda path: re.sub(r"(\.\d)\d+", r"\1", path[0]), text.getvalue())


def _lines(found: Forecasts, part: slice) -> list[Floats]:
    """Seconds, rate, and the three quantiles of one panel, as means over as few cells as the page can show."""
    at = np.arange(part.start, part.stop)
    quantiles = found.quantiles_per_s[at - found.ahead]
    columns = [(at - part.start) * found.series.interval_s, found.series.rates_per_s[at], *quantiles[:, :3].T]
    each = max(1, len(at) // POINTS)
    whole = len(at) // each * each
    return [np.asarray(column[:whole].reshape(-1, each).mean(axis=1)) for column in columns]


def _words(start_s: float) -> str:
    if start_s >= DAY_S:
        return f"day {start_s / DAY_S + 1:.3g} of the series"
    return f"from minute {start_s / 60:.3g}" if start_s < HOUR_S else f"from hour {start_s / HOUR_S:.3g}"
