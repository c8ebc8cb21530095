"""Does learning find what is known to be best? PPO and DQN, five seeds each, on two loads that can be solved by hand.

A constant load: the best constant fleet. A load with a strict period of an hour and replicas that take five minutes:
the best schedule, which orders ahead. Every run begins with a wrong fleet, half or one and a half times of what is
needed, and is scored from its second hour on; a policy that stands still fails.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

from experiments.results import provenance, write_json, write_text
from rlscale.errors import ResultError

FOLDER = Path(__file__).parent / "sanity"
LOADS, ALGOS = ("steady", "periodic"), ("ppo", "dqn")
STARTS = (0.5, 1.5, 0.5, 1.5)  # of the mean need; one test load each
SETTLE_S = 3600.0
TARGET, NEAR, DEARER = 0.99, 1.05, 1.10  # attainment; cost over the best; best constant headroom over best schedule
FLEETS = (*range(36, 60), *range(60, 100, 2))
HEADROOMS = tuple(round(1.0 + 0.05 * i, 2) for i in range(17))
AHEAD_S = (285.0, 300.0, 315.0, 330.0, 345.0, 360.0)
# A policy's knob, swept on the same loads as everybody's.
MULTIPLIERS = (0.84, 0.86, 0.88, 0.9, 0.92, 0.94, 0.96, 0.98, 1.0, 1.02, 1.05)
MARGINS = tuple(round(0.94 + 0.01 * i, 2) for i in range(13))


@dataclass(frozen=True, slots=True)
class Score:
    """One candidate over all test loads."""

    name: str
    usd_per_hour: float
    attainment: float


class Schedule:
    """Knows the rate to come and keeps what the largest of the next `ahead_s` seconds needs, times `margin`."""

    def __init__(self, ahead_s: float, margin: float, load: Any) -> None:
        self.rate, self.ahead_s, self.margin = load.rate_per_s, int(ahead_s), margin

    def reset(self) -> None:
        """Nothing is remembered."""

    def decide(self, seen: Any) -> Any:
        """What the busiest second until a replica ordered now can serve will ask for."""
        from rlscale.types import Decision

        now = min(int(seen.t_s), len(self.rate) - 1)
        return Decision(capacity_per_s=self.margin * float(self.rate[now : now + self.ahead_s + 1].max()))


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Arguments of `python -m experiments sanity`."""
    parser.add_argument("--out", type=Path, required=True, help="new folder for report.md, results.json and curves.svg")
    parser.add_argument("--runs", type=Path, default=Path("runs/sanity"), help="trainings; unfinished ones are resumed")
    parser.add_argument("--seeds", type=int, default=5, help="training seeds")
    parser.add_argument("-n", "--n-timesteps", type=int, default=None, help="steps per seed, instead of the settings'")
    parser.add_argument("--workers", type=int, default=2)


def run(args: argparse.Namespace) -> int:
    """Train what is missing, score, write."""
    started = datetime.now(UTC)
    if args.out.exists():
        raise ResultError(f"{args.out} exists; give another --out, nothing is overwritten")
    for load in LOADS:
        for algo in ALGOS:
            _train(args, load, algo)
    found = {load: _study(load, args) for load in LOADS}
    args.out.mkdir(parents=True)
    write_json(args.out / "results.json", {"format": 1, "loads": found,
               "provenance": provenance(started, {"training": args.seeds, "test": len(STARTS)})})  # fmt: skip
    write_text(args.out / "curves.svg", _curves(args))
    report = _report(found)
    write_text(args.out / "report.md", report)
    print(report)
    return 0


def _train(args: argparse.Namespace, load: str, algo: str) -> None:
    """All seeds of an algorithm on a load; what was begun goes on, what is finished stays."""
    from experiments import train

    out = args.runs / f"{algo}-{load}"
    words = ["--algo", algo, "--env", str(FOLDER / f"{load}.yaml"), "-conf", str(FOLDER / f"{algo}.yaml"),
             "--out", str(out), "--seeds", str(args.seeds), "--workers", str(args.workers),
             "--device", "cpu", "--eval-episodes", "2"]  # fmt: skip
    if args.n_timesteps is not None:
        words += ["-n", str(args.n_timesteps)]
    parser = argparse.ArgumentParser()
    train.add_arguments(parser)
    train.run(parser.parse_args([*words, *(["--resume"] if (out / "run.json").exists() else [])]))


def _study(load: str, args: argparse.Namespace) -> dict[str, Any]:
    """Scores of the best answers, of constant headroom, and of every policy."""
    from envs import get_scenario

    scenario = get_scenario(str(FOLDER / f"{load}.yaml"))
    known = scenario.limits
    loads = [scenario.sample_load("test", seed) for seed in range(len(STARTS))]

    def score(name: str, build: Callable[[Any], Any]) -> Score:
        return _score(name, scenario, loads, build)

    def policy(algo: str, seed: int) -> Score:
        folder = args.runs / f"{algo}-{load}" / f"seed-{seed}"
        swept = [score(f"seed {seed}, {m:g} x demand", partial(_policy, folder, known, m)) for m in MULTIPLIERS]
        return cheapest(swept) if any(s.attainment >= TARGET for s in swept) else max(swept, key=lambda s: s.attainment)

    fleets = [score(f"{n} replicas", partial(_fixed, known, n)) for n in FLEETS]
    headrooms = [score(f"headroom {h:g}", partial(_headroom, known, h)) for h in HEADROOMS]
    plans = [
        score(f"{margin:g} x the largest rate of the next {ahead:g} s", partial(Schedule, ahead, margin))
        for ahead in AHEAD_S
        for margin in MARGINS
    ]
    policies = {algo: [policy(algo, seed) for seed in range(args.seeds)] for algo in ALGOS}
    best = cheapest(fleets if load == "steady" else plans)
    return {
        "best": _plain(best),
        "best_constant_fleet": _plain(cheapest(fleets)),
        "best_constant_headroom": _plain(cheapest(headrooms)),
        "policies": {algo: [_plain(s, best) for s in scores] for algo, scores in policies.items()},
    }


