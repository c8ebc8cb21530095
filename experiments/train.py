"""Train agents on a scenario's training loads; keep of each seed what is best on the validation loads.

Every seed ends as a policy folder OUT/seed-<n> that `compare` takes as `policy:OUT/seed-<n>`, and all of them together
as `policy:OUT/seed-*`. Watch a training with `tensorboard --logdir OUT/tensorboard`.
"""

from __future__ import annotations

import argparse
import concurrent.futures
import multiprocessing
import sys
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, get_args

from experiments.run_folder import RunFolder
from rlscale.errors import PolicyError, ScenarioError
from rlscale.types import Engine

WORKERS = 2
ALGOS = ("ppo", "dqn")
SHAPE = ("action", "action_settings", "hidden", "activation", "standardise")  # what a network can only be used with


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Arguments of `python -m experiments train`; where rl_zoo3 has the same, the flag has its name."""
    parser.add_argument("--algo", choices=ALGOS, default="ppo")
    parser.add_argument("--env", "--scenario", default="chat", help="rlscale/Chat-v0, chat, or a file (default chat)")
    parser.add_argument("--out", type=Path, default=None, help="new folder (default LOG_FOLDER/<algo>-<env>-<time>)")
    parser.add_argument("-f", "--log-folder", type=Path, default=Path("runs"), help="where new folders go")
    parser.add_argument("--seed", type=int, default=0, help="first training seed")
    parser.add_argument("--seeds", type=int, default=1, help="how many training seeds")
    parser.add_argument("--workers", type=int, default=WORKERS, help="processes for several seeds (default 2)")
    parser.add_argument("-n", "--n-timesteps", type=int, default=None, help="environment steps per seed")
    parser.add_argument("--n-envs", type=int, default=None, help="clusters that run side by side")
    parser.add_argument("--engine", choices=get_args(Engine), default="fluid", help="fluid (default), or request: "
                        "every single request, for policies that go on from the fluid")  # fmt: skip
    parser.add_argument("--start-from", type=Path, metavar="FOLDER", help="go on from what an earlier training of the "
                        "same algorithm learnt, seed by seed")  # fmt: skip
    parser.add_argument("--device", choices=["auto", "cpu", "cuda"], default="auto")
    parser.add_argument("--eval-freq", type=int, default=0, help="steps between evaluations (default a tenth of -n)")
    parser.add_argument("--eval-episodes", type=int, default=4, help="validation loads (default 4)")
    parser.add_argument("--save-freq", type=int, default=0, help="steps between checkpoints (default as evaluations)")
    parser.add_argument("-conf", "--conf-file", type=Path, default=None, help="YAML of hyper-parameters by scenario")
    parser.add_argument("-params", "--hyperparams", nargs="+", default=[], metavar="NAME:VALUE",
                        help="changed hyper-parameters, for example gamma:0.98 action:delta")  # fmt: skip
    parser.add_argument("-tb", "--tensorboard-log", type=Path, default=None, help="folder (default OUT/tensorboard)")
    parser.add_argument("--resume", action="store_true", help="go on with the interrupted training in --out")
    parser.add_argument("--track", action="store_true", help="log to Weights & Biases; offline without network or key")
    parser.add_argument("--wandb-project-name", default="rlscale")
    parser.add_argument("--wandb-entity", default=None)


def run(args: argparse.Namespace) -> int:
    """Train every seed."""
    began = time.perf_counter()
    plans = plans_of(args)
    asked = _asked(args, plans[0])
    with plans[0].folder.opened(asked, args.resume):
        try:
            _train_all(plans, args.workers)
        except KeyboardInterrupt:
            raise KeyboardInterrupt(f"the same command with --out {plans[0].folder.path} --resume goes on") from None
    seeds = f"{len(plans)} seeds" if len(plans) > 1 else "1 seed"
    print(f"{seeds} in {time.perf_counter() - began:.0f} s: {plans[0].folder.path}")
    print(f"compare with: python -m experiments compare --scenario {args.env} "
          f"--scalers headroom,'policy:{plans[0].folder.path}/seed-*' --out results/mine")  # fmt: skip
    return 0


def plans_of(args: argparse.Namespace) -> list[Any]:
    """What each seed trains; everything that can be refused is refused here, before anything is written."""
    from agents._hyperparameters import changes_from, settings_for
    from envs import get_scenario
    from experiments._training import Plan

    for name, least in (("n_timesteps", 1), ("n_envs", 1), ("seeds", 1), ("workers", 1), ("eval_freq", 0),
                        ("eval_episodes", 1), ("save_freq", 0), ("seed", 0)):  # fmt: skip
        value = getattr(args, name)
        if value is not None and value < least:
            raise ScenarioError(f"--{name.replace('_', '-')} {value}; expected at least {least}")
    scenario = get_scenario(args.env)
    changes = changes_from(args.hyperparams)
    changes |= {name: getattr(args, name) for name in ("n_timesteps", "n_envs") if getattr(args, name) is not None}
    settings = settings_for(args.algo, scenario.name, args.conf_file, changes)
    if args.resume and args.out is None:
        raise ScenarioError("--resume needs --out: the folder of the interrupted training")
    out = args.out or args.log_folder / time.strftime(f"{args.algo}-{scenario.name}-%Y%m%d-%H%M%S")
    track = None
    if args.track:
        track = {"project": args.wandb_project_name, "entity": args.wandb_entity, "group": out.name}
    plan = Plan(
        RunFolder(out), args.algo, args.env, settings, args.seed, _device(args.device), args.eval_freq,
        args.eval_episodes, args.save_freq, args.tensorboard_log, track, args.resume, args.engine,
    )  # fmt: skip
    plans = [replace(plan, seed=args.seed + i) for i in range(args.seeds)]
    if args.start_from is None:
        return plans
    earlier = earlier_models(RunFolder(args.start_from), plan, [plan.seed for plan in plans])
    return [replace(plan, start_from=path) for plan, path in zip(plans, earlier, strict=True)]


def earlier_models(folder: RunFolder, plan: Any, seeds: Sequence[int]) -> list[Path]:
    """Where the models of an earlier training are. Raises PolicyError when it does not fit or is not complete."""
    earlier = folder.asked()
    now = plan.settings.model_dump(mode="json")
    differ = [f"{name} {earlier['settings'].get(name)!r}, now {now[name]!r}" for name in SHAPE
              if earlier["settings"].get(name) != now[name]]  # fmt: skip
    if earlier["algo"] != plan.algo:
        differ.insert(0, f"algo {earlier['algo']}, now {plan.algo}")
    if differ:
        raise PolicyError(f"--start-from {folder.path} was trained with {'; '.join(differ)}; give the same with "
                          "--algo, --conf-file or -params")  # fmt: skip
    paths = [folder.model(seed) for seed in seeds]
    for path in paths:
        if not path.exists():
            raise PolicyError(f"{path} is missing; --start-from needs a training that is complete for every seed asked "
                              "for (see --seed and --seeds)")  # fmt: skip
    return paths


def _asked(args: argparse.Namespace, plan: Any) -> dict[str, Any]:
    """What a resumed training must ask for again."""
    from envs import get_scenario

    scenario = get_scenario(args.env)
    return {
        "format": 1,
        "command": " ".join(sys.argv),
        "algo": args.algo,
        "scenario": scenario.name,
        "scenario_hash": scenario.hash,
        "seeds": [args.seed, args.seeds],
        "settings": plan.settings.model_dump(mode="json"),
        "eval_freq": args.eval_freq,
        "eval_episodes": args.eval_episodes,
        "engine": args.engine,
        "start_from": None if args.start_from is None else str(args.start_from),
    }


def _device(name: str) -> str:
    if name == "cpu":
        return name
    import torch

    if torch.cuda.is_available():
        return "cuda"
    if name == "cuda":
        raise PolicyError("--device cuda: torch sees no CUDA device; use --device cpu or a CUDA build of torch")
    return "cpu"


def _train_all(plans: list[Any], workers: int) -> None:
    from experiments.progress import Bars

    with Bars([plan.seed for plan in plans], plans[0].settings.n_timesteps) as bars:
        if len(plans) == 1:
            _one(replace(plans[0], report=bars.tell))
            return
        context = multiprocessing.get_context("spawn")
        with context.Manager() as manager:
            queue = manager.Queue()
            told = [replace(plan, report=_Told(queue)) for plan in plans]
            with concurrent.futures.ProcessPoolExecutor(min(workers, len(plans)), mp_context=context) as pool:
                waiting = {pool.submit(_one, plan) for plan in told}
                while waiting:
                    done, waiting = concurrent.futures.wait(waiting, timeout=0.2)
                    while not queue.empty():
                        bars.tell(*queue.get())
                    for future in done:
                        future.result()


class _Told:
    """Reports of a worker process, sent to its parent."""

    def __init__(self, queue: Any) -> None:
        self.queue = queue

    def __call__(self, *message: Any) -> None:
        self.queue.put(message)


def _one(plan: Any) -> None:
    from experiments._training import train

    train(plan)
