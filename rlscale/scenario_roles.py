"""Pools that do one part of a request: what a scenario with prefill and decode pools must have."""

from __future__ import annotations

from rlscale.errors import ScenarioError
from rlscale.types import Pool, Role

# 400 Gb/s, the line rate of an NDR InfiniBand port (NVIDIA ConnectX-7 data sheet). KV caches of long prompts are large
# enough to fill it: 131 072 bytes per token of Llama-3.1-8B make 2.6 us.
LINK_BYTES_PER_S = 50e9


def check_roles(pools: tuple[Pool, ...], transfer_given: bool) -> None:
    """Either every pool does both, or there are prefill and decode pools of one model and no others."""
    by_role: dict[Role, list[Pool]] = {"both": [], "prefill": [], "decode": []}
    for pool in pools:
        by_role[pool.role].append(pool)
    prefill, decode, both = by_role["prefill"], by_role["decode"], by_role["both"]
    if not prefill and not decode:
        if transfer_given:
            raise ScenarioError(
                "transfer: no pool has a role; give pools `role: prefill` and `role: decode`, or remove it"
            )
        return
    for have, lack, name in ((prefill, decode, "decode"), (decode, prefill, "prefill")):
        if have and not lack:
            raise ScenarioError(
                f"pools: '{have[0].name}' has role {have[0].role}, and there is no pool of role {name}; add one"
            )
    if both:
        raise ScenarioError(
            f"pools: '{both[0].name}' does both and '{prefill[0].name}' has role prefill; give every pool of the "
            "service a role, or none"
        )
    models = list(dict.fromkeys(pool.profile.model for pool in pools))
    if len(models) > 1:
        raise ScenarioError(
            f"pools: prefill and decode pools run {' and '.join(models)}; a KV cache is of use to its own model only"
        )
