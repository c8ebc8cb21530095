"""What a changing fleet does to the requests on it: targets in force, replicas that drain, replicas that die.

Between the life cycle, which knows no requests, and the fluid, which knows no nodes. Scalar code over the records of
one cluster.
"""

from __future__ import annotations

from rlscale.sim import lifecycle, luck
from rlscale.sim.histogram import INF_BIN, bin_of
from rlscale.sim.luck import kernel
from rlscale.sim.nodes import strike_node
from rlscale.sim.records import ADMITTED, PREFILL, TTFT_OK
from rlscale.sim.tables import CLASSES, EACH


@kernel
def apply_targets(now_s, c, pools, nodes, slots, cells, classes, spec, pool_spec, events, held):
    """Put the wanted targets in force: first the pools that shrink, whose nodes others of the family may take over."""
    for p in range(pools.shape[0]):
        q = pools[p]
        wanted = _actuated(q, held[p], c.interval, spec)
        c.churn += abs(wanted - q.target)
        q.target = wanted
        if q.ready + q.pending > q.target:
            before = q.ready
            drained = lifecycle.scale_in(now_s, p, pools, nodes, slots, spec, pool_spec, events)
            if drained > 0 and pool_spec[p].role != PREFILL:  # prompts are through before a replica could be missed
                _move_to_draining(drained / before, p, c, q, cells, classes)
    for p in range(pools.shape[0]):
        q = pools[p]
        if q.ready + q.pending < q.target or pool_spec[p].standby:
            lifecycle.scale_out(now_s, c.seed, c.interval, p, pools, nodes, slots, spec, pool_spec, events)


@kernel
def _actuated(q, held, interval, spec):
    """What Kubernetes' HPA makes of a wanted target: its tolerance, and its patience before a decrease."""
    wanted = q.wanted
    if spec.tolerance > 0.0 and q.target > 0 and abs(1.0 - wanted / q.target) <= spec.tolerance:
        wanted = q.target
    held[interval % held.shape[0]] = wanted
    if wanted < q.target and held.shape[0] > 1:
        wanted = min(q.target, held.max())
    return wanted


