"""One node and its slots: coming up, going, what is on it, what is due. Knows no pools but its own."""

from __future__ import annotations

from rlscale.sim.luck import kernel
from rlscale.sim.records import (
    ABSENT,
    AWAITS_NODE,
    DRAINING,
    FREE,
    LOADING,
    NODE_GONE,
    NODE_UP,
    ORDERED,
    STOPPED,
    UP,
    WAITING,
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
def node_comes_up(now_s, home, number, pool, nodes, slots, spec, pool_spec, events):
    """A node is there: what waited for it begins to load."""
    node = nodes[home]
    node.state = UP
    node.until_s = NEVER
    pool.nodes_up += 1
    pool.last_add_s = now_s
    if not spec.bill_from_order:
        pool.nodes_billed += 1
    log_event(events, spec, now_s, NODE_UP, number, home)
    for i in range(home * pool_spec.slots_per_node, (home + 1) * pool_spec.slots_per_node):
        if slots[i].state == AWAITS_NODE:
            slots[i].state = LOADING
            slots[i].until_s = now_s + (slots[i].warm_s if node.warm else slots[i].cold_s)


@kernel
def node_goes(now_s, home, number, pool, nodes, spec, events):
    """A node that is up or stopped is given back, or taken."""
    if nodes[home].state == STOPPED:
        pool.nodes_stopped -= 1
    else:
        pool.nodes_up -= 1
        pool.nodes_billed -= 1
    nodes[home].state = ABSENT
    nodes[home].heir = 0
    nodes[home].until_s = NEVER
    log_event(events, spec, now_s, NODE_GONE, number, home)


@kernel
def go_through(now_s, node, pool, spec):
    """An order gets its node; the clock of its provisioning starts."""
    node.state = ORDERED
    node.until_s = now_s + node.delay_s
    if spec.bill_from_order:
        pool.nodes_billed += 1


@kernel
def place(now_s, node, pool, spec, pool_spec):
    """An order goes through, or waits for the supply."""
    node.state = WAITING
    node.until_s = NEVER
    if pool.supply & pool_spec.needs == pool_spec.needs:
        go_through(now_s, node, pool, spec)


@kernel
def taken_on(home, slots, pool_spec):
    """Replicas on a node, in whatever state."""
    count = 0
    for i in range(home * pool_spec.slots_per_node, (home + 1) * pool_spec.slots_per_node):
        if slots[i].state != FREE:
            count += 1
    return count


@kernel
def staying(home, slots, pool_spec):
    """Replicas of a node that are not draining; -1 for a node without any replica."""
    staying, taken = 0, 0
    for i in range(home * pool_spec.slots_per_node, (home + 1) * pool_spec.slots_per_node):
        if slots[i].state != FREE:
            taken += 1
            if slots[i].state != DRAINING:
                staying += 1
    return staying if taken > 0 else -1


@kernel
def next_event(nodes, slots):
    """When something is due next."""
    soonest = NEVER
    for i in range(nodes.shape[0]):
        if nodes[i].state != ABSENT and nodes[i].until_s < soonest:
            soonest = nodes[i].until_s
    for i in range(slots.shape[0]):
        if (slots[i].state == LOADING or slots[i].state == DRAINING) and slots[i].until_s < soonest:
            soonest = slots[i].until_s
    return soonest
