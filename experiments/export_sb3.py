"""A Stable-Baselines3 archive becomes a policy folder. Loading one runs the pickles in it: only on explicit trust."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from experiments.run_folder import RUN, RunFolder
from rlscale.errors import PolicyError, ResultError
from rlscale.policy_folder import policy_files

REFUSED = ("Stable-Baselines3 archives hold pickles, and reading one runs whatever is in it; if it is your own, add "
           "--trust-pickle to `--format folder`")  # fmt: skip


def files(path: Path, algo: str | None, action: str | None, scenario_name: str | None) -> dict[str, bytes]:
    """The files of a policy folder. Algorithm, action map and scenario are those of the training that the archive lies
    in, unless they are given."""
    from agents import _dqn, _ppo
    from agents._hyperparameters import settings_for
    from envs import get_scenario
    from rlscale.actions import action_map

    asked = _training(path)
    algo = algo or asked.get("algo")
    name = scenario_name or asked.get("scenario")
    if algo is None or name is None:
        raise PolicyError(
            f"{path}: lies in no training folder; say --algo and --scenario, and --action if not headroom"
        )
    settings: dict[str, Any] = asked.get("settings", {})
    scenario = get_scenario(name)
    actions = action_map(action or settings.get("action", "headroom"), **settings.get("action_settings", {}))
    changes = {key: settings[key] for key in ("activation",) if key in settings}
    module: Any = {"ppo": _ppo, "dqn": _dqn}[algo]
    try:
        model = module.load(path)
    except Exception as error:  # whatever the pickles raise
        raise PolicyError(f"{path}: cannot be read as {algo} ({type(error).__name__}: {str(error)[:200]})") from None
    found = module.network(model, settings_for(algo, scenario.name, None, changes))
    about = {"algo": algo, "scenario": scenario.name, "scenario_hash": scenario.hash, "settings": settings,
             "trained_steps": int(model.num_timesteps), "exported": {"from_archive": path.name}}  # fmt: skip
    return policy_files(
        found, actions, len(scenario.cluster.pools), scenario.cluster.interval_s, about, scenario.limits
    )


def _training(path: Path) -> dict[str, Any]:
    """What the training was asked for whose model.zip this is; nothing for other archives."""
    resolved = path.resolve()
    if len(resolved.parents) < 3 or not (resolved.parents[2] / RUN).exists():
        return {}
    try:
        return RunFolder(resolved.parents[2]).asked()
    except ResultError:
        return {}
