"""A pool of a scenario YAML: nodes, replicas, start-ups, standby; and what makes it impossible."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

from pydantic import Field, model_validator

from rlscale.errors import ScenarioError
from rlscale.sim.partitions import part_of
from rlscale.sim.profiles import node_type, service_profile
from rlscale.sim.records import STAGES
from rlscale.strict import Closed
from rlscale.types import DelayLaw, NodeType, Pool, Role


class _Delay(Closed):
    median_s: float = Field(gt=0)
    p95_s: float = Field(gt=0, description="equal to the median: always the same")

    @model_validator(mode="after")
    def _ordered(self) -> _Delay:
        if self.p95_s < self.median_s:
            raise ValueError(f"p95_s={self.p95_s:g} is below median_s={self.median_s:g}; swap them")
        return self

    def build(self) -> DelayLaw:
        return DelayLaw(self.median_s, self.p95_s)


class PoolEntry(Closed):
    """An entry of `pools`."""

    name: str = Field(min_length=1)
    node: str
    profile: str = Field(description="name of a built-in service profile, or a file of your own ending in .yaml")
    min_replicas: int = Field(1, ge=0)
    max_replicas: int = Field(ge=1, le=4096)
    spot: bool = False
    zone: str = "a"
    usd_per_gpu_hour: float | None = Field(None, ge=0, description="instead of the profile's price, USD")
    provisioning: _Delay | None = Field(None, description="order to node up, instead of the profile's")
    cold_start: _Delay | list[_Delay] | None = Field(None, description="node up to replica ready, one law or stages")
    warm_start: _Delay | list[_Delay] | None = Field(None, description="the same on a node that has run it before")
    partition: str | None = Field(None, description="a hardware partition of each GPU, such as 3g.40gb")
    family: str = Field("", description="pools of one family hand their nodes to each other")
    role: Role = Field("both", description="which part of a request its replicas do")
    standby: Literal["none", "stopped", "sleeping"] = "none"
    standby_replicas: int = Field(0, ge=0, description="kept in standby unless the scaler says otherwise")
    max_standby: int = Field(0, ge=0, le=4096)

    @model_validator(mode="after")
    def _ordered(self) -> PoolEntry:
        if self.min_replicas > self.max_replicas:
            raise ValueError(f"min_replicas={self.min_replicas} is above max_replicas={self.max_replicas}; swap them")
        if self.standby_replicas > self.max_standby:
            raise ValueError(f"standby_replicas={self.standby_replicas} is above max_standby={self.max_standby}")
        if self.max_standby > 0 and self.standby == "none":
            raise ValueError(f"max_standby={self.max_standby} without a kind of standby; choose stopped or sleeping")
        return self

    def build(self, folder: Path = Path()) -> Pool:
        """The pool, or why there cannot be one; a profile that is a file is looked for in `folder`."""
        node, profile = node_type(self.node), service_profile(self.profile, folder)
        if self.partition is not None:
            profile = part_of(profile, node, self.partition)
        if profile.gpu not in ("any", node.gpu):
            raise ScenarioError(f"profile '{profile.name}' runs on {profile.gpu}; node '{node.name}' has {node.gpu}")
        if profile.gpus_per_replica > node.gpus:
            raise ScenarioError(
                f"profile '{profile.name}' needs {profile.gpus_per_replica} GPUs per replica; "
                f"node '{node.name}' has {node.gpus}"
            )
        if self.usd_per_gpu_hour is not None:
            price = self.usd_per_gpu_hour
            node = replace(node, spot_usd_per_gpu_hour=price) if self.spot else replace(node, usd_per_gpu_hour=price)
        if self.provisioning is not None:
            node = replace(node, provisioning=self.provisioning.build())
        profile = replace(profile, **_starts("cold", self.cold_start), **_starts("warm", self.warm_start))
        pool = Pool(
            self.name, node, profile, self.min_replicas, self.max_replicas, self.spot, self.zone, self.standby,
            self.standby_replicas, self.max_standby, self.family, self.role,
        )  # fmt: skip
        _check_room(pool)
        _check_standby(pool)
        if pool.role != "both" and not profile.batching:
            raise ScenarioError(
                f"pool '{pool.name}': role '{pool.role}' for '{profile.name}', which serves one request at a time and "
                "has no prompt apart from its answer; leave the role out, or choose the profile of a language model"
            )
        return pool


def _starts(name: str, given: _Delay | list[_Delay] | None) -> dict[str, Any]:
    """Fields of a profile that a pool's own start-up replaces."""
    if given is None:
        return {}
    if isinstance(given, _Delay):
        return {f"{name}_start": given.build(), f"{name}_stages": ()}
    if not 1 <= len(given) <= STAGES:
        raise ScenarioError(f"{name}_start has {len(given)} stages; expected 1 to {STAGES}")
    return {f"{name}_stages": tuple(stage.build() for stage in given)}


def _check_room(pool: Pool) -> None:
    node, profile = pool.node, pool.profile
    if pool.slots_per_node < 1:
        raise ScenarioError(
            f"pool '{pool.name}': no replica of '{profile.name}' fits on a node '{node.name}' ({node.gpus} GPUs, "
            f"{node.cpus:g} CPUs, {node.memory_gib:g} GiB); it needs {profile.gpus_per_replica} GPUs, "
            f"{profile.cpus_per_replica:g} CPUs and {profile.memory_gib_per_replica:g} GiB"
        )


def _check_standby(pool: Pool) -> None:
    """A kind of standby needs a node that can do it, and a stopped node holds one replica."""
    node: NodeType = pool.node
    wake = {"none": None, "stopped": node.wake_stopped, "sleeping": node.wake_sleeping}
    if pool.standby != "none" and wake[pool.standby] is None:
        kinds = [kind for kind, law in wake.items() if law is not None]
        raise ScenarioError(
            f"pool '{pool.name}': replicas on a node '{node.name}' cannot stand by {pool.standby}; it can do "
            f"{' and '.join(kinds) or 'none'}"
        )
    if pool.standby == "stopped" and (pool.slots_per_node > 1 or pool.spot):
        why = "is a spot pool" if pool.spot else f"has {pool.slots_per_node} replicas on a node"
        raise ScenarioError(
            f"pool '{pool.name}' {why}; standby 'stopped' switches off whole nodes that are kept for you, use "
            "'sleeping' or a node type of one replica on demand"
        )
