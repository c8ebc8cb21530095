"""What a shadow would have done, in numbers and words: agreement, replay, intervals."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from experiments import stats
from experiments.shadow_replay import Recording, blocks
from rlscale.loop import RunResult
from rlscale.types import Floats

SHOWN = ("cost_usd", "attainment", "churn", "ttft_p50_s", "ttft_p95_s", "ttft_p99_s")


def agreement(recorded: Recording) -> dict[str, float]:
    """Open loop: how often both asked for the same upon the same observation, and how far they were apart.

    Differences are shadow less acting, replicas of all pools; none are known where no pair was logged.
    """
    pairs = recorded.pairs
    if not pairs:
        return {"pairs": 0.0}
    acting, shadow = (np.array([pair[k] for pair in pairs], np.int64) for k in (0, 1))
    apart = (shadow - acting).sum(axis=1)
    return {
        "pairs": float(len(pairs)),
        "equal_share": float((shadow == acting).all(axis=1).mean()),
        "mean_difference": float(apart.mean()),
        "mean_absolute_difference": float(np.abs(shadow - acting).sum(axis=1).mean()),
        "more_share": float((apart > 0).mean()),
        "fewer_share": float((apart < 0).mean()),
    }


def compared(acting: RunResult, shadow: RunResult, size_s: float, seed: int) -> dict[str, Any]:
    """Shadow against acting on the same load: differences, with intervals over load blocks where there are enough.

    cost and churn as shares of those of the acting scaler, attainment and TTFT as differences.
    """
    a, b = blocks(acting, size_s), blocks(shadow, size_s)
    count = len(a["hours"])
    draws = stats.resample(count, seed)
    found: dict[str, Any] = {"blocks": count, "block_s": size_s}
    for name, values in _differences(a, b, np.ones((1, count))).items():
        found[name] = {"value": float(values[0]), "low": None, "high": None}
    if draws is not None:
        for name, values in _differences(a, b, draws.weights).items():
            ends = stats.percentile_interval(values)
            found[name] |= {"low": ends.low, "high": ends.high}
    return found


def _differences(a: Mapping[str, Floats], b: Mapping[str, Floats], weights: Floats) -> dict[str, Floats]:
    sums = [{name: weights @ values for name, values in side.items()} for side in (a, b)]
    missed = [side["missed"] / np.maximum(side["arrived"], 1.0) for side in sums]
    ttft_s = [side["ttft_s"] / np.maximum(side["arrived"], 1.0) for side in sums]
    return {
        "cost_usd": stats.relative_difference(sums[1]["cost_usd"], sums[0]["cost_usd"]),
        "attainment": missed[0] - missed[1],
        "churn": stats.relative_difference(np.maximum(sums[1]["churn"], 1e-9), np.maximum(sums[0]["churn"], 1e-9)),
        "ttft_mean_s": ttft_s[1] - ttft_s[0],
    }


def report(found: Mapping[str, Any]) -> str:
    """Markdown."""
    log, agreed = found["log"], found["agreement"]
    lines = ["# What the shadow would have done", "",
             f"`{found['provenance']['command']}`; scenario {found['scenario']}, {log['decisions']} decisions over "
             f"{log['hours']:.1f} h, every {log['interval_s']:g} s; {log['filled']:.1%} of the rates filled in, "
             f"{log['skipped']} lines skipped. Acting: {found['acting']}; shadow: {found['shadow']}.", "",
             "## On the same observations", ""]  # fmt: skip
    if agreed["pairs"]:
        lines += [f"Of {agreed['pairs']:.0f} decisions that both made, {agreed['equal_share']:.1%} were equal; the "
                  f"shadow asked for more in {agreed['more_share']:.1%} and for less in {agreed['fewer_share']:.1%}, "
                  f"on average {agreed['mean_difference']:+.2f} replicas, {agreed['mean_absolute_difference']:.2f} "
                  "apart. It saw a fleet that was not of its making, so this says how far they disagree and not what "
                  "would have come of it."]  # fmt: skip
    else:
        lines += ["The log holds no decisions of a shadow."]
    lines += ["", "## Replayed", "",
              f"Observed arrivals ({found['law']}), lengths and cluster of the scenario, the same luck for all. `as "
              "logged` repeats the recorded targets; for the shadow these answer another fleet's observations, so the "
              "row in which it decides by itself is the one to judge by.", "",
              "| | USD | attainment | churn | TTFT p50, s | p95, s | p99, s |",
              "|---|---|---|---|---|---|---|"]  # fmt: skip
    lines += [_row(name, summary) for name, summary in found["runs"].items()]
    lines += [f"\nNot replayed: {name} ({why})." for name, why in found["not_rebuilt"].items()]
    if found["difference"]:
        lines += ["", *_difference(found["difference"])]
    return "\n".join(lines) + "\n"


def _row(name: str, summary: Mapping[str, float]) -> str:
    cost, attainment, churn, *ttft = (summary[key] for key in SHOWN)
    cells = [f"{cost:.2f}", f"{attainment:.3%}", f"{churn:.0f}", *(f"{value:.3f}" for value in ttft)]
    return f"| {name} | {' | '.join(cells)} |"


def _difference(difference: Mapping[str, Any]) -> list[str]:
    units = {"cost_usd": ("cost", "{:+.2%}"), "attainment": ("attainment", "{:+.3%}"), "churn": ("churn", "{:+.1%}"),
             "ttft_mean_s": ("mean TTFT", "{:+.4f} s")}  # fmt: skip
    words = []
    for key, (name, form) in units.items():
        entry = difference[key]
        ends = "" if entry["low"] is None else f" [{form.format(entry['low'])}, {form.format(entry['high'])}]"
        words.append(f"{name} {form.format(entry['value'])}{ends}")
    size_h = difference["block_s"] / 3600.0
    over = f"{difference['blocks']} load blocks of {size_h:g} h"
    if difference["cost_usd"]["low"] is None:
        how = f"No intervals: {over}, {stats.MIN_BLOCKS} are needed."
    else:
        how = f"Intervals of {stats.CONFIDENCE:.0%} over {over}, the same draws for both."
        if difference["block_s"] < stats.DAY_S:
            how += " Blocks shorter than a day depend on one another: take them as too narrow."
    return [f"Shadow against acting, both deciding by themselves: {'; '.join(words)}. {how}"]
