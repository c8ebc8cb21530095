"""A picture of the last intervals of an environment, as pixels."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray


def picture(trail: Sequence[tuple[float, ...]], interval_s: float) -> NDArray[np.uint8]:
    """(height, width, 3): load against ready and pending capacity, and the queue, over `trail`."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    fig = Figure(figsize=(6.4, 3.6), dpi=100, layout="constrained")
    top, bottom = fig.subplots(2, 1, sharex=True, height_ratios=(3, 1))
    t_s, ready, pending, waiting, rate = np.array(trail or [(0.0,) * 5]).T
    minutes = t_s / 60.0
    top.fill_between(minutes, 0.0, ready, step="pre", color="#0072b2", alpha=0.25, label="ready capacity")
    top.fill_between(minutes, ready, ready + pending, step="pre", color="#e69f00", alpha=0.25, label="pending")
    top.plot(minutes, rate, color="#1c2024", linewidth=1.0, label="load")
    top.set_ylabel("requests/s")
    top.set_ylim(bottom=0.0)
    top.legend(loc="upper left", frameon=False, fontsize=8, ncols=3)
    bottom.plot(minutes, waiting, color="#d55e00", linewidth=1.0)
    bottom.set_ylabel("waiting")
    bottom.set_ylim(bottom=0.0)
    bottom.set_xlabel("minutes")
    canvas = FigureCanvasAgg(fig)
    canvas.draw()
    return np.asarray(canvas.buffer_rgba())[:, :, :3].copy()
