"""What is counted of a fleet, whichever engine serves its requests: replica-seconds, bills, energy, and scrapes."""

from __future__ import annotations

from rlscale.sim.luck import inlined, kernel
from rlscale.sim.power import consume


@inlined
def keep_books(now_s, c, pools, spec, pool_spec, demands, kind, grid):
    """The books of a sub-step, by the fleet there was in it."""
    h = spec.substep_s
    for p in range(pools.shape[0]):
        q = pools[p]
        q.ready_s += h * q.ready
        q.pending_s += h * q.pending
        q.draining_s += h * q.draining
        q.node_s += h * q.nodes_billed
        if pool_spec[p].standby:
            q.standby_s += h * q.standby
            q.stopped_s += h * q.nodes_stopped
        if spec.energy:
            consume(now_s, c, q, spec, pool_spec[p], demands[kind, p], grid[p])


@kernel
def scrape_fleet(c, pools, scrape, pool_scrape, spec):
    """What a metrics server would read at this instant, the KV memory excepted."""
    scrape.t_s = c.step * spec.substep_s
    scrape.arrived = c.arrived
    scrape.admitted = c.admitted
    scrape.finished = c.finished
    scrape.dropped = c.dropped
    scrape.lost = c.lost
    scrape.missed = c.missed
    scrape.ttft_sum_s = c.ttft_sum_s
    scrape.tpot_sum_s = c.tpot_sum_s
    scrape.tpot_count = c.tpot_count
    scrape.output_tokens = c.output_tokens
    scrape.total_tokens = c.total_tokens
    scrape.churn = c.churn
    scrape.waiting = max(0.0, c.queued - c.left)
    scrape.decode_waiting = max(0.0, c.passed - c.joined)
    running = 0.0
    for p in range(pools.shape[0]):
        running += pools[p].running
        pool_scrape[p].ready = pools[p].ready
        pool_scrape[p].running = pools[p].running
    scrape.running = running
