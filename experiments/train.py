"""Train an agent on a scenario's training loads; keep the version that is best on its validation loads.

Every seed ends as a policy folder OUT/seed-<n> that `compare` takes as `policy:OUT/seed-<n>`.
"""

from __future__ import annotations

import argparse
import concurrent.futures
import multiprocessing
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from rlscale.errors import ResultError, ScenarioError

WATCHES = 10  # evaluations on validation loads per training
VALIDATION_LOADS = 2
START_LEVEL = 1.2  # of the untrained policy: about the calibrated rule


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Arguments of `python -m experiments train`."""
    parser.add_argument("--algo", choices=["ppo"], default="ppo")
    parser.add_argument("--scenario", "--env", default="chat", help="name or file (default chat)")
    parser.add_argument("--out", type=Path, required=True, help="new folder; one policy folder per seed appears in it")
    parser.add_argument("--seed", type=int, default=0, help="first training seed")
    parser.add_argument("--seeds", type=int, default=1, help="how many training seeds, in up to two processes")
    parser.add_argument("-n", "--n-timesteps", type=int, default=None, help="environment steps per seed")
    parser.add_argument("--n-envs", type=int, default=256)
    parser.add_argument("--device", choices=["auto", "cpu", "cuda"], default="cpu")


def run(args: argparse.Namespace) -> int:
    """Train every seed."""
    from envs import get_scenario

    if args.n_timesteps is not None and args.n_timesteps < 1:
        raise ScenarioError(f"-n {args.n_timesteps}; expected at least 1 step")
    if args.device == "cuda":
        import torch

        if not torch.cuda.is_available():
            raise ScenarioError("--device cuda: torch sees no CUDA device; use --device cpu or a CUDA build of torch")
    get_scenario(args.scenario)  # a wrong one is refused before anything is written
    seeds = list(range(args.seed, args.seed + args.seeds))
    for seed in seeds:
        folder = args.out / f"seed-{seed}"
        if folder.exists():
            raise ResultError(f"{folder} exists; choose another --out or --seed, nothing is overwritten")
    args.out.mkdir(parents=True, exist_ok=True)
    if len(seeds) == 1:
        _one(args, seeds[0])
        return 0
    context = multiprocessing.get_context("spawn")
    with concurrent.futures.ProcessPoolExecutor(min(2, len(seeds)), mp_context=context) as pool:
        for done in concurrent.futures.as_completed([pool.submit(_one, args, seed) for seed in seeds]):
            done.result()
    return 0


def _one(args: argparse.Namespace, seed: int) -> None:
    """One seed from nothing to its policy folder."""
    from agents._ppo import Settings, train, weights
    from envs import get_scenario
    from envs.sb3 import ClusterVecEnv
    from envs.vector import ClusterVectorEnv
    from rlscale.actions import LEVELS
    from rlscale.policy import save_policy

    scenario = get_scenario(args.scenario)
    settings = Settings() if args.n_timesteps is None else replace(Settings(), steps=args.n_timesteps)
    env = ClusterVecEnv(ClusterVectorEnv(args.n_envs, scenario), seed)
    judge = _Judge(scenario, LEVELS)
    began = time.perf_counter()
    start = int(np.argmin(np.abs(np.array(LEVELS) - START_LEVEL)))

    def watch(model: Any) -> None:
        score = judge.note(weights(model))
        rate = model.num_timesteps / (time.perf_counter() - began)
        print(f"seed {seed}: {model.num_timesteps:>8} steps, {rate:,.0f} steps/s, {score}", flush=True)
        for name, value in judge.last.items():
            model.logger.record(name, value)

    model = train(env, seed, args.device, settings, start, watch, WATCHES, str(args.out / "tensorboard"))
    watch(model)
    save_policy(
        args.out / f"seed-{seed}", judge.best, LEVELS, scenario.cluster.interval_s,
        {
            "algo": args.algo,
            "seed": seed,
            "steps": int(model.num_timesteps),
            "scenario": scenario.name,
            "scenario_hash": scenario.hash,
            "settings": {name: getattr(settings, name) for name in settings.__slots__},
            "train_s": round(time.perf_counter() - began, 1),
            "validation": judge.best_totals,
            "versions": _versions(),
        },
    )  # fmt: skip
    print(f"seed {seed}: saved {args.out / f'seed-{seed}'}", flush=True)


class _Judge:
    """Scores weights on validation loads through the circle itself, and keeps the best."""

    def __init__(self, scenario: Any, levels: tuple[float, ...]) -> None:
        self.scenario, self.levels = scenario, levels
        self.loads = [scenario.sample_load("validation", seed) for seed in range(VALIDATION_LOADS)]
        self.best: dict[str, Any] = {}
        self.best_score = -np.inf
        self.best_totals: dict[str, float] = {}
        self.last: dict[str, float] = {}

    def note(self, arrays: dict[str, Any]) -> str:
        """Evaluate, remember if best, and say how it went."""
        from envs.reward import scale_of
        from rlscale.loop import run as run_loop
        from rlscale.policy import Policy

        scenario = self.scenario
        if scenario.scale is None:
            scenario = replace(scenario, scale=scale_of(scenario, self.loads))
        totals = [
            run_loop(
                scenario, Policy(arrays, self.levels, scenario.limits, scenario.cluster.interval_s), load, i
            ).totals
            for i, load in enumerate(self.loads)
        ]
        mean = {key: float(np.mean([total[key] for total in totals])) for key in ("reward", "usd_per_hour", "churn")}
        missed = sum(total["missed"] for total in totals) / sum(total["requests"] for total in totals)
        self.last = {"eval/reward": mean["reward"], "cost/usd_per_hour": mean["usd_per_hour"],
                     "slo/attainment": 1.0 - missed, "action/churn": mean["churn"]}  # fmt: skip
        if mean["reward"] > self.best_score:
            self.best, self.best_score = arrays, mean["reward"]
            self.best_totals = {**mean, "attainment": 1.0 - missed}
        return f"validation {mean['usd_per_hour']:.2f} USD/h at {1.0 - missed:.3%} (reward {mean['reward']:.0f})"


def _versions() -> dict[str, str]:
    from importlib.metadata import version

    return {name: version(name) for name in ("torch", "stable-baselines3", "gymnasium", "numpy")}
