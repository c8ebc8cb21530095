"""Gymnasium ids: `rlscale/<Scenario>-v0` for every built-in scenario. Entry points are strings, so specs serialise."""

from __future__ import annotations

import gymnasium

VERSION = 0  # rises with every change of dynamics or reward


def env_id(scenario: str) -> str:
    """`chat-a100` -> `rlscale/Chat-A100-v0`."""
    return f"rlscale/{'-'.join(part.capitalize() for part in scenario.split('-'))}-v{VERSION}"


def register_all(scenarios: list[str]) -> None:
    """Register every scenario once; importing `envs` twice changes nothing."""
    for scenario in scenarios:
        if env_id(scenario) not in gymnasium.registry:
            gymnasium.register(
                env_id(scenario),
                entry_point="envs.cluster_env:ClusterEnv",
                vector_entry_point="envs.vector:ClusterVectorEnv",
                kwargs={"scenario": scenario},
                disable_env_checker=True,
            )
