"""What an export starts from: a checked policy, its scenario and the limits of its cluster."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rlscale.actions import ActionMap
from rlscale.errors import PolicyError
from rlscale.manifest import SEAL, actions_of
from rlscale.network import Network
from rlscale.policy import Policy
from rlscale.policy_folder import load_policy, read_model
from rlscale.scenario import Scenario
from rlscale.types import ScalingLimits

FROM = ("algo", "scenario", "scenario_hash")


@dataclass(frozen=True)
class Source:
    """A policy folder, verified, and where it is to serve."""

    path: Path
    manifest: dict[str, Any]
    network: Network
    actions: ActionMap
    scenario: Scenario
    known: ScalingLimits

    def policy(self) -> Policy:
        """The policy as a fresh scaler."""
        return load_policy(self.path, self.known)

    def about(self) -> dict[str, Any]:
        """What an export's manifest says of where it comes from."""
        named: dict[str, Any] = {key: self.manifest[key] for key in FROM if key in self.manifest}
        return {**named, "exported": {"from_manifest_sha256": self.manifest[SEAL]}}


def read_source(path: Path, scenario_name: str | None) -> Source:
    """A policy folder for the scenario it was trained on, or for another one with as many pools."""
    from envs import get_scenario

    manifest, network, where = read_model(path)
    if not isinstance(network, Network):
        raise PolicyError(f"{where}: is an export itself; export from the policy folder it was made of")
    name = scenario_name or manifest.get("scenario")
    if not isinstance(name, str):
        raise PolicyError(f"{where}: does not say on which scenario it was trained; give --scenario")
    scenario = get_scenario(name)
    source = Source(path, manifest, network, actions_of(manifest, where), scenario, scenario.limits)
    source.policy()  # refused here where it does not fit the scenario
    return source
