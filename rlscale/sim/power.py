"""Energy of a pool over a sub-step, its carbon and its price."""

from __future__ import annotations

import math

from rlscale.sim.luck import kernel


@kernel
def consume(now_s, c, q, spec, pool_spec, d, grid):
    """Energy of a sub-step: hosts, GPUs without a replica, replicas by what they do; its carbon and its price."""
    h = spec.substep_s
    gpus = pool_spec.gpus_per_replica
    watts = q.nodes_up * (pool_spec.host_w + pool_spec.gpus_per_node * pool_spec.idle_w)
    loaded = pool_spec.loaded_idle_w - pool_spec.idle_w
    if q.ready > 0:
        b = max(0.0, q.running + q.drift) / q.ready + q.extra
        if pool_spec.batching:
            # Decode power rises about as the logarithm of the batch between 8 and 256 sequences (ML.ENERGY, H100).
            level = min(max(math.log2(max(b, 1.0) / 8.0) / 5.0, 0.0), 1.0)
            decode = pool_spec.decode_low_w + level * (pool_spec.decode_high_w - pool_spec.decode_low_w)
            pass_s = d.c0 + d.c * b
            prompts = min(max(1.0 - pass_s / q.iteration_s, 0.0), 1.0) if q.iteration_s > 0.0 else 0.0
            working = decode + prompts * (pool_spec.prefill_w - decode)
            busy = min(b, 1.0)
        else:
            working = pool_spec.decode_high_w
            busy = min(q.running / (q.ready * d.seats), 1.0)
        watts += q.ready * gpus * (loaded + busy * (working - pool_spec.loaded_idle_w))
    watts += q.draining * gpus * loaded
    energy_j = watts * h
    hour = int((c.week_s + now_s) / 3600.0) % grid.shape[0]
    kwh = energy_j * spec.pue / 3.6e6
    q.energy_j += energy_j
    q.carbon_g += kwh * grid[hour, 0]
    q.energy_usd += kwh * grid[hour, 1]
