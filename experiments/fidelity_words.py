"""Every rung of the fidelity ladder in a title and a sentence, made of its summary. No number is written here."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

Summary = Mapping[str, Any]
UP_TO_90 = "load <= 0.9"


def _per_cent(value: float) -> str:
    return f"{100 * value:.1f} %"


def theory(found: Summary) -> str:
    """Cases that hold."""
    holding = sum(case["holds"] for case in found["cases"])
    return (f"{holding} of {len(found['cases'])} cases hold over {found['seeds']} seeds of {found['requests']:,} "
            "requests: waits of M/M/c and M/D/1, stays under processor sharing, and Little's law. Of 95 % intervals, "
            "one in twenty misses.")  # fmt: skip


def hardware(found: Summary) -> str:
    """Held-out medians by table."""
    parts = []
    for row in found["tables"]:
        if row["part"] == "held out":
            parts.append(f"{row['table']} {row['time'].upper()} {_per_cent(row['median'])} (95 % quantile "
                         f"{_per_cent(row['p95'])}, {row['cells']} configurations)")  # fmt: skip
    goals = " and ".join(f"{_per_cent(goal)} of {name.upper()}" for name, goal in found["goals"].items())
    return f"Median errors on configurations that were not fitted on: {'; '.join(parts)}. Goals: {goals}."


def steady(found: Summary) -> str:
    """The judged half up to 90 % of saturation."""
    rows = {row["measure"]: row for row in found["bands"]
            if row["half"] == "judged" and row["band"] == UP_TO_90 and row["substep_s"] == 1}  # fmt: skip
    words = [f"{name} {_error(key, rows[key]['median'])} ({rows[key]['within_goal']:.0%} of the cells within "
             f"{_error(key, found['goals'][key])})" for key, name in NAMES.items()]  # fmt: skip
    return f"Median errors up to 90 % of saturation, cells that nothing was fitted on: {', '.join(words)}."


def step(found: Summary) -> str:
    """Largest error over the whole run, against both oracles."""
    parts = []
    for truth, name in (("replica", "a queue per replica, as real servers have it"), ("service", "one queue")):
        rows = [row for row in found["rows"] if row["phase"] == "all"]
        ttft = max(abs(row["fluid_ttft_mean"] / row[f"{truth}_ttft_mean"] - 1.0) for row in rows)
        points = max(abs(row["fluid_attainment"] - row[f"{truth}_attainment"]) for row in rows)
        parts.append(f"{_per_cent(ttft)} of mean TTFT and {100 * points:.1f} points of attainment with {name}")
    return f"Largest errors over a whole run: {'; '.join(parts)}."


def fleet(found: Summary) -> str:
    """Medians where the fleet is large enough and where it is not."""
    parts = []
    for row in found["bands"]:
        if row["queue"] == "replica":
            where = "large enough" if row["enough"] else "overloaded"
            words = ", ".join(f"{name} {_error(key, row[f'{key}_median'])}" for key, name in NAMES.items())
            parts.append(f"while the fleet is {where} ({row['cells']} cells): {words}")
    return f"Median errors against an oracle with a queue per replica, {'; '.join(parts)}."


def roles(found: Summary) -> str:
    """Largest of the medians by lengths."""
    parts = []
    for lengths in dict.fromkeys(row["lengths"] for row in found["rows"]):
        rows = [row for row in found["rows"] if row["lengths"] == lengths]
        words = [f"{NAMES[key]} {_error(key, max(abs(row[f'{key}_median']) for row in rows))}"
                 for key in ("ttft_mean", "tpot_mean", "attainment")]  # fmt: skip
        parts.append(f"{lengths}: {', '.join(words)}")
    return f"Largest median error over the loads: {'; '.join(parts)}."


def grid(found: Summary) -> str:
    """The judged half."""
    judged = next(row for row in found["bands"] if row["half"] == "judged" and row["kind"] == "all")
    words = [f"{name} {_error(key, judged[key]['median'])}" for key, name in {**NAMES, "cost": "cost"}.items()]
    kept = [f"{NAMES.get(key, key)} {judged[key]['within']:.0%}" for key in found["goals"]]
    return (f"Median errors on the judged half: {', '.join(words)}. Cells within each goal: {', '.join(kept)}; all: "
            f"{judged['within']:.0%} of {judged['cells']} (goal {found['goal_within']:.0%}); with the fleets of the "
            f"request engine's HPA instead of its own, {judged['led_within']:.0%}.")  # fmt: skip


def ranking(found: Summary) -> str:
    """Mean tau and swaps."""
    known = [rank["tau"] for rank in found["ranks"] if rank["told_apart"]]
    swapped, both = (sum(rank[name] if name == "told_apart_in_both" else len(rank[name]) for rank in found["ranks"])
                     for name in ("swapped", "told_apart_in_both"))  # fmt: skip
    return (f"Kendall's tau among pairs that the request engine tells apart: {sum(known) / max(1, len(known)):.3f} in "
            f"the mean over {len(known)} scenarios (goal {found['goal']:g}); {swapped} of {both} pairs that both "
            "engines tell apart swap.")  # fmt: skip


NAMES = {"ttft_mean": "mean TTFT", "ttft_p99": "p99 TTFT", "tpot_mean": "mean TPOT", "attainment": "attainment"}


def _error(measure: str, value: float) -> str:
    return f"{100 * value:.1f} points" if measure == "attainment" else _per_cent(value)


# Part -> title and sentence, in the order of the ladder.
WORDS: dict[str, tuple[str, Callable[[Summary], str]]] = {
    "theory": ("Request engine and queueing theory", theory),
    "hardware": ("Iteration law and measured GPUs", hardware),
    "steady": ("Fluid and oracle: constant fleets", steady),
    "step": ("Fluid and oracle: a load step that waits for replicas", step),
    "fleet": ("Fluid and oracle: replicas that drain, fail and differ", fleet),
    "roles": ("Fluid and request engine: prefill and decode pools", roles),
    "grid": ("Fluid and request engine under an autoscaler", grid),
    "ranking": ("Do both engines put scalers in the same order?", ranking),
}
