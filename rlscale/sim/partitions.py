"""Hardware partitions of a GPU: a replica gets a share of the compute and of the memory, and restarts to change it."""

from __future__ import annotations

from dataclasses import dataclass, replace

from rlscale.errors import ScenarioError, nearest
from rlscale.sim.laws import kv_capacity_tokens
from rlscale.types import NodeType, ServiceProfile


@dataclass(frozen=True, slots=True)
class Partition:
    """Shares of one GPU, 0 to 1, and how many of its kind fit on it."""

    compute: float
    memory: float  # capacity and bandwidth alike
    per_gpu: int


# NVIDIA's MIG profiles of an 80 GB GPU: compute slices of seven, memory slices of eight.
PARTITIONS = {
    "1g.10gb": Partition(1 / 7, 1 / 8, 7),
    "2g.20gb": Partition(2 / 7, 2 / 8, 3),
    "3g.40gb": Partition(3 / 7, 4 / 8, 2),
    "4g.40gb": Partition(4 / 7, 4 / 8, 1),
    "7g.80gb": Partition(1.0, 1.0, 1),
}
RESERVE_GB = 2.5  # per GPU beside weights and KV cache, and here per partition


def part_of(profile: ServiceProfile, node: NodeType, name: str) -> ServiceProfile:
    """The same model on a partition: what reads memory slows down with its bandwidth, the rest with its compute.

    An estimate, scaled from the whole GPU and not measured. Refused when the weights leave no room for a KV cache.
    """
    if name not in PARTITIONS:
        raise ScenarioError(f"unknown partition '{name}'; {nearest(name, PARTITIONS)}")
    if profile.gpus_per_replica != 1 or profile.weights_gb <= 0.0:
        raise ScenarioError(
            f"profile '{profile.name}' cannot be put on a partition: it needs one GPU per replica and known weights"
        )
    part, law = PARTITIONS[name], profile.law
    room = kv_capacity_tokens(
        part.memory * node.gpu_memory_gib, 1, profile.weights_gb, RESERVE_GB, profile.kv_bytes_per_token
    )
    if room < 1.0:
        raise ScenarioError(
            f"partition '{name}' of {node.gpu} has {part.memory * node.gpu_memory_gib:g} GiB; '{profile.name}' has "
            f"{profile.weights_gb:g} GB of weights and does not fit; choose a larger partition or a smaller model"
        )
    return replace(
        profile,
        name=f"{profile.name}@{name}",
        law=replace(
            law,
            c0_s=law.c0_s / part.memory,
            c1_s=law.c1_s / part.compute,
            c2_s=law.c2_s / part.compute,
            c3_s=law.c3_s / part.memory,
            c4_s=law.c4_s / part.compute,
        ),
        kv_capacity_tokens=room,
        gpu_share=1.0 / part.per_gpu,
    )
