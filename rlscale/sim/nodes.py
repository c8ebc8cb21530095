"""Nodes and what is on them: ordered, up, handed over, noticed, stopped, gone. Knows no requests and no prices.

A replica goes to the fullest node with a free slot, else a node of its family is taken over, else one is ordered; the
order waits while the supply is interrupted. A node without replicas is given back after `node_idle_s`. Scalar functions
over the records of one cluster; `number` is a pool, and so the first index of `pools`, `nodes` and `slots`.
"""

from __future__ import annotations

from rlscale.sim import luck
from rlscale.sim.luck import kernel
from rlscale.sim.node import NEVER, log_event, next_event, node_comes_up, node_goes, place, staying, taken_on
from rlscale.sim.records import (
    ABSENT,
    AWAITS_NODE,
    DRAINING,
    FREE,
    LOADING,
    NODE_GONE,
    NODE_NOTICED,
    NODE_ORDERED,
    NOTICED,
    ORDERED,
    PROMISED,
    READY,
    REPLICA_DRAINS,
    REPLICA_GONE,
    REPLICA_ORDERED,
    STANDBY,
    STOPPED,
    UP,
    WAITING,
)  # fmt: skip

STAGE = 1 << 20  # what sets the luck of the stages of one start apart
POOL = 1 << 32  # of a donor's number: pool and node in one integer


@kernel
def free_slot(now_s, i, number, pools, nodes, slots, spec, pool_specs, events):
    """A replica is gone; an emptied node waits to be given back, or is cancelled if it never came up."""
    pool, pool_spec, slot = pools[number], pool_specs[number], slots[number, i]
    if slot.state == DRAINING:
        pool.draining -= 1
    elif slot.state == STANDBY:
        pool.standby -= 1
    elif slot.state == READY:
        pool.ready -= 1
    elif slot.sleeps:
        pool.preparing -= 1
    else:
        pool.pending -= 1
    slot.state = FREE
    slot.sleeps = 0
    slot.until_s = NEVER
    log_event(events, spec, now_s, REPLICA_GONE, number, i)
    home = i // pool_spec.slots_per_node
    if taken_on(home, slots[number], pool_spec) == 0:
        _node_empties(now_s, home, number, pools, nodes, slots, spec, pool_specs, events)


@kernel
def strike_node(now_s, home, number, pools, nodes, slots, spec, pool_specs, events):
    """A node goes with all that is on it; returns ready and draining replicas that died."""
    pool, pool_spec, node = pools[number], pool_specs[number], nodes[number, home]
    ready = draining = 0
    if node.state != UP and node.state != NOTICED and node.state != STOPPED:
        return ready, draining
    promised, failed = node.heir, node.state != NOTICED
    if node.state == UP:
        node.state = NOTICED  # an emptied node that is up would be kept, or handed over
    for i in range(home * pool_spec.slots_per_node, (home + 1) * pool_spec.slots_per_node):
        state = slots[number, i].state
        if state != FREE:
            ready += 1 if state == READY else 0
            draining += 1 if state == DRAINING else 0
            if failed:
                pool.failed += 1.0
            free_slot(now_s, i, number, pools, nodes, slots, spec, pool_specs, events)
    if node.state != ABSENT:
        node_goes(now_s, home, number, pool, nodes[number], spec, events)
    if promised:
        _disinherit(now_s, home, number, pools, nodes, slots, spec, pool_specs)
    pool.next_event_s = next_event(nodes[number], slots[number])
    return ready, draining


@kernel
def notice(now_s, home, number, pools, nodes, slots, spec, pool_specs, events):
    """A spot node will be taken: what starts on it is cancelled, what serves drains; returns how many began to."""
    pool, pool_spec, node = pools[number], pool_specs[number], nodes[number, home]
    node.state = NOTICED
    node.until_s = now_s + pool_spec.notice_s
    if node.heir:
        _disinherit(now_s, home, number, pools, nodes, slots, spec, pool_specs)
    log_event(events, spec, now_s, NODE_NOTICED, number, home)
    drained = 0
    for i in range(home * pool_spec.slots_per_node, (home + 1) * pool_spec.slots_per_node):
        slot = slots[number, i]
        if slot.state == READY:
            slot.state = DRAINING
            slot.until_s = now_s + pool_spec.notice_s
            pool.ready -= 1
            pool.draining += 1
            pool.preempted += 1.0
            log_event(events, spec, now_s, REPLICA_DRAINS, number, i)
            drained += 1
        elif slot.state != FREE and slot.state != DRAINING:
            pool.preempted += 1.0
            free_slot(now_s, i, number, pools, nodes, slots, spec, pool_specs, events)
    return drained


@kernel
def _node_empties(now_s, home, number, pools, nodes, slots, spec, pool_specs, events):
    """Nothing is on the node any more."""
    pool, node = pools[number], nodes[number, home]
    if node.state in (ORDERED, WAITING, PROMISED):
        if node.state == ORDERED and spec.bill_from_order:
            pool.nodes_billed -= 1
        node.state = ABSENT
        node.until_s = NEVER
        log_event(events, spec, now_s, NODE_GONE, number, home)
    elif node.state == UP:
        node.until_s = now_s + spec.node_idle_s
        if pool_specs[number].family >= 0:
            _hand_over(now_s, home, number, pools, nodes, slots, spec, pool_specs, events)
    elif node.state == STOPPED:
        node_goes(now_s, home, number, pool, nodes[number], spec, events)


