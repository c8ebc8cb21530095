"""Speed of learning on this machine: PPO and DQN here against Stable-Baselines3's defaults on one environment.

The contestants learn in turn, a slice each, for a minute and then until each has reached the same validation return,
used up its time or finished its training; after every slice the network is evaluated outside of the clock. No speed
without its learning curve.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from stable_baselines3 import DQN, PPO
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.logger import Logger

from agents import _dqn, _ppo
from agents._hyperparameters import settings_for
from agents._network import to_network
from agents._standardise import measured
from envs import get_scenario
from envs.cluster_env import ClusterEnv
from envs.sb3 import ClusterVecEnv
from envs.vector import ClusterVectorEnv
from experiments.judge import Judge
from experiments.page import page
from experiments.results import write_text
from rlscale.network import Network

FOLDER = Path(__file__).parent / "sanity"
SCENARIO = str(FOLDER / "periodic.yaml")  # whoever stands still misses half of its requests
ACTION = "delta"
OVER = 1.15  # the return to reach: that of a fleet this many times as dear as the reference, with nothing missed
SLICE_S, LEAST_S, CAP_S = 5.0, 60.0, 600.0
QUICK_SLICE_S, QUICK_LEAST_S, QUICK_CAP_S = 1.0, 2.0, 3.0
DEFAULT_STEPS = 1_000_000  # of the defaults: DQN stops exploring after a tenth of them
OVERHEAD_ROWS, OVERHEAD_STEPS = (64, 256, 1024), 200
GOALS = {"ppo_ratio": 20.0, "dqn_ratio": 8.0, "overhead_ns": 300.0}
PARTS = ("env", "forward", "update", "buffer")


@dataclass(slots=True)
class Contestant:
    """One way to learn, what it has done so far, and where its time went."""

    name: str
    algo: str
    model: Any
    network: Callable[[Any], Network]
    n_timesteps: int
    seconds: float = 0.0
    parts: dict[str, float] = field(default_factory=lambda: dict.fromkeys(PARTS, 0.0))
    curve: list[dict[str, float]] = field(default_factory=list)
    reached_s: float | None = None


class _Slice(BaseCallback):
    """Ends `learn` at the first rollout boundary after `limit_s`."""

    def __init__(self, limit_s: float) -> None:
        super().__init__()
        self.limit_s, self.over, self.began = limit_s, False, time.perf_counter()

    def _on_rollout_start(self) -> None:
        self.over = time.perf_counter() - self.began > self.limit_s

    def _on_step(self) -> bool:
        return not self.over


def measure(quick: bool) -> dict[str, Any]:
    """Learning curves, frames per second, time to a fixed return, shares of wall time, overhead of the environment."""
    slice_s, least_s, cap_s = (QUICK_SLICE_S, QUICK_LEAST_S, QUICK_CAP_S) if quick else (SLICE_S, LEAST_S, CAP_S)
    scenario = get_scenario(SCENARIO)
    fleet = [_contestant(algo, ours) for algo in ("ppo", "dqn") for ours in (True, False)]
    loads = [scenario.sample_load("validation", seed) for seed in range(2)]
    judge = Judge(scenario, fleet[0].model.get_env().vector.actions, loads)
    target = -OVER * (judge.intervals - 1 - judge.settle)
    while waiting := [c for c in fleet if _still_learns(c, least_s, cap_s)]:
        for contestant in waiting:
            _learn(contestant, slice_s)
            _judge(contestant, judge, target)
    return {
        "format": 1,
        "scenario": scenario.name,
        "quick": quick,
        "target_return": target,
        "slice_s": slice_s,
        "cap_s": cap_s,
        "goals": GOALS,
        "contestants": [_plain(contestant) for contestant in fleet],
        "ratios": {algo: _ratios(fleet, algo) for algo in ("ppo", "dqn")},
        "overhead": [_overhead(n, 5 if quick else OVERHEAD_STEPS) for n in OVERHEAD_ROWS[: 1 if quick else None]],
    }  # fmt: skip


def _contestant(algo: str, ours: bool) -> Contestant:
    module: Any = _ppo if algo == "ppo" else _dqn
    if not ours:
        kind: Any = PPO if algo == "ppo" else DQN
        model = kind("MlpPolicy", ClusterEnv(SCENARIO, action=ACTION), seed=0, device="cpu")
        return _watched(Contestant("sb3 defaults, one environment", algo, model, _default_network(algo), DEFAULT_STEPS))
    settings = settings_for(algo, "periodic", FOLDER / f"{algo}.yaml")
    vector = ClusterVectorEnv(settings.n_envs, SCENARIO, action=ACTION, loads=settings.loads,
                              episode_intervals=settings.episode_intervals,
                              start_spread=settings.start_spread)  # fmt: skip
    env = ClusterVecEnv(vector, 0, settings.reward_share)
    model = module.build(env, settings, vector.actions, 0, "cpu", measured(env, 0))
    network = partial(module.network, settings=settings)
    return _watched(Contestant("here", algo, model, network, settings.n_timesteps))


def _default_network(algo: str) -> Callable[[Any], Network]:
    """The network of Stable-Baselines3's default policies: tanh for PPO, ReLU for DQN."""

    def read(model: Any) -> Network:
        if algo == "ppo":
            layers = [*model.policy.mlp_extractor.policy_net, model.policy.action_net]
            return to_network(model.policy.features_extractor, layers, "tanh")
        return to_network(model.q_net.features_extractor, list(model.q_net.q_net), "relu")

    return read


