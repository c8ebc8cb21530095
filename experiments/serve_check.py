"""One look at the metrics and the fleet of a live service, in words: what `serve --check` says. Orders nothing."""

from __future__ import annotations

import math
from collections.abc import Iterator

from rlscale.deploy.base import LiveConfigError
from rlscale.deploy.live import Live
from rlscale.types import Observation

UNITS = {"arrival_per_s": "requests/s", "waiting": "waiting", "running": "running"}
LATENCIES = {"ttft_s": "TTFT", "tpot_s": "TPOT"}


def looked(live: Live, where: str) -> list[str]:
    """Lines about metrics and fleet. LiveConfigError, which begins with the file, when either cannot be read."""
    failed: list[str] = []
    live.world.on_error = lambda part, error: failed.append(f"{part}: {error}")
    live.world.look()
    if failed:
        raise LiveConfigError(f"{where}: {'; '.join(failed)}")
    seen = live.world.observe()
    fleet = ", ".join(f"{name} {_counts(getattr(seen, name))}" for name in ("ready", "pending", "target"))
    return [f"metrics: {', '.join(_metrics(seen))}", f"fleet: {fleet}"]


def _metrics(seen: Observation) -> Iterator[str]:
    values = {name: float(getattr(seen, name)) for name in (*UNITS, *LATENCIES, "attainment")}
    unknown = [name for name, value in values.items() if not math.isfinite(value)]
    if len(unknown) == len(values):
        yield "there are none"
        return
    for name, unit in UNITS.items():
        if name not in unknown:
            yield f"{values[name]:.4g} {unit}"
    for name, title in LATENCIES.items():
        if name not in unknown:
            yield f"{title} {values[name]:.3g} s"
    if "attainment" not in unknown:
        yield f"{values['attainment']:.2%} within the SLO"
    yield f"{float(seen.age_s):.0f} s old"
    if unknown:
        yield f"not told: {' '.join(unknown)}"


def _counts(counts: object) -> str:
    return "+".join(str(int(count)) for count in counts)  # type: ignore[attr-defined]
