"""Nodes and replicas: ordered, up, loading, ready, draining, gone. Knows no requests and no prices.

A replica takes a slot. It goes to the fullest node with a free slot, else a node is ordered. Scaling in cancels the
youngest replica that is not ready yet, then drains replicas on the emptiest node; a node without replicas is given
back after `node_idle_s`. All changes take effect at the start of a sub-step. Scalar functions over the records of
one pool of one cluster.
"""

from __future__ import annotations

from rlscale.sim import luck
from rlscale.sim.luck import kernel
from rlscale.sim.records import (
    ABSENT,
    AWAITS_NODE,
    DRAINING,
    FREE,
    LOADING,
    NODE_GONE,
    NODE_ORDERED,
    NODE_UP,
    ORDERED,
    READY,
    REPLICA_GONE,
    REPLICA_ORDERED,
    REPLICA_READY,
    UP,
)  # fmt: skip

NEVER = 1e18


@kernel
def log_event(events, spec, t_s, kind, pool_number, number):
    """Append to the event log of the cluster; row 0 holds the count."""
    if spec.log_events:
        n = int(events[0, 0]) + 1
        if n < events.shape[0]:
            events[0, 0] = n
            events[n, 0] = t_s
            events[n, 1] = kind
            events[n, 2] = pool_number
            events[n, 3] = number