def _watched(contestant: Contestant) -> Contestant:
    """Clocks around the four parts of a training."""
    model = contestant.model
    model.set_logger(Logger(None, []))

    def clock(owner: Any, method: str, part: str) -> None:
        inner = getattr(owner, method)

        def timed(*args: Any, **kwargs: Any) -> Any:
            began = time.perf_counter()
            try:
                return inner(*args, **kwargs)
            finally:
                contestant.parts[part] += time.perf_counter() - began

        setattr(owner, method, timed)

    clock(model.env, "step", "env")
    clock(model, "train", "update")
    if contestant.algo == "ppo":
        clock(model.policy, "forward", "forward")
        clock(model.rollout_buffer, "add", "buffer")
        clock(model.rollout_buffer, "compute_returns_and_advantage", "buffer")
    else:
        clock(model, "predict", "forward")
        clock(model.replay_buffer, "add", "buffer")
    return contestant


def _still_learns(contestant: Contestant, least_s: float, cap_s: float) -> bool:
    unfinished = contestant.model.num_timesteps < contestant.n_timesteps
    return unfinished and contestant.seconds < (cap_s if contestant.reached_s is None else least_s)


def _learn(contestant: Contestant, slice_s: float) -> None:
    model = contestant.model
    left = contestant.n_timesteps - model.num_timesteps  # schedules run over the whole training, not over the slice
    began = time.perf_counter()
    model.learn(left, callback=_Slice(slice_s), log_interval=None, reset_num_timesteps=False)
    contestant.seconds += time.perf_counter() - began


def _judge(contestant: Contestant, judge: Judge, target: float) -> None:
    verdict = judge.judge(contestant.network(contestant.model))
    contestant.curve.append({"seconds": round(contestant.seconds, 2), "steps": int(contestant.model.num_timesteps),
                             "reward": verdict.reward, "usd_per_hour": verdict.usd_per_hour,
                             "attainment": verdict.attainment})  # fmt: skip
    if contestant.reached_s is None and verdict.reward >= target:
        contestant.reached_s = contestant.seconds


def _plain(contestant: Contestant) -> dict[str, Any]:
    steps = int(contestant.model.num_timesteps)
    shares = {part: seconds / contestant.seconds for part, seconds in contestant.parts.items()}
    return {
        "name": contestant.name,
        "algo": contestant.algo,
        "steps": steps,
        "seconds": contestant.seconds,
        "frames_per_s": steps / contestant.seconds,
        "reached_s": contestant.reached_s,
        "shares": shares | {"rest": 1.0 - sum(shares.values())},
        "curve": contestant.curve,
    }


