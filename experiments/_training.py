"""One seed of a training, from nothing or from its checkpoint to its policy folder."""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from importlib import metadata
from pathlib import Path
from typing import Any

from stable_baselines3.common.callbacks import BaseCallback

from agents import _checkpoint, _dqn, _ppo
from agents._hyperparameters import Settings
from agents._standardise import measured
from envs import get_scenario
from envs.sb3 import ClusterVecEnv
from envs.vector import ClusterVectorEnv
from experiments.board import Board, tracked
from experiments.judge import Judge, Verdict
from experiments.results import write_json
from experiments.run_folder import RunFolder
from experiments.training_features import fit_statistics
from rlscale.actions import ActionMap, action_map
from rlscale.errors import PolicyError
from rlscale.manifest import STATISTICS
from rlscale.network import Network
from rlscale.policy_folder import save_policy

BUILD: dict[str, Any] = {"ppo": _ppo.build, "dqn": _dqn.build}
NETWORK: dict[str, Callable[..., Network]] = {"ppo": _ppo.network, "dqn": _dqn.network}
LOGS = 100  # lines of scalars per training, at most one per rollout
VERSIONS = ("torch", "stable-baselines3", "gymnasium", "numpy", "rlscale")


@dataclass(frozen=True, slots=True)
class Plan:
    """What one seed trains. `report` is told (seed, steps, frames per second, the last verdict in words)."""

    folder: RunFolder
    algo: str
    scenario: str
    settings: Settings
    seed: int
    device: str = "cpu"
    eval_freq: int = 0  # environment steps between evaluations; 0: a tenth of the training
    eval_episodes: int = 4  # validation loads
    save_freq: int = 0  # environment steps between checkpoints; 0: with every evaluation
    tensorboard: Path | None = None
    track: dict[str, Any] | None = None  # Weights & Biases: project, entity, group
    resume: bool = False
    engine: str = "fluid"
    start_from: Path | None = None  # a model of Stable-Baselines3 to go on from
    report: Callable[[int, int, float, str], None] = lambda *_: None


@dataclass(slots=True)
class Progress:
    """What is remembered between evaluations, and kept in checkpoints."""

    next_eval: int = 0
    next_save: int = 0
    next_log: int = 0
    trained_s: float = 0.0
    best: Network | None = None
    best_reward: float = float("-inf")
    best_scalars: dict[str, float] = field(default_factory=dict)
    best_steps: int = 0
    words: str = ""
    curve: list[dict[str, float]] = field(default_factory=list)


def train(plan: Plan) -> dict[str, Any]:
    """Train a seed and save its policy folder; a seed whose folder is there is done. Returns its learning curve."""
    if plan.folder.policy(plan.seed).exists():
        return {}
    return _Training(plan).run()