@kernel
def _hand_over(now_s, home, number, pools, nodes, slots, spec, pool_specs, events):
    """Give an emptied node to the pool of the family that it was promised to."""
    for other in range(nodes.shape[0]):
        if other == number or pool_specs[other].family != pool_specs[number].family:
            continue
        for i in range(nodes.shape[1]):
            heir = nodes[other, i]
            if heir.state == PROMISED and heir.donor == number * POOL + home:
                _take_over(now_s, home, number, i, other, pools, nodes, slots, spec, pool_specs, events)
                return


@kernel
def _take_over(now_s, home, number, i, other, pools, nodes, slots, spec, pool_specs, events):
    """Node `home` of pool `number`, empty and up, becomes node `i` of pool `other`: the disk keeps the weights."""
    node_goes(now_s, home, number, pools[number], nodes[number], spec, events)
    nodes[other, i].warm = 1
    if spec.bill_from_order:
        pools[other].nodes_billed += 1
    node_comes_up(now_s, i, other, pools[other], nodes[other], slots[other], spec, pool_specs[other], events)
    pools[other].next_event_s = next_event(nodes[other], slots[other])


@kernel
def _disinherit(now_s, home, number, pools, nodes, slots, spec, pool_specs):
    """The promised node will never be handed over: its heir orders one of its own."""
    nodes[number, home].heir = 0
    for other in range(nodes.shape[0]):
        for i in range(nodes.shape[1]):
            heir = nodes[other, i]
            if heir.state == PROMISED and heir.donor == number * POOL + home:
                place(now_s, heir, pools[other], spec, pool_specs[other])
                pools[other].next_event_s = next_event(nodes[other], slots[other])


@kernel
def order_replica(now_s, seed, interval, k, sleeps, number, pools, nodes, slots, spec, pool_specs, events):
    """One more replica of a pool, on its way to service or (`sleeps`) to standby; False when no record is free."""
    pool, pool_spec, own = pools[number], pool_specs[number], nodes[number]
    home = _fullest(own, slots[number], pool_spec)
    if home < 0:
        home = _absent(own, pool_spec)
        if home < 0:
            return False
        _order_node(now_s, seed, interval, k, home, number, pools, nodes, slots, spec, pool_specs, events)
    for i in range(home * pool_spec.slots_per_node, (home + 1) * pool_spec.slots_per_node):
        slot = slots[number, i]
        if slot.state == FREE:
            slot.ordered_s = now_s
            slot.cold_s = _start_s(seed, number, k, interval, pool_spec.cold_stages, pool_spec.cold_median_s,
                                   pool_spec.cold_sigma)  # fmt: skip
            slot.warm_s = _start_s(seed, number, k, interval, pool_spec.warm_stages, pool_spec.warm_median_s,
                                   pool_spec.warm_sigma)  # fmt: skip
            slot.sleeps = sleeps
            if own[home].state == UP:
                own[home].until_s = NEVER
                slot.state = LOADING
                slot.until_s = now_s + (slot.warm_s if own[home].warm else slot.cold_s)
            else:
                slot.state = AWAITS_NODE
                slot.until_s = NEVER
            if sleeps:
                pool.preparing += 1
            else:
                pool.pending += 1
            pool.started += 1.0
            log_event(events, spec, now_s, REPLICA_ORDERED, number, i)
            return True
    return False


@kernel
def _order_node(now_s, seed, interval, k, home, number, pools, nodes, slots, spec, pool_specs, events):
    """A node for the record `home`: from the family if one of its pools can do without it, else a new one."""
    pool, pool_spec, node = pools[number], pool_specs[number], nodes[number, home]
    z = luck.normal_quantile(luck.uniform(seed, luck.NODE_START, number, k, interval))
    node.warm = 0
    node.heir = 0
    node.since_s = now_s
    node.delay_s = luck.delay(pool_spec.node_median_s, pool_spec.node_sigma, z)
    log_event(events, spec, now_s, NODE_ORDERED, number, home)
    if pool_spec.family >= 0:
        for other in range(nodes.shape[0]):
            if other != number and pool_specs[other].family == pool_spec.family:
                for i in range(nodes.shape[1]):
                    if nodes[other, i].state == UP and not nodes[other, i].heir:
                        left = staying(i, slots[other], pool_specs[other])
                        if left < 0:
                            _take_over(now_s, i, other, home, number, pools, nodes, slots, spec, pool_specs, events)
                            return
                        if left == 0:
                            node.state = PROMISED
                            node.until_s = NEVER
                            node.donor = other * POOL + i
                            nodes[other, i].heir = 1
                            return
    place(now_s, node, pool, spec, pool_spec)


@kernel
def _fullest(nodes, slots, pool_spec):
    """The fullest node with a free slot, -1 if there is none."""
    home = fullest = -1
    for i in range(nodes.shape[0]):
        node = nodes[i]
        if (node.state == UP and not node.heir) or node.state in (ORDERED, WAITING, PROMISED):
            occupied = taken_on(i, slots, pool_spec)
            # Of two equally full nodes the one that is up wins: a replica starts there sooner.
            rank = 2 * occupied + (1 if node.state == UP else 0)
            if occupied < pool_spec.slots_per_node and rank > fullest:
                home = i
                fullest = rank
    return home


@kernel
def _absent(nodes, pool_spec):
    for i in range(pool_spec.nodes):  # the array is as long as the longest pool needs
        if nodes[i].state == ABSENT:
            return i
    return -1


@kernel
def _start_s(seed, number, k, interval, stages, median_s, sigma):
    """A start is its stages one after the other, each with a draw of its own."""
    total = 0.0
    for stage in range(stages):
        z = luck.normal_quantile(luck.uniform(seed, luck.REPLICA_START, number, k + stage * STAGE, interval))
        total += luck.delay(median_s[stage], sigma[stage], z)
    return total