def _fixed(known: Any, replicas: int, _: Any) -> Any:
    from agents.fixed import Fixed

    return Fixed(known, replicas=replicas)


def _headroom(known: Any, headroom: float, _: Any) -> Any:
    from agents.headroom import Headroom

    return Headroom(known, headroom=headroom)


def _policy(folder: Path, known: Any, multiplier: float, _: Any) -> Any:
    from rlscale.policy_folder import load_policy

    return load_policy(folder, known, multiplier)


def _score(name: str, scenario: Any, loads: list[Any], build: Callable[[Any], Any]) -> Score:
    from rlscale.loop import need_series
    from rlscale.loop import run as run_loop

    cost = hours = arrived = missed = 0.0
    for seed, (load, share) in enumerate(zip(loads, STARTS, strict=True)):
        need = need_series(load, scenario.cluster, scenario.limits).mean()
        first = (round(share * float(need)), *([0] * (len(scenario.cluster.pools) - 1)))
        series = run_loop(scenario, build(load), load, seed, initial=first).series
        scored = series["t_s"] >= SETTLE_S
        cost += float(series["cost_usd"][scored].sum())
        hours += float(scored.sum()) * scenario.cluster.interval_s / 3600.0
        arrived += float(series["arrived"][scored].sum())
        missed += float(series["missed"][scored].sum())
    return Score(name, cost / hours, 1.0 - missed / arrived)


def cheapest(scores: Iterable[Score]) -> Score:
    """Of those that reach the target."""
    good = [score for score in scores if score.attainment >= TARGET]
    if not good:
        raise ResultError(f"no candidate reaches {TARGET:.0%} of requests within the SLO; widen the search")
    return min(good, key=lambda score: score.usd_per_hour)


def _plain(score: Score, best: Score | None = None) -> dict[str, Any]:
    entry: dict[str, Any] = {"name": score.name, "usd_per_hour": score.usd_per_hour, "attainment": score.attainment}
    if best is not None:
        over = score.usd_per_hour / best.usd_per_hour
        entry |= {"over_best": over, "good": bool(over <= NEAR and score.attainment >= TARGET)}
    return entry


def _report(found: dict[str, Any]) -> str:
    lines = ["# Learning sanity", "", f"Goal: within {NEAR - 1:.0%} of the best answer at {TARGET:.0%} of requests "
             "within the SLO, every training seed.", ""]  # fmt: skip
    for load, entry in found.items():
        best, headroom = entry["best"], entry["best_constant_headroom"]
        over = headroom["usd_per_hour"] / best["usd_per_hour"] - 1.0
        lines += [f"## {load}", "", "| scaler | USD/h | attainment | over the best |", "|---|---|---|---|",
                  f"| best: {best['name']} | {best['usd_per_hour']:.2f} | {best['attainment']:.4f} | |",
                  f"| best constant headroom: {headroom['name']} | {headroom['usd_per_hour']:.2f} | "
                  f"{headroom['attainment']:.4f} | {over:+.1%} |"]  # fmt: skip
        for algo, scores in entry["policies"].items():
            for s in scores:
                verdict = "" if s["good"] else " (misses the goal)"
                lines.append(f"| {algo} {s['name']} | {s['usd_per_hour']:.2f} | {s['attainment']:.4f} | "
                             f"{s['over_best'] - 1.0:+.1%}{verdict} |")  # fmt: skip
        lines.append("")
    return "\n".join(lines)


def _curves(args: argparse.Namespace) -> str:
    """Validation cost of every seed over its steps."""
    import io

    from matplotlib.figure import Figure

    figure = Figure(figsize=(9, 3.6), layout="constrained")
    for axes, load in zip(figure.subplots(1, 2), LOADS, strict=True):
        for algo, colour in zip(ALGOS, ("#1f77b4", "#d62728"), strict=True):
            for seed in range(args.seeds):
                path = args.runs / f"{algo}-{load}" / "training" / f"seed-{seed}" / "curve.json"
                points = json.loads(path.read_text())["points"][1:]
                axes.plot([p["steps"] / 1e6 for p in points], [p["usd_per_hour"] for p in points], color=colour,
                          linewidth=1.0, label=algo if seed == 0 else None)  # fmt: skip
        axes.set(title=load, xlabel="million steps", ylabel="USD per hour, validation")
        axes.legend(frameon=False)
    text = io.StringIO()
    figure.savefig(text, format="svg", metadata={"Date": None})
    return text.getvalue()
