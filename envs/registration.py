"""Gymnasium ids, such as `rlscale/Chat-v0`, of the built-in scenarios. Entry points are strings, so specs serialise."""

from __future__ import annotations

import gymnasium

# An id's number rises with every change of its dynamics or reward; 0 unless named here.
VERSIONS = {"chat-mixed": 1}  # 1: requests go to the pool with the fewest per replica


def env_id(scenario: str) -> str:
    """`chat-a100` -> `rlscale/Chat-A100-v0`."""
    return f"rlscale/{'-'.join(part.capitalize() for part in scenario.split('-'))}-v{VERSIONS.get(scenario, 0)}"


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
