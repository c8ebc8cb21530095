"""The request engine against queueing theory: waits of M/M/c and M/D/1, stays of M/G/1 with processor sharing, Little.

An engine iteration whose length does not depend on the batch makes seats servers; one whose length is in proportion to
the batch shares the processor. Loads, seeds and sizes are below; a case holds when theory lies in the 95 % interval of
the mean over the seeds, or within `NEAR` or one iteration of the mean: those are grains of time, which theory has not.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from agents.erlang import erlang_c
from envs import get_scenario
from experiments.results import write_csv, write_json, write_text
from experiments.stats import student
from rlscale.sim.naive import Lifetime
from rlscale.sim.request_play import play
from rlscale.sim.request_tables import FastServer
from rlscale.sim.request_world import RequestWorld
from rlscale.types import Floats, IterationLaw, Load, Requests

COMMAND = "python -m experiments fidelity theory"
SEEDS, REQUESTS, WARM_UP = 20, 200_000, 0.2
LOADS, SERVERS = (0.5, 0.8, 0.95), (1, 4, 32)
TOKENS = 2000  # of a mean answer: grains of a two-thousandth of it
NEAR = 0.01
LITTLE_H = 2.0


def run(out: Path) -> None:
    """Every case, a table and a report."""
    rows = [*waits(), *stays(), *little()]
    out.mkdir(parents=True, exist_ok=True)
    write_csv(out / "cases.csv", rows, list(rows[0]))
    write_json(out / "summary.json", {"command": COMMAND, "seeds": SEEDS, "requests": REQUESTS, "near": NEAR,
                                      "cases": rows})  # fmt: skip
    write_text(out / "report.md", report(rows))
    print(report(rows))


def waits() -> list[dict[str, Any]]:
    """M/M/c by Erlang C, and M/D/1: mean wait over mean service time."""
    rows = []
    for servers in SERVERS:
        for load in LOADS:
            exact = erlang_c(servers, load * servers) / (servers * (1.0 - load))
            rows.append(case("M/M/c", servers, load, exact, partial(wait, servers=servers, load=load, constant=False)))
    for load in LOADS:
        exact = load / (2.0 * (1.0 - load))
        rows.append(case("M/D/1", 1, load, exact, partial(wait, servers=1, load=load, constant=True)))
    return rows


def wait(seed: int, servers: int, load: float, constant: bool) -> float:
    """Mean wait in one run, in mean service times."""
    g = np.random.default_rng([seed, servers, round(100 * load)])
    at_s = np.cumsum(g.exponential(1.0 / (load * servers), REQUESTS))
    tokens = np.full(REQUESTS, float(TOKENS)) if constant else np.maximum(1.0, np.rint(g.exponential(TOKENS, REQUESTS)))
    law = IterationLaw(1.0 / TOKENS, 0.0, 0.0, 0.0, 0.0)
    # The first of the iterations that make an answer is the prompt's: waiting ends when it begins.
    found = play(FastServer(law, servers), [Lifetime()], Requests(at_s, np.ones(REQUESTS), tokens))
    return float((found.ttft_s - 1.0 / TOKENS)[_counted()].mean())


def stays() -> list[dict[str, Any]]:
    """M/G/1 with processor sharing: the mean stay depends on nothing but the mean of the answers."""
    laws: dict[str, Callable[[np.random.Generator], Floats]] = {
        "exponential": lambda g: np.maximum(1.0, np.rint(g.exponential(TOKENS, REQUESTS))),
        "two lengths": lambda g: np.where(g.random(REQUESTS) < 0.5, 0.1 * TOKENS, 1.9 * TOKENS),
    }
    rows = []
    for name, draw in laws.items():
        for load in LOADS:
            model = f"M/G/1-PS, {name}"
            rows.append(case(model, 1, load, 1.0 / (1.0 - load), partial(stay, load=load, draw=draw)))
    return rows


def stay(seed: int, load: float, draw: Callable[[np.random.Generator], Floats]) -> float:
    """Mean time in the system in one run, in mean service times."""
    g = np.random.default_rng([seed, 7, round(100 * load)])
    at_s = np.cumsum(g.exponential(1.0 / load, REQUESTS))
    law = IterationLaw(0.0, 1.0 / TOKENS, 0.0, 0.0, 0.0)
    found = play(FastServer(law, 100_000), [Lifetime()], Requests(at_s, np.ones(REQUESTS), draw(g)))
    return float(found.e2e_s[_counted()].mean())


def little() -> list[dict[str, Any]]:
    """Chat on eight replicas: requests in the system at every interval, over rate times mean stay; exactly 1."""
    return [case("Little's law, chat", 8, load, 1.0, partial(little_ratio, load=load)) for load in LOADS]


def little_ratio(seed: int, load: float) -> float:
    """Of one run of `LITTLE_H`; what is still under way at the end is counted to its end."""
    from experiments.fidelity_steady import saturation_per_s
    from rlscale.workloads.tokens import CHAT

    spec = get_scenario("chat").cluster
    rate = load * 8 * saturation_per_s(spec.pools[0].profile)
    g = np.random.default_rng([seed, 11, round(100 * load)])
    count = int(rate * LITTLE_H * 3600.0)
    at_s = np.sort(g.uniform(0.0, LITTLE_H * 3600.0, count))
    requests = Requests(at_s, np.rint(CHAT.prompt_at(g.random(count))), np.rint(CHAT.output_at(g.random(count))))
    cells = np.bincount(at_s.astype(int), minlength=int(LITTLE_H * 3600.0)).astype(np.float32)
    one = Load("little", spec.substep_s, cells, "counts", (CHAT,), requests=requests)
    world = RequestWorld(replace(spec, timeout_s=1e6), [one], [seed], np.array([8]), log_requests=True)
    world.apply(np.array([[8]]))
    seen = []
    for _ in range(int(LITTLE_H * 3600.0 / spec.interval_s)):
        world.wait()
        seen.append(float(world.in_system()[0]))
    world.finish()
    return float(np.mean(seen)) / (rate * float(world.log[:, 2].mean()))


def case(model: str, servers: int, load: float, exact: float, once: Callable[[int], float]) -> dict[str, Any]:
    """Mean and 95 % interval over the seeds, beside theory."""
    values = np.array([once(seed) for seed in range(SEEDS)])
    mean, half = student(values)
    holds = abs(mean - exact) <= max(half, NEAR * mean, 1.0 / TOKENS)
    return {"model": model, "servers": servers, "load": load, "theory": exact, "mean": mean, "low": mean - half,
            "high": mean + half, "holds": holds}  # fmt: skip


def report(rows: list[dict[str, Any]]) -> str:
    """Markdown."""
    holding = sum(row["holds"] for row in rows)
    lines = [
        "# The request engine against queueing theory", "",
        f"`{COMMAND}`; {SEEDS} seeds of {REQUESTS:,} requests each, the first {WARM_UP:.0%} not counted (Little's law: "
        f"{LITTLE_H:g} h of chat, all counted). Waits and stays in mean service times.", "",
        f"**{holding} of {len(rows)} cases hold: theory lies in the 95 % interval of the mean, or within {NEAR:.0%} or "
        "one iteration of it.**",
        "", "| model | servers | load | theory | mean | 95 % interval | holds |", "|---|---|---|---|---|---|---|",
    ]  # fmt: skip
    for row in rows:
        lines.append(
            f"| {row['model']} | {row['servers']} | {row['load']:g} | {row['theory']:.4g} | {row['mean']:.4g} | "
            f"{row['low']:.4g} to {row['high']:.4g} | {'yes' if row['holds'] else 'no'} |"
        )
    return "\n".join(lines) + "\n"


def _counted() -> slice:
    return slice(int(WARM_UP * REQUESTS), None)
