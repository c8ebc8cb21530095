"""Time lines of the load-step comparison: one row of panels per case, oracle against fluid."""

from __future__ import annotations

from typing import Any

import numpy as np
from matplotlib.figure import Figure

from experiments.figures import STYLE
from experiments.svg import INK, MUTED

ENGINES = {"replica": (MUTED, (0, (3, 1.5)), "oracle, queue per replica"), "service": (INK, "-", "oracle, one queue"),
           "fluid": ("#d55e00", "-", "fluid")}  # fmt: skip


def draw(lines: list[dict[str, Any]]) -> str:
    """Requests in the system and attainment over time, as a standalone SVG file."""
    import io

    import matplotlib as mpl

    cases = list(dict.fromkeys((row["profile"], row["cv"], row["delay_s"]) for row in lines))
    with mpl.rc_context({**STYLE, "figure.facecolor": "white", "svg.hashsalt": "step"}):
        fig = Figure(figsize=(10.2, 1.9 * len(cases)), layout="constrained")
        axes = fig.subplots(len(cases), 2, sharex=False, squeeze=False)
        for (profile, cv, delay_s), (left, right) in zip(cases, axes, strict=True):
            rows = [r for r in lines if (r["profile"], r["cv"], r["delay_s"]) == (profile, cv, delay_s)]
            minutes = np.array([r["t_s"] for r in rows]) / 60.0
            for engine, (colour, dash, label) in ENGINES.items():
                style: dict[str, Any] = {"color": colour, "linestyle": dash, "label": label, "linewidth": 1.3}
                left.plot(minutes, [r[f"{engine}_in_system"] for r in rows], **style)
                right.plot(minutes, [r[f"{engine}_ok"] for r in rows], **style)
            left.set_title(f"{profile}, CV {cv:g}, start-up {delay_s:g} s: requests in the system")
            right.set_title("share of finished and dropped requests that met the SLO")
            left.set_ylim(bottom=0.0)
            right.set_ylim(0.0, 1.02)
        axes[0][0].legend(frameon=False, fontsize=8)
        for ax in axes[-1]:
            ax.set_xlabel("minutes")
        text = io.StringIO()
        fig.savefig(text, format="svg", metadata={"Date": None})
    return text.getvalue()
