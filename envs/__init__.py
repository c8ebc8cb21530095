"""Gymnasium face of the simulator, and the built-in scenarios."""

from __future__ import annotations

import re
from pathlib import Path

from envs.registration import env_id, register_all
from rlscale.errors import ScenarioError, nearest
from rlscale.scenario import Scenario, load_scenario

_FOLDER = Path(__file__).resolve().parent / "scenarios"


def scenario_names() -> list[str]:
    """Names of the built-in scenarios."""
    return sorted(path.stem for path in _FOLDER.glob("*.yaml"))


def scenario_path(name: str) -> Path:
    """File of a scenario: a path as it is, a built-in name, `rlscale/Name-v0` or `Name`."""
    if name.endswith((".yaml", ".yml")) or "\\" in name or Path(name).is_file():
        return Path(name)
    plain, _, version = re.fullmatch(r"(?:rlscale/)?(.*?)(-v(\d+))?", name.lower().replace("_", "-")).groups()  # type: ignore[union-attr]
    if plain in scenario_names():
        if version is not None and env_id(plain) != f"{env_id(plain).rpartition('-v')[0]}-v{version}":
            raise ScenarioError(f"'{name}' had other dynamics and is gone; use {env_id(plain)}")
        return _FOLDER / f"{plain}.yaml"
    raise ScenarioError(f"unknown scenario '{name}'; {nearest(plain, scenario_names())}")


def get_scenario(name: str) -> Scenario:
    """A scenario by name or path."""
    return load_scenario(scenario_path(name))


register_all(scenario_names())