@kernel
def start_with(pool, nodes, slots, pool_spec, replicas):
    """The fleet at t = 0: `replicas` ready on warm nodes, filled one after the other."""
    per_node = pool_spec.slots_per_node
    for i in range(slots.shape[0]):
        slots[i].state = READY if i < replicas else FREE
    for i in range(nodes.shape[0]):
        up = i * per_node < replicas
        nodes[i].state = UP if up else ABSENT
        nodes[i].warm = 1 if up else 0
        nodes[i].until_s = NEVER
    pool.ready = replicas
    pool.wanted = replicas
    pool.target = replicas
    pool.nodes_up = -(-replicas // per_node)
    pool.nodes_billed = pool.nodes_up
    pool.next_event_s = NEVER


@kernel
def start_rows(rows, seeds, loads, cells, initial, state, cluster, pool, node, slot, pool_scrape, pool_spec):
    """Clear all `state` of the rows; set their luck, load and first cell, (k,) each, and their fleets, (k, P)."""
    for i in range(rows.shape[0]):
        r = rows[i]
        for words in state:
            words[r, :] = 0
        cluster[r].seed = seeds[i]
        cluster[r].load = loads[i]
        cluster[r].cell = cells[i]
        for p in range(initial.shape[1]):
            start_with(pool[r, p], node[r, p], slot[r, p], pool_spec[p], initial[i, p])
            pool_scrape[r, p].ready = initial[i, p]


@kernel
def apply_target(now_s, seed, interval, number, pool, nodes, slots, spec, pool_spec, events):
    """Move ready + pending towards the target; returns how many ready replicas began to drain."""
    drained = 0
    have = pool.ready + pool.pending
    k = 0
    while have < pool.target:
        if not _order(now_s, seed, interval, k, number, pool, nodes, slots, spec, pool_spec, events):
            break  # no record free until draining replicas are gone; tried again at the next interval
        have += 1
        k += 1
    while have > pool.target and pool.pending > 0:
        _cancel_youngest(now_s, number, pool, nodes, slots, spec, pool_spec, events)
        have -= 1
    while have > pool.target:
        _drain_one(now_s, pool, slots, spec, pool_spec)
        drained += 1
        have -= 1
    pool.next_event_s = _next_event(nodes, slots)
    return drained


@kernel
def advance(now_s, number, pool, nodes, slots, spec, pool_spec, events):
    """Let everything happen that was due by `now_s`; returns draining replicas whose grace is over."""
    for i in range(nodes.shape[0]):
        node = nodes[i]
        if node.state == ORDERED and node.until_s <= now_s:
            _node_comes_up(now_s, i, number, pool, nodes, slots, spec, pool_spec, events)
        elif node.state == UP and node.until_s <= now_s:
            _node_goes(now_s, i, number, pool, nodes, spec, events)
    expired = 0
    for i in range(slots.shape[0]):
        slot = slots[i]
        if slot.state == LOADING and slot.until_s <= now_s:
            slot.state = READY
            slot.until_s = NEVER
            nodes[i // pool_spec.slots_per_node].warm = 1
            pool.ready += 1
            pool.pending -= 1
            log_event(events, spec, now_s, REPLICA_READY, number, i)
        elif slot.state == DRAINING and slot.until_s <= now_s:
            expired += 1
            free_slot(now_s, i, number, pool, nodes, slots, spec, pool_spec, events)
    pool.next_event_s = _next_event(nodes, slots)
    return expired


@kernel
def drained_all(now_s, number, pool, nodes, slots, spec, pool_spec, events):
    """Every draining replica has finished its requests: all of them go."""
    for i in range(slots.shape[0]):
        if slots[i].state == DRAINING:
            free_slot(now_s, i, number, pool, nodes, slots, spec, pool_spec, events)
    pool.next_event_s = _next_event(nodes, slots)


@kernel
def pending_by_age(now_s, pool, slots, edges_s, out):
    """Count replicas that are not ready by seconds since their order; (edges + 1,)."""
    out[:] = 0.0
    left = pool.pending
    for i in range(slots.shape[0]):
        if left == 0:
            break
        if slots[i].state == AWAITS_NODE or slots[i].state == LOADING:
            k = 0
            while k < edges_s.shape[0] and now_s - slots[i].ordered_s >= edges_s[k]:
                k += 1
            out[k] += 1.0
            left -= 1


@kernel
def free_slot(now_s, i, number, pool, nodes, slots, spec, pool_spec, events):
    """A replica is gone; an emptied node waits to be given back, or is cancelled if it never came up."""
    state = slots[i].state
    slots[i].state = FREE
    slots[i].until_s = NEVER
    if state == DRAINING:
        pool.draining -= 1
    else:
        pool.pending -= 1
    log_event(events, spec, now_s, REPLICA_GONE, number, i)
    home = i // pool_spec.slots_per_node
    if _occupied(home, slots, pool_spec) > 0:
        return
    if nodes[home].state == ORDERED:
        if spec.bill_from_order:
            pool.nodes_billed -= 1
        nodes[home].state = ABSENT
        log_event(events, spec, now_s, NODE_GONE, number, home)
    else:
        nodes[home].until_s = now_s + spec.node_idle_s


@kernel
def _order(now_s, seed, interval, k, number, pool, nodes, slots, spec, pool_spec, events):
    per_node = pool_spec.slots_per_node
    home = -1
    fullest = -1
    for i in range(nodes.shape[0]):
        if nodes[i].state != ABSENT:
            occupied = _occupied(i, slots, pool_spec)
            # Of two equally full nodes the one that is up wins: a replica starts there sooner.
            rank = 2 * occupied + (1 if nodes[i].state == UP else 0)
            if occupied < per_node and rank > fullest:
                home = i
                fullest = rank
    if home < 0:
        for i in range(nodes.shape[0]):
            if nodes[i].state == ABSENT:
                home = i
                break
        if home < 0:
            return False
        z = luck.normal_quantile(luck.uniform(seed, luck.NODE_START, number, k, interval))
        nodes[home].state = ORDERED
        nodes[home].warm = 0
        nodes[home].since_s = now_s
        nodes[home].until_s = now_s + luck.delay(pool_spec.node_median_s, pool_spec.node_sigma, z)
        if spec.bill_from_order:
            pool.nodes_billed += 1
        log_event(events, spec, now_s, NODE_ORDERED, number, home)
    for i in range(home * per_node, (home + 1) * per_node):
        if slots[i].state == FREE:
            slot = slots[i]
            slot.ordered_s = now_s
            slot.luck = luck.normal_quantile(luck.uniform(seed, luck.REPLICA_START, number, k, interval))
            if nodes[home].state == UP:
                nodes[home].until_s = NEVER
                slot.state = LOADING
                slot.until_s = now_s + _load_s(nodes[home].warm, slot.luck, pool_spec)
            else:
                slot.state = AWAITS_NODE
                slot.until_s = NEVER
            pool.pending += 1
            pool.started += 1.0
            log_event(events, spec, now_s, REPLICA_ORDERED, number, i)
            return True
    return False


@kernel
def _load_s(warm, z, pool_spec):
    if warm:
        return luck.delay(pool_spec.warm_median_s, pool_spec.warm_sigma, z)
    return luck.delay(pool_spec.cold_median_s, pool_spec.cold_sigma, z)


@kernel
def _cancel_youngest(now_s, number, pool, nodes, slots, spec, pool_spec, events):
    youngest = -1
    for i in range(slots.shape[0]):
        state = slots[i].state
        starting = state in (AWAITS_NODE, LOADING)
        if starting and (youngest < 0 or slots[i].ordered_s >= slots[youngest].ordered_s):
            youngest = i
    free_slot(now_s, youngest, number, pool, nodes, slots, spec, pool_spec, events)


@kernel
def _drain_one(now_s, pool, slots, spec, pool_spec):
    chosen = -1
    emptiest = 1 << 30
    for i in range(slots.shape[0] - 1, -1, -1):
        if slots[i].state == READY:
            occupied = _occupied(i // pool_spec.slots_per_node, slots, pool_spec)
            if occupied < emptiest:
                chosen = i
                emptiest = occupied
    slots[chosen].state = DRAINING
    slots[chosen].until_s = now_s + spec.drain_s
    pool.ready -= 1
    pool.draining += 1


@kernel
def _node_comes_up(now_s, home, number, pool, nodes, slots, spec, pool_spec, events):
    node = nodes[home]
    node.state = UP
    node.until_s = NEVER
    pool.nodes_up += 1
    if not spec.bill_from_order:
        pool.nodes_billed += 1
    log_event(events, spec, now_s, NODE_UP, number, home)
    for i in range(home * pool_spec.slots_per_node, (home + 1) * pool_spec.slots_per_node):
        if slots[i].state == AWAITS_NODE:
            slots[i].state = LOADING
            slots[i].until_s = now_s + _load_s(node.warm, slots[i].luck, pool_spec)


@kernel
def _node_goes(now_s, home, number, pool, nodes, spec, events):
    nodes[home].state = ABSENT
    nodes[home].until_s = NEVER
    pool.nodes_up -= 1
    pool.nodes_billed -= 1
    log_event(events, spec, now_s, NODE_GONE, number, home)


@kernel
def _occupied(home, slots, pool_spec):
    count = 0
    for i in range(home * pool_spec.slots_per_node, (home + 1) * pool_spec.slots_per_node):
        if slots[i].state != FREE:
            count += 1
    return count


@kernel
def _next_event(nodes, slots):
    soonest = NEVER
    for i in range(nodes.shape[0]):
        if nodes[i].state != ABSENT and nodes[i].until_s < soonest:
            soonest = nodes[i].until_s
    for i in range(slots.shape[0]):
        if (slots[i].state == LOADING or slots[i].state == DRAINING) and slots[i].until_s < soonest:
            soonest = slots[i].until_s
    return soonest
