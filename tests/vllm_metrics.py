"""A simulated service as vLLM would export it: one sample per scrape, by the project's own fluid engine.

The truth (arrivals, attainment) comes beside what vLLM shows, so that what is recovered can be compared with it.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from rlscale.scenario import Scenario
from rlscale.sim.histogram import edges_s
from rlscale.sim.worlds import make_world
from rlscale.types import Floats, Load, TokenLaw

TTFT_EDGES = (0.001, 0.005, 0.01, 0.02, 0.04, 0.06, 0.08, 0.1, 0.25, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0, 20.0, 40.0)
TPOT_EDGES = (0.01, 0.025, 0.05, 0.075, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5, 0.75, 1.0, 2.5, 5.0)
TOKEN_EDGES = tuple(float(m * 10**e) for e in range(5) for m in (1, 2, 5))


@dataclass(frozen=True)
class Exported:
    """`series[(name, labels)]` is a column over `times_s`, seconds from the beginning."""

    times_s: Floats
    series: dict[tuple[str, str], Floats]
    arrived: Floats  # cumulative; the truth
    missed: Floats


def simulate(scenario: Scenario, load: Load, replicas: int, seed: int = 0) -> Exported:
    """A constant fleet under a load; a sample per control interval."""
    spec = scenario.cluster
    world = make_world("fluid", spec, [load], [seed], np.array([[replicas]]), percentiles=True)
    count = int(load.duration_s / spec.interval_s)
    rows = np.zeros((count + 1, len(_COUNTERS) + 4))
    hist = np.zeros((count + 1, 2, len(edges_s()) - 1))
    for i in range(1, count + 1):
        world.wait()
        c, p = world.cluster[0], world.pool[0, 0]
        rows[i] = [*(float(c[name]) for name in _COUNTERS), max(0.0, float(c["queued"] - c["left"])),
                   float(p["running"] + p["drain_running"]), float(p["ready"]),
                   float(world.pool_scrape[0, 0]["memory"])]  # fmt: skip
        hist[i] = world.hist[0, :2]
    columns = dict(zip((*_COUNTERS, "waiting", "running", "ready", "memory"), rows.T, strict=True))
    return Exported(np.arange(count + 1) * spec.interval_s, _series(columns, hist, load.tokens[0], replicas),
                    columns["arrived"], columns["missed"])  # fmt: skip


_COUNTERS = ("arrived", "admitted", "finished", "dropped", "lost", "missed", "ttft_sum_s", "tpot_sum_s", "tpot_count",
             "output_tokens", "total_tokens")  # fmt: skip


def _series(c: dict[str, Floats], hist: Floats, law: TokenLaw, replicas: int) -> dict[tuple[str, str], Floats]:
    one = 'model_name="toy"'
    found: dict[tuple[str, str], Floats] = {}
    for i in range(replicas):
        own = f'{one},replica="{i}"'
        found["vllm:num_requests_running", own] = c["running"] / replicas
        found["vllm:num_requests_waiting", own] = c["waiting"] / replicas
        found["vllm:kv_cache_usage_perc", own] = c["memory"]
    found["vllm:request_success_total", f'{one},finished_reason="stop"'] = c["finished"]
    found["vllm:request_success_total", f'{one},finished_reason="abort"'] = c["dropped"] + c["lost"]
    _histogram(
        found, "vllm:time_to_first_token_seconds", TTFT_EDGES, hist[:, 0], c["ttft_sum_s"] / c["admitted"].clip(1)
    )
    _histogram(found, "vllm:request_time_per_output_token_seconds", TPOT_EDGES, hist[:, 1],
               c["tpot_sum_s"] / c["tpot_count"].clip(1))  # fmt: skip
    done = c["tpot_count"]
    for side, total, at in (("prompt", c["total_tokens"] - c["output_tokens"], law.prompt_at),
                            ("generation", c["output_tokens"], law.output_at)):  # fmt: skip
        lengths = at((np.arange(20_000) + 0.5) / 20_000)
        for edge in (*TOKEN_EDGES, math.inf):
            found[f"vllm:request_{side}_tokens_bucket", f'{one},le="{_le(edge)}"'] = done * float(
                (lengths <= edge).mean()
            )
        found[f"vllm:request_{side}_tokens_count", one] = done
        found[f"vllm:request_{side}_tokens_sum", one] = total
    return found


def _histogram(found: dict[tuple[str, str], Floats], name: str, edges: Any, bins: Floats, mean: Floats) -> None:
    """Cumulative counts at vLLM's edges; dropped requests, in the last bin, are not observed by vLLM."""
    below = np.concatenate([np.zeros((len(bins), 1)), np.cumsum(bins[:, :-1], axis=1)], axis=1)
    ours = edges_s()[:-1]
    for edge in edges:
        i = min(int(np.searchsorted(ours, edge)), len(ours) - 1)
        share = (edge - ours[i - 1]) / (ours[i] - ours[i - 1]) if i > 0 else 0.0
        found[f"{name}_bucket", f'model_name="toy",le="{_le(edge)}"'] = (
            below[:, i] if i == 0 else below[:, i - 1] + min(1.0, share) * (below[:, i] - below[:, i - 1]))  # fmt: skip
    found[f"{name}_bucket", 'model_name="toy",le="+Inf"'] = below[:, -1]
    found[f"{name}_count", 'model_name="toy"'] = below[:, -1]
    found[f"{name}_sum", 'model_name="toy"'] = mean * below[:, -1]


def _le(edge: float) -> str:
    return "+Inf" if math.isinf(edge) else repr(edge)


def openmetrics(exported: Exported, begin_s: float, keep: Any = slice(None)) -> Iterator[str]:
    """The text that `promtool tsdb create-blocks-from openmetrics` takes; families one after the other."""
    families: dict[str, list[tuple[str, str]]] = {}
    for name, labels in exported.series:
        stem = name
        for end in ("_bucket", "_count", "_sum", "_total"):
            stem = stem.removesuffix(end)
        families.setdefault(stem, []).append((name, labels))
    times = (exported.times_s + begin_s)[keep]
    for stem, members in families.items():
        yield f"# TYPE {stem} {_kind(members[0][0])}\n"
        for name, labels in members:
            values = exported.series[name, labels][keep]
            yield "".join(
                f"{name}{{{labels}}} {value:.9g} {when:.3f}\n" for value, when in zip(values, times, strict=True)
            )
    yield "# EOF\n"


def _kind(name: str) -> str:
    if name.endswith("_total"):
        return "counter"
    return "histogram" if name.endswith(("_bucket", "_count", "_sum")) else "gauge"