class _Training:
    """A model, its environment, a judge and a board, and the state that ties them to a step."""

    def __init__(self, plan: Plan) -> None:
        self.plan, self.total = plan, plan.settings.n_timesteps
        self.scenario = get_scenario(plan.scenario)
        settings = plan.settings
        self.actions: ActionMap = action_map(settings.action, **settings.action_settings)
        self.eval_freq = plan.eval_freq or max(1, self.total // 10)
        self.save_freq = plan.save_freq or self.eval_freq
        checkpoint = plan.folder.checkpoint(plan.seed)
        if plan.resume and checkpoint.exists():
            state = _checkpoint.load(checkpoint, plan.device)
            self.env, self.progress = state["env"], state["more"]["progress"]
            self.model = self._build(state["more"]["statistics"])
            self.statistics = state["more"]["statistics"]
            _checkpoint.put_back(state, self.model)
        else:
            vector = ClusterVectorEnv(
                settings.n_envs, self.scenario, action=self.actions, loads=settings.loads,
                episode_intervals=settings.episode_intervals, start_spread=settings.start_spread, engine=plan.engine,
            )  # fmt: skip
            self.env, self.progress = ClusterVecEnv(vector, plan.seed, settings.reward_share), Progress()
            self.statistics = measured(self.env, plan.seed) if settings.standardise else None
            self.model = self._build(self.statistics)
            if plan.start_from is not None:
                _take_over(self.model, plan.start_from)
        loads = [self.scenario.sample_load("validation", seed) for seed in range(plan.eval_episodes)]
        self.judge = Judge(self.scenario, self.actions, loads, plan.engine)
        self.board = self._board()
        self.began, self.first = time.perf_counter(), int(self.model.num_timesteps)

    def run(self) -> dict[str, Any]:
        """Learn to the end and save what was best."""
        self._listen()
        left = self.total - self.model.num_timesteps
        if left > 0:
            self.model.learn(left, callback=_Boundary(self.at_boundary), log_interval=None, reset_num_timesteps=False)
        self._evaluate()
        folder = self.plan.folder
        place = folder.training(self.plan.seed)
        place.mkdir(parents=True, exist_ok=True)
        curve = {"seed": self.plan.seed, "algo": self.plan.algo, "points": self.progress.curve}
        write_json(place / "curve.json", curve)
        self._save_model(folder.model(self.plan.seed))
        self._save_policy()
        self.board.end(self.plan.settings.model_dump(), self.progress.best_scalars)
        # The policy is the result; a checkpoint holds the replay buffer and every cluster, tens of megabytes.
        folder.checkpoint(self.plan.seed).unlink(missing_ok=True)
        return curve

    def at_boundary(self) -> None:
        """Between two rollouts: nothing is half done, so this is where a training can be cut and taken up again."""
        steps, progress = int(self.model.num_timesteps), self.progress
        if steps >= progress.next_log:
            progress.next_log = steps + max(1, self.total // LOGS)
            self._log()
        if steps >= progress.next_eval:
            progress.next_eval = steps + self.eval_freq
            self._evaluate()
        if steps >= progress.next_save and steps > 0:
            progress.next_save = steps + self.save_freq
            self._checkpoint()

    def _evaluate(self) -> None:
        steps, progress = int(self.model.num_timesteps), self.progress
        network = NETWORK[self.plan.algo](self.model, self.plan.settings)
        verdict = self.judge.judge(network)
        progress.words = verdict.words()
        progress.curve.append(self._point(steps, verdict))
        self.board.verdict(verdict, steps)
        # An untrained network may stand still, which a validation load that begins with the right fleet rewards.
        learnt = steps > 0 or self.plan.start_from is not None
        if learnt and verdict.reward > progress.best_reward:
            progress.best, progress.best_reward = network, verdict.reward
            progress.best_scalars, progress.best_steps = verdict.scalars, steps
        self._tell(steps)

    def _point(self, steps: int, verdict: Verdict) -> dict[str, float]:
        return {
            "steps": steps,
            "seconds": round(self._seconds(), 3),
            "reward": verdict.reward,
            "usd_per_hour": verdict.usd_per_hour,
            "attainment": verdict.attainment,
        }

    def _log(self) -> None:
        """What happened since the last time: Stable-Baselines3's own numbers, and the environment's."""
        steps = int(self.model.num_timesteps)
        found = self.env.drain()
        if found:
            for name, value in found.items():
                self.model.logger.record(name, value)
        if steps > self.first:
            self.model.dump_logs()
        self._tell(steps)

    def _tell(self, steps: int) -> None:
        fps = (steps - self.first) / max(1e-9, time.perf_counter() - self.began)
        self.plan.report(self.plan.seed, steps, fps, self.progress.words)

    def _seconds(self) -> float:
        """Of training, evaluations included, over all sessions of it."""
        return float(self.progress.trained_s + time.perf_counter() - self.began)

    def _checkpoint(self) -> None:
        path = self.plan.folder.checkpoint(self.plan.seed)
        path.parent.mkdir(parents=True, exist_ok=True)
        began, self.progress.trained_s = self.progress.trained_s, self._seconds()
        _checkpoint.save(path, self.model, self.env, {"progress": self.progress, "statistics": self.statistics})
        self.progress.trained_s = began

    def _build(self, statistics: Any) -> Any:
        plan = self.plan
        return BUILD[plan.algo](self.env, plan.settings, self.actions, plan.seed, plan.device, statistics)

    def _board(self) -> Board:
        plan = self.plan
        root = plan.tensorboard or plan.folder.path / "tensorboard"
        config = {"algo": plan.algo, "scenario": self.scenario.name, "scenario_hash": self.scenario.hash,
                  "seed": plan.seed, **plan.settings.model_dump()}  # fmt: skip
        track = None
        if plan.track is not None:
            name = f"{plan.track['group']}-seed-{plan.seed}"
            track = tracked(plan.folder.path / "wandb", name=name, config=config, **plan.track)
        board = Board(root / f"seed-{plan.seed}", int(self.model.num_timesteps), track)
        board.begin(config)
        return board

    def _listen(self) -> None:
        """Stable-Baselines3's logger writes to the board."""
        from stable_baselines3.common.logger import KVWriter, Logger

        board = self.board

        class ToBoard(KVWriter):
            def write(self, key_values: dict[str, Any], key_excluded: dict[str, Any], step: int = 0) -> None:
                shown = {
                    name: float(value)
                    for name, value in key_values.items()
                    if isinstance(value, int | float) and "tensorboard" not in (key_excluded[name] or ())
                }
                board.scalars(shown, step)

            def close(self) -> None:
                """The board is closed at the end of the training."""

        self.model.set_logger(Logger(None, [ToBoard()]))

    def _save_model(self, path: Path) -> None:
        """For Stable-Baselines3; complete or not there."""
        partial = path.with_name(".model.partial.zip")
        try:
            self.model.save(partial)
            partial.replace(path)
        finally:
            partial.unlink(missing_ok=True)

    def _save_policy(self) -> None:
        plan, progress, scenario = self.plan, self.progress, self.scenario
        assert progress.best is not None
        about = {
            "algo": plan.algo,
            "seed": plan.seed,
            "steps": progress.best_steps,
            "trained_steps": int(self.model.num_timesteps),
            "train_s": round(self._seconds(), 1),
            "scenario": scenario.name,
            "scenario_hash": scenario.hash,
            "settings": plan.settings.model_dump(mode="json"),
            "validation": progress.best_scalars,
            "engine": plan.engine,
            "started_from": None if plan.start_from is None else str(plan.start_from),
            "versions": {name: _version(name) for name in VERSIONS},
            STATISTICS: fit_statistics(scenario, progress.best, self.actions).to_json(),
        }
        target = plan.folder.policy(plan.seed)
        shutil.rmtree(target.with_name(f".{target.name}.partial"), ignore_errors=True)
        save_policy(target, progress.best, self.actions, len(scenario.cluster.pools), scenario.cluster.interval_s,
                    about, scenario.limits)  # fmt: skip


def _take_over(model: Any, path: Path) -> None:
    """Networks, optimiser and standardisation of an earlier model; only tensors are read of the archive."""
    try:
        model.set_parameters(path, device=model.device)
    except (ValueError, RuntimeError, KeyError, OSError) as error:
        raise PolicyError(f"{path} does not fit this training: {str(error).splitlines()[0]}") from None


class _Boundary(BaseCallback):
    """Calls `act` between rollouts."""

    def __init__(self, act: Callable[[], None]) -> None:
        super().__init__()
        self.act = act

    def _on_step(self) -> bool:
        return True

    def _on_rollout_start(self) -> None:
        self.act()


def _version(name: str) -> str:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return "unknown"