def _ratios(fleet: list[Contestant], algo: str) -> dict[str, float | None]:
    """Ours over the defaults. Where the defaults never arrived, their time is at least the cap."""
    ours, theirs = (_plain(c) for c in fleet if c.algo == algo)
    speed = ours["frames_per_s"] / theirs["frames_per_s"]
    if ours["reached_s"] is None:
        return {"frames_per_s": speed, "time_to_return": None, "at_least": None}
    known = theirs["reached_s"] is not None
    ratio = (theirs["reached_s"] or theirs["seconds"]) / ours["reached_s"]
    return {"frames_per_s": speed, "time_to_return": ratio if known else None, "at_least": None if known else ratio}


def _overhead(n: int, steps: int) -> dict[str, float]:
    """CPU nanoseconds of one environment step of the native vector environment, with and without its kernel."""
    env = ClusterVectorEnv(n, "chat", loads=4)
    env.reset(seed=0)
    assert env.batch is not None
    world: Any = env.batch.world
    inner, spent = world._run, [0]

    def timed(frozen: bool) -> None:
        began = time.process_time_ns()
        inner(frozen)
        spent[0] += time.process_time_ns() - began

    world._run = timed
    rng = np.random.default_rng(0)
    plan = rng.integers(0, env.single_action_space.n, (steps + 5, n))  # type: ignore[attr-defined]
    for actions in plan[:5]:
        env.step(actions)
    spent[0], began = 0, time.process_time_ns()
    for actions in plan[5:]:
        env.step(actions)
    total = time.process_time_ns() - began
    work = n * steps
    return {"n": n, "step_ns": total / work, "kernel_ns": spent[0] / work, "outside_ns": (total - spent[0]) / work}


def tell(found: dict[str, Any]) -> None:
    """Tables for the terminal."""
    from rich.table import Table

    table = Table(title=f"learning to a return of {found['target_return']:.0f} on {found['scenario']}")
    for column in ("algorithm", "who", "steps/s", "seconds to the return", *PARTS, "rest"):
        table.add_column(column, justify="right")
    for c in found["contestants"]:
        arrived = "not reached" if c["reached_s"] is None else f"{c['reached_s']:.0f}"
        table.add_row(c["algo"], c["name"], f"{c['frames_per_s']:,.0f}", arrived,
                      *(f"{c['shares'][part]:.0%}" for part in (*PARTS, "rest")))  # fmt: skip
    page().print(table)
    for algo, ratio in found["ratios"].items():
        sooner = ratio["time_to_return"] or ratio["at_least"]
        bound = "at least " if ratio["time_to_return"] is None else ""
        words = "never reached here" if sooner is None else f"{bound}{sooner:.1f} times sooner at the return"
        print(f"{algo}: {ratio['frames_per_s']:.1f} times the frames per second of the defaults, {words}")
    for entry in found["overhead"]:
        print(f"environment, {entry['n']} clusters: {entry['outside_ns']:.0f} ns per step outside the kernel "
              f"(goal {GOALS['overhead_ns']:g}), {entry['kernel_ns']:.0f} ns in it")  # fmt: skip


def draw(found: dict[str, Any], path: Path) -> None:
    """Learning curves over seconds."""
    import io

    from matplotlib.figure import Figure

    figure = Figure(figsize=(8, 3.6), layout="constrained")
    axes = figure.subplots()
    for c in found["contestants"]:
        axes.plot([p["seconds"] for p in c["curve"]], [p["reward"] for p in c["curve"]], marker=".",
                  label=f"{c['algo']}, {c['name']}", color="#1f77b4" if c["algo"] == "ppo" else "#d62728",
                  linestyle="-" if c["name"] == "here" else ":")  # fmt: skip
    axes.axhline(found["target_return"], color="black", linewidth=0.8)
    axes.set(xscale="log", xlabel="seconds of training", ylabel="validation return")
    axes.set_ylim(bottom=4.0 * found["target_return"], top=0.0)
    axes.legend(frameon=False, fontsize=8)
    text = io.StringIO()
    figure.savefig(text, format="svg", metadata={"Date": None})
    write_text(path, text.getvalue())
