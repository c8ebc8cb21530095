"""From finished cells to what a comparison claims: fronts, cost at equal attainment, intervals, who wins.

Works on arrays (members, knob values, blocks); a member is a training seed, and a rule has one. Knows no files.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from experiments import fronts, stats
from rlscale.types import Floats, Ints

NBSP, MINUS = "\N{NO-BREAK SPACE}", "\N{MINUS SIGN}"
MIN_MISSES = 10  # an attainment that rests on fewer missed requests is flagged


@dataclass(frozen=True, slots=True)
class Sweep:
    """What one scaler did on the blocks of one load."""

    label: str
    learned: bool
    knob: Floats  # (K,) in sweep order; NaN for a scaler without a knob
    cost_usd: Floats  # (S, K, N)
    requests: Floats  # (S, K, N)
    missed: Floats  # (S, K, N)
    hours: Floats  # (N,)
    complete: np.ndarray  # (S, K) False where a cell failed: such a point is on no front

    def points(self, weights: Floats | None = None) -> tuple[Floats, Floats]:
        """Cost in USD/h and attainment level, (..., S, K), over all blocks or each weighted set (R, N) of them."""
        w = np.ones((1, len(self.hours))) if weights is None else weights
        cost = np.einsum("rn,skn->rsk", w, self.cost_usd) / (w @ self.hours)[:, None, None]
        missed = np.einsum("rn,skn->rsk", w, self.missed)
        level = fronts.level(missed, np.einsum("rn,skn->rsk", w, self.requests))
        cost, level = np.where(self.complete, cost, np.inf), np.where(self.complete, level, -1.0)
        return (cost[0], level[0]) if weights is None else (cost, level)

    def per_block(self) -> tuple[Floats, Floats]:
        """The same on every block alone, (S, N, K)."""
        cost = np.where(self.complete[..., None], self.cost_usd / self.hours, np.inf)
        level = np.where(self.complete[..., None], fronts.level(self.missed, self.requests), -1.0)
        return cost.swapaxes(-1, -2), level.swapaxes(-1, -2)


def gather(
    label: str, learned: bool, grid: Sequence[Sequence[Sequence[Mapping[str, Any] | None]]],
    knob: Sequence[float | None], recorded: bool,
) -> Sweep | None:  # fmt: skip
    """A sweep from `grid[member][knob][seed]` of the cells' blocks; None where a cell failed.

    Seeds of a generated load are loads of their own: their blocks are listed one after the other. Seeds of a recorded
    load are luck on one load: they are summed within its blocks. None when no cell is there.
    """
    there = [b for row in grid for cells in row for b in cells if b is not None]
    if not there:
        return None
    seeds, width = len(grid[0][0]), len(there[0]["hours"])
    shape = (len(grid), len(knob), seeds, width)
    values = {name: np.zeros(shape) for name in ("cost_usd", "requests", "missed", "hours")}
    complete = np.ones(shape[:2], bool)
    for (s, k, i), _ in np.ndenumerate(np.empty(shape[:3])):
        cell = grid[s][k][i]
        if cell is None:
            complete[s, k] = False
            continue
        for name, array in values.items():
            array[s, k, i] = cell[name]
    joined = {
        name: array.sum(axis=2) if recorded else array.reshape(*shape[:2], seeds * width)
        for name, array in values.items()
    }
    hours = joined["hours"].max(axis=(0, 1))
    numbers = np.array([math.nan if value is None else value for value in knob])
    return Sweep(label, learned, numbers, joined["cost_usd"], joined["requests"], joined["missed"], hours, complete)


def frozen_knobs(train: Sweep, target: float) -> list[fronts.Frozen]:
    """The knob each member takes to the test loads: read off its front over the training loads."""
    cost, level = train.points()
    if np.isnan(train.knob).any():
        return [fronts.Frozen(None, "reached")] * len(cost)
    return [fronts.knob_at(c, x, train.knob, fronts.level_of(target)) for c, x in zip(cost, level, strict=True)]


def headline(
    sweeps: Mapping[str, Sweep], frozen: Mapping[str, Sweep | None], target: float, draws: stats.Resampling | None,
    widest: float = math.inf,
) -> list[dict[str, Any]]:  # fmt: skip
    """One entry per scaler at one target: cost at equal attainment on the test loads, and the frozen knob beside it.

    `widest`: see `fronts.cost_at`.
    """
    x = fronts.level_of(target)
    entries = [_entry(sweep, x, target, widest) for sweep in sweeps.values()]
    samples = {label: _cost_samples(sweep, x, draws, widest) for label, sweep in sweeps.items()}
    rules = [entry for entry in entries if entry["kind"] == "rule" and entry["status"] == "reached"]
    best = min(rules, key=lambda entry: entry["usd_per_h"])["scaler"] if rules else None
    for entry in entries:
        label = entry["scaler"]
        entry["interval"] = _interval(samples[label])
        entry["best_rule"] = label == best
        entry["versus_best"] = _versus(entries, samples, label, best)
        entry["probability"] = _probability(sweeps, label, best, x)
        entry["frozen"] = _frozen_entry(frozen.get(label), draws)
    order = {"reached": 0, "above": 1, "never": 2, "failed": 3}
    return sorted(entries, key=lambda e: (order[e["status"]], e["usd_per_h"]))


def verdict(entries: Sequence[Mapping[str, Any]], target: float) -> str:
    """Who wins at one target, in words; a loss of a learned policy is called a loss."""
    where = f"At {percent(target)} of requests within the SLO"
    reached = [entry for entry in entries if entry["status"] == "reached"]
    if not reached:
        return f"{where} no scaler can be compared: {_why_none(entries)}."
    first = reached[0]
    text = [f"{where}, {first['scaler']} is cheapest: {first['usd_per_h']:.2f} USD/h{_range(first['interval'])}."]
    best = next((entry for entry in reached if entry["best_rule"]), None)
    for entry in entries:
        if entry["kind"] == "learned":
            text.append(_learned_verdict(entry, best))
        elif entry["status"] == "above" and entry["usd_per_h"] < first["usd_per_h"]:
            text.append(f"{entry['scaler']} costs less still ({entry['usd_per_h']:.2f} USD/h) at a higher attainment.")
    return " ".join(text)


def percent(share: float) -> str:
    """A share near 1 as a percentage with as many digits as it needs: 95 %, 99.9 %."""
    return f"{100.0 * share:.6g}{NBSP}%"


def front_points(sweep: Sweep) -> list[dict[str, Any]]:
    """The sweep of every member over all blocks, for tables and figures."""
    cost, level = sweep.points()
    requests, missed = sweep.requests.sum(-1), sweep.missed.sum(-1)
    points = []
    for (s, k), usd in np.ndenumerate(cost):
        if sweep.complete[s, k]:
            on = bool(fronts.on_front(cost[s], level[s])[k])
            knob = None if math.isnan(sweep.knob[k]) else float(sweep.knob[k])
            share = 1.0 - missed[s, k] / max(requests[s, k], 1.0)
            points.append(
                {"member": s, "knob": knob, "usd_per_h": float(usd), "attainment": float(share),
                 "level": float(level[s, k]), "requests": float(requests[s, k]), "on_front": on}
            )  # fmt: skip
    return points


def hypervolumes(sweeps: Mapping[str, Sweep]) -> dict[str, float]:
    """Hypervolume of each front, interquartile mean over members; the box ends at the dearest point of any front."""
    points = {label: sweep.points() for label, sweep in sweeps.items()}
    on = [float(c[np.isfinite(c)].max()) for c, _ in points.values() if np.isfinite(c).any()]
    ref = max(on, default=1.0)
    return {
        label: float(stats.iqm(np.array([_volume(c, x, ref) for c, x in zip(cost, level, strict=True)])))
        for label, (cost, level) in points.items()
    }


def _volume(cost: Floats, level: Floats, ref: float) -> float:
    keep = np.isfinite(cost)
    return fronts.hypervolume(cost[keep], level[keep], ref) if keep.any() else 0.0


def _entry(sweep: Sweep, x: float, target: float, widest: float) -> dict[str, Any]:
    at = fronts.cost_at(*sweep.points(), x, widest)
    usd = float(stats.iqm(at.cost))
    requests = float(sweep.requests[sweep.complete].sum(-1).max(initial=0.0))
    return {
        "scaler": sweep.label,
        "kind": "learned" if sweep.learned else "rule",
        "target": target,
        "status": _status(sweep, at.status, usd),
        "usd_per_h": usd,
        "members": [
            {"usd_per_h": float(c), "status": fronts.STATUS[int(s)]} for c, s in zip(at.cost, at.status, strict=True)
        ],
        "highest": _highest(sweep),
        "blocks": len(sweep.hours),
        "requests": requests,
        "few_misses": requests * (1.0 - target) < MIN_MISSES,
    }


def _highest(sweep: Sweep) -> dict[str, float]:
    """The best attainment of any knob value, and its cost."""
    cost, level = (values.ravel() for values in sweep.points())
    best = int(np.lexsort((cost, -level))[0])
    return {"attainment": float(fronts.attainment_of(max(0.0, level[best]))), "usd_per_h": float(cost[best])}


def _status(sweep: Sweep, statuses: Ints, usd: float) -> str:
    if not sweep.complete.any():
        return "failed"
    if math.isinf(usd):
        return "never"
    return "above" if np.all(statuses == fronts.ABOVE) else "reached"


def _cost_samples(sweep: Sweep, x: float, draws: stats.Resampling | None, widest: float) -> Floats | None:
    """(R,) cost at equal attainment under resampled blocks and members."""
    if draws is None:
        return None
    return _over_members(fronts.cost_at(*sweep.points(draws.weights), x, widest).cost, draws)


def _over_members(values: Floats, draws: stats.Resampling) -> Floats:
    """(R, S) -> (R,): members drawn with replacement, then their interquartile mean."""
    count = values.shape[1]
    return stats.iqm(np.take_along_axis(values, draws.seeds(count), 1)) if count > 1 else values[:, 0]


def _interval(samples: Floats | None) -> dict[str, float] | None:
    if samples is None:
        return None
    interval = stats.percentile_interval(samples)
    return {"low": interval.low, "high": interval.high}


def _versus(
    entries: Sequence[Mapping[str, Any]], samples: Mapping[str, Floats | None], label: str, best: str | None
) -> dict[str, Any] | None:
    """Relative difference to the best rule on the same blocks; None where there is nothing to compare."""
    mine = next(entry for entry in entries if entry["scaler"] == label)
    if best is None or best == label or mine["status"] != "reached":
        return None
    base = next(entry for entry in entries if entry["scaler"] == best)
    a, b = samples[label], samples[best]
    paired = None if a is None or b is None else _interval(stats.relative_difference(a, b))
    return {"difference": mine["usd_per_h"] / base["usd_per_h"] - 1.0, "interval": paired}


def _probability(sweeps: Mapping[str, Sweep], label: str, best: str | None, x: float) -> float | None:
    """Chance to be cheaper than the best rule on a block, both at equal attainment on that block."""
    if best is None or best == label:
        return None
    mine, base = (fronts.cost_at(*sweeps[name].per_block(), x).cost for name in (label, best))
    return stats.probability_of_improvement(mine, base)


def _frozen_entry(sweep: Sweep | None, draws: stats.Resampling | None) -> dict[str, Any] | None:
    """What the knob chosen on training loads gave on the test loads."""
    if sweep is None:
        return None
    keep = sweep.complete[:, 0]
    if not keep.any():
        return None
    cost, level = (values[keep, 0] for values in sweep.points())
    entry: dict[str, Any] = {
        "members": int(keep.sum()),
        "usd_per_h": float(stats.iqm(cost)),
        "attainment": float(fronts.attainment_of(stats.iqm(level))),
        "interval": None,
        "attainment_interval": None,
    }
    if draws is not None:
        costs, levels = (values[:, keep, 0] for values in sweep.points(draws.weights))
        entry["interval"] = _interval(_over_members(costs, draws))
        ends = stats.percentile_interval(_over_members(levels, draws))
        low, high = (float(fronts.attainment_of(end)) for end in (ends.low, ends.high))
        entry["attainment_interval"] = {"low": low, "high": high}
    return entry


def _learned_verdict(entry: Mapping[str, Any], best: Mapping[str, Any] | None) -> str:
    name = f"The learned policy {entry['scaler']}"
    seeds = len(entry["members"])
    if entry["status"] != "reached":
        reason = {"never": "never reaches it", "above": "is above it even at its cheapest", "failed": "failed"}
        return f"{name} {reason[entry['status']]}: it cannot be compared there."
    if best is None:
        return f"{name} reaches it and no rule does."
    change = entry["versus_best"]["difference"]
    interval = entry["versus_best"]["interval"]
    words = f"{_points(abs(change))} {'less' if change < 0 else 'more'} than the best rule, {best['scaler']}"
    few = "" if seeds >= 10 else f" ({seeds} training seed{'s' if seeds > 1 else ''}: an early comparison)"
    if interval is None:
        return f"{name} costs {words}{few}; no interval over loads, so this is one observation."
    span = f"95 % interval {_points(interval['low'])} to {_points(interval['high'])}"
    if interval["high"] < 0:
        return f"{name} wins: it costs {words}, {span}{few}."
    if interval["low"] > 0:
        return f"{name} loses: it costs {words}, {span}{few}."
    return f"{name} costs {words}, {span}{few}: the two cannot be told apart."


def _points(change: float) -> str:
    if not math.isfinite(change):
        return "no bound (some resamples never reach it)"
    return f"{100.0 * change:.1f}{NBSP}%".replace("-", MINUS)


def _range(interval: Mapping[str, float] | None) -> str:
    if interval is None:
        return ""
    low, high = (f"{interval[end]:.2f}" if math.isfinite(interval[end]) else "never reached" for end in ("low", "high"))
    return f" (95 % interval {low} to {high})"


def _why_none(entries: Sequence[Mapping[str, Any]]) -> str:
    words = {"never": "never reach it", "above": "are above it even at their cheapest", "failed": "failed"}
    by_status = {s: [e["scaler"] for e in entries if e["status"] == s] for s in words}
    told = "; ".join(f"{', '.join(names)} {words[s]}" for s, names in by_status.items() if names) or "nothing ran"
    tried = [entry for entry in entries if entry["status"] == "never"]
    if not tried:
        return told
    closest = max(tried, key=lambda entry: entry["highest"]["attainment"])
    best = closest["highest"]
    return f"{told}. Closest is {closest['scaler']} with {_points(best['attainment'])} at {best['usd_per_h']:.2f} USD/h"