@kernel
def change_supply(now_s, c, pools, nodes, slots, cells, classes, hist, spec, pool_spec, events, supply):
    """Another cell of the supply has begun."""
    c.supply_step += spec.supply_steps
    at = (c.supply_cell + c.step // spec.supply_steps) % supply.shape[1]
    for p in range(pools.shape[0]):
        q = pools[p]
        if supply[p, at] != q.supply:
            ready, draining = q.ready, q.draining
            died, draining_died, drained = lifecycle.supply_changes(
                now_s, supply[p, at], p, pools, nodes, slots, spec, pool_spec, events
            )
            _bury(died, ready, draining_died, draining, p, c, q, cells, classes, hist, spec, pool_spec[p])
            if drained > 0 and pool_spec[p].role != PREFILL:
                _move_to_draining(drained / ready, p, c, q, cells, classes)


@kernel
def fail(now_s, c, pools, nodes, slots, cells, classes, hist, spec, pool_spec, events):
    """Failures of this interval. They belong to records of slots and nodes, and strike what is there."""
    for p in range(pools.shape[0]):
        for kind in range(2):
            stream = luck.NODE_FAILS if kind == 0 else luck.REPLICA_FAILS
            mean = pool_spec[p].node_fails if kind == 0 else pool_spec[p].replica_fails
            count = int(luck.poisson(mean, luck.uniform(c.seed, stream, p, 0, c.interval)))
            for k in range(count):
                u = luck.uniform(c.seed, stream, p, k + 1, c.interval)
                q = pools[p]
                ready, draining = q.ready, q.draining
                if kind == 0:
                    died, draining_died = strike_node(
                        now_s, int(u * pool_spec[p].nodes), p, pools, nodes, slots, spec, pool_spec, events
                    )
                else:
                    place = int(u * pool_spec[p].nodes * pool_spec[p].slots_per_node)
                    died, draining_died = lifecycle.strike_replica(
                        now_s, place, p, pools, nodes, slots, spec, pool_spec, events
                    )
                _bury(died, ready, draining_died, draining, p, c, q, cells, classes, hist, spec, pool_spec[p])


@kernel
def drain(now_s, p, c, pools, nodes, slots, hist, spec, pool_spec, d, events):
    """Draining replicas finish their sequences without new prompts; they go when nothing is left."""
    q = pools[p]
    if q.drain_running > 0.0:
        b = q.drain_running / q.draining
        stay = d.no * (d.c0 + d.c * b) if pool_spec[p].batching else d.w
        left = q.drain_running * stay / (stay + spec.substep_s)
        if left < 0.5 * q.draining:
            left = 0.0
        _finish_draining(q.drain_running - left, c, q, hist, spec, pool_spec[p], d)
        q.drain_running = left
    if q.drain_running == 0.0:
        lifecycle.drained_all(now_s, p, pools, nodes, slots, spec, pool_spec, events)


@kernel
def _finish_draining(done, c, q, hist, spec, pool_spec, d):
    tpot = d.c0 + d.c * q.drain_running / q.draining
    c.finished += done
    if not pool_spec.batching:
        return
    c.missed += done * (1.0 - (q.drain_ok if tpot <= spec.tpot_s else 0.0))
    c.tpot_sum_s += done * tpot
    c.tpot_count += done
    c.output_tokens += done * (d.no + d.first)
    c.total_tokens += done * (d.no + d.first + d.ni)
    hist[1, bin_of(tpot)] += done
    hist[2, bin_of(max(d.no * tpot, 1e-3))] += done


@kernel
def lose_draining(expired, c, q, hist, spec):
    """The grace of `expired` draining replicas is over: what they still held is lost, or starts again."""
    if expired > 0 and q.drain_running > 0.0:
        gone = q.drain_running * expired / (q.draining + expired)
        q.drain_running -= gone
        _go(gone, c, hist, spec)


@kernel
def _bury(died, ready, draining_died, draining, p, c, q, cells, classes, hist, spec, pool_spec):
    """Of so many ready and draining replicas some have died: so have their running requests."""
    if died > 0:
        share = died / ready
        if pool_spec.role != PREFILL:
            _thin_cells(share, c.step, cells[p], classes[p])
        _go(share * q.running, c, hist, spec)
        q.running *= 1.0 - share
        q.drift *= 1.0 - share
    if draining_died > 0:
        gone = q.drain_running * draining_died / draining
        q.drain_running -= gone
        _go(gone, c, hist, spec)


@kernel
def _go(gone, c, hist, spec):
    """Running requests whose replica has died: into the queue again, or lost."""
    if spec.requeue:
        c.queued += gone
    else:
        c.lost += gone
        c.missed += gone
        hist[1:, INF_BIN] += gone


@kernel
def _move_to_draining(share, p, c, q, cells, classes):
    """The sequences of replicas that begin to drain leave the ready ones with them."""
    moved_ok = _thin_cells(share, c.step, cells[p], classes[p])
    moved = share * q.running
    if moved > 0.0:
        q.drain_ok = (q.drain_ok * q.drain_running + moved_ok) / (q.drain_running + moved)
        q.drain_running += moved
    q.running -= moved
    q.drift *= 1.0 - share


@kernel
def _thin_cells(share, step, cells, classes):
    """Take `share` of every unfinished request out of the cells; returns the taken ones whose TTFT met the SLO."""
    mask = cells.shape[0] - 1
    taken_ok = 0.0
    oldest = step
    for j in range(CLASSES):
        at = int(classes[j, 0])
        oldest = min(oldest, at)
        for i in range(at, step):
            cell = cells[i & mask]
            left = (1.0 - classes[j, 1]) if i == at else 1.0
            taken_ok += share * left * cell[ADMITTED] * cell[TTFT_OK] * EACH
    for i in range(oldest, step):
        cells[i & mask, ADMITTED] *= 1.0 - share
    return taken_ok
