"""Deferrable work: sequences that fill what replicas have left, and what is late of them."""

from __future__ import annotations

from rlscale.sim.luck import kernel
from rlscale.sim.records import PREFILL


@kernel
def take_work(frozen, c, pools, spec, pool_spec, kind, demands, work):
    """Fill the replicas with deferrable sequences as long as a decode pass stays short enough; count what is late."""
    begun = work[c.cell - 1] if c.cell > 0 else 0.0
    at = min(c.cell + c.step, work.shape[0] - 1)
    c.work_come = work[at] - begun
    left = 0.0 if frozen else max(0.0, c.work_come - c.work)
    due = max(0.0, work[max(0, at - spec.deadline_steps)] - begun) if at >= spec.deadline_steps else 0.0
    if due > c.work_due:
        c.work_late += max(0.0, due - max(c.work, c.work_due))
        c.work_due = due
    for p in range(pools.shape[0]):
        q, d = pools[p], demands[kind, p]
        q.extra = 0.0
        if q.ready > 0 and left > 0.0 and pool_spec[p].batching and pool_spec[p].role != PREFILL:
            b = q.running / q.ready
            room = min((spec.work_pass_s - d.c0) / d.c, d.seats) - b
            passes = spec.substep_s / max(q.iteration_s, d.c0)
            q.extra = max(0.0, min(room, left / (q.ready * passes)))
            left -= q.extra * q.ready * passes
