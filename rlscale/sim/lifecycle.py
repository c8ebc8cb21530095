"""What happens to replicas over time: scaling in and out, start-ups, drains, failures, supply. Knows no requests.

Scaling in cancels the youngest replica that is not ready yet, then drains replicas on the emptiest node. All changes
take effect at the start of a sub-step. Scalar functions over the records of one cluster; `number` is a pool, and so the
first index of `pools`, `nodes` and `slots`.
"""

from __future__ import annotations

from rlscale.sim import luck
from rlscale.sim.luck import kernel
from rlscale.sim.node import NEVER, go_through, log_event, next_event, node_comes_up, node_goes, taken_on
from rlscale.sim.nodes import free_slot, notice, order_replica, strike_node
from rlscale.sim.records import (
    ABSENT,
    AWAITS_NODE,
    DRAINING,
    FREE,
    LOADING,
    NO_STANDBY,
    NOTICED,
    ORDERED,
    READY,
    REPLICA_DRAINS,
    REPLICA_FAILED,
    REPLICA_READY,
    STANDBY,
    STOPPED,
    STOPS,
    UP,
    WAITING,
)  # fmt: skip
from rlscale.sim.standby import cancel_youngest, fill, lay_down, short_of_standby, wake
from rlscale.sim.supply import SPOT
from rlscale.sim.supply import UP as ZONE_UP


@kernel
def start_with(pool, nodes, slots, pool_spec, replicas, standby):
    """The fleet at t = 0: `replicas` ready on warm nodes, filled one after the other, and `standby` behind them."""
    per_node = pool_spec.slots_per_node
    stops = pool_spec.standby == STOPS
    for i in range(slots.shape[0]):
        slots[i].state = READY if i < replicas else (STANDBY if i < replicas + standby else FREE)
    for i in range(nodes.shape[0]):
        up = i * per_node < replicas + (0 if stops else standby)
        asleep = stops and not up and i * per_node < replicas + standby
        nodes[i].state = UP if up else (STOPPED if asleep else ABSENT)
        nodes[i].warm = 1 if up or asleep else 0
        nodes[i].until_s = NEVER
        pool.nodes_up += 1 if up else 0
        pool.nodes_stopped += 1 if asleep else 0
    pool.ready = replicas
    pool.wanted = replicas
    pool.target = replicas
    pool.standby = standby
    pool.standby_wanted = standby
    pool.nodes_billed = pool.nodes_up
    pool.next_event_s = NEVER
    pool.last_add_s = -NEVER


@kernel
def start_rows(rows, seeds, loads, cells, initial, standby, week_s, state, cluster, pool, node, slot, pool_scrape, held,
               spec, pool_spec, supply):  # fmt: skip
    """Clear all `state` of the rows; set their luck, load, first cell and first moment of the week, (k,) each, and
    their fleets, (k, P)."""
    for i in range(rows.shape[0]):
        r = rows[i]
        for words in state:
            words[r, :] = 0
        cluster[r].seed = seeds[i]
        cluster[r].load = loads[i]
        cluster[r].cell = cells[i]
        cluster[r].week_s = week_s[i]
        cluster[r].supply_cell = int(luck.uniform(seeds[i], luck.SUPPLY, 0, 0, 0) * spec[0].supply_starts)
        cluster[r].supply_step = spec[0].supply_steps
        for p in range(initial.shape[1]):
            start_with(pool[r, p], node[r, p], slot[r, p], pool_spec[p], initial[i, p], standby[p])
            pool[r, p].supply = supply[p, cluster[r].supply_cell]
            pool_scrape[r, p].ready = initial[i, p]
            held[r, p, :] = initial[i, p]


@kernel
def scale_in(now_s, number, pools, nodes, slots, spec, pool_specs, events):
    """Fewer replicas where there are more than the target; returns how many ready ones began to drain."""
    pool = pools[number]
    while pool.ready + pool.pending > pool.target and pool.pending > 0:
        cancel_youngest(now_s, 0, number, pools, nodes, slots, spec, pool_specs, events)
    drained = 0
    while pool.ready + pool.pending > pool.target:
        _drain_one(now_s, number, pool, slots[number], spec, pool_specs[number], events)
        drained += 1
    pool.next_event_s = next_event(nodes[number], slots[number])
    return drained


@kernel
def scale_out(now_s, seed, interval, number, pools, nodes, slots, spec, pool_specs, events):
    """More replicas where there are fewer than the target: standby is woken first, and refilled after."""
    pool = pools[number]
    k = 0
    while pool.ready + pool.pending < pool.target:
        if not wake(now_s, seed, interval, k, number, pool, nodes[number], slots[number], spec, pool_specs[number],
                     events) and not order_replica(now_s, seed, interval, k, 0, number, pools, nodes, slots, spec,
                                            pool_specs, events):  # fmt: skip
            break  # no record free until draining replicas are gone; tried again at the next interval
        k += 1
    if pool_specs[number].standby != NO_STANDBY:
        fill(now_s, seed, interval, k, number, pools, nodes, slots, spec, pool_specs, events)
    pool.next_event_s = next_event(nodes[number], slots[number])


@kernel
def advance(now_s, number, pools, nodes, slots, spec, pool_specs, events):
    """Let everything happen that was due by `now_s`; returns draining replicas whose grace is over."""
    pool, pool_spec = pools[number], pool_specs[number]
    own, places = nodes[number], slots[number]
    expired = 0
    for i in range(own.shape[0]):
        node = own[i]
        if node.until_s > now_s:
            continue
        if node.state == ORDERED:
            node_comes_up(now_s, i, number, pool, own, places, spec, pool_spec, events)
        elif node.state == UP:
            if now_s < pool.last_add_s + spec.node_delay_after_add_s:
                node.until_s = pool.last_add_s + spec.node_delay_after_add_s
            else:
                node_goes(now_s, i, number, pool, own, spec, events)
        elif node.state == NOTICED:
            _, killed = strike_node(now_s, i, number, pools, nodes, slots, spec, pool_specs, events)
            expired += killed
    for i in range(places.shape[0]):
        slot = places[i]
        if slot.until_s > now_s:
            continue
        if slot.state == LOADING:
            own[i // pool_spec.slots_per_node].warm = 1
            if slot.sleeps:
                pool.preparing -= 1
                lay_down(now_s, i, number, pool, own, slot, spec, pool_spec, events)
            else:
                slot.state = READY
                slot.until_s = NEVER
                pool.ready += 1
                pool.pending -= 1
                log_event(events, spec, now_s, REPLICA_READY, number, i)
        elif slot.state == DRAINING:
            expired += 1
            free_slot(now_s, i, number, pools, nodes, slots, spec, pool_specs, events)
    pool.next_event_s = next_event(own, places)
    return expired


@kernel
def drained_all(now_s, number, pools, nodes, slots, spec, pool_specs, events):
    """Every draining replica has finished its requests."""
    for i in range(slots.shape[1]):
        if slots[number, i].state == DRAINING:
            drained(now_s, i, number, pools, nodes, slots, spec, pool_specs, events)
    pools[number].next_event_s = next_event(nodes[number], slots[number])


@kernel
def drained(now_s, i, number, pools, nodes, slots, spec, pool_specs, events):
    """A draining replica has finished its requests: it goes, or lies down where standby is short."""
    pool, pool_spec = pools[number], pool_specs[number]
    if short_of_standby(pool, pool_spec) and nodes[number, i // pool_spec.slots_per_node].state == UP:
        pool.draining -= 1
        lay_down(now_s, i, number, pool, nodes[number], slots[number, i], spec, pool_spec, events)
    else:
        free_slot(now_s, i, number, pools, nodes, slots, spec, pool_specs, events)


@kernel
def pending_by_age(now_s, pool, slots, edges_s, out):
    """Count replicas that are not ready by seconds since their order; (edges + 1,)."""
    out[:] = 0.0
    left = pool.pending
    for i in range(slots.shape[0]):
        if left == 0:
            break
        if (slots[i].state == AWAITS_NODE or slots[i].state == LOADING) and not slots[i].sleeps:
            k = 0
            while k < edges_s.shape[0] and now_s - slots[i].ordered_s >= edges_s[k]:
                k += 1
            out[k] += 1.0
            left -= 1


@kernel
def strike_replica(now_s, i, number, pools, nodes, slots, spec, pool_specs, events):
    """A replica dies if the slot is taken; returns whether it was ready, and whether it was draining, as 0 or 1."""
    state = slots[number, i].state
    if state in (FREE, AWAITS_NODE):
        return 0, 0
    pools[number].failed += 1.0
    log_event(events, spec, now_s, REPLICA_FAILED, number, i)
    free_slot(now_s, i, number, pools, nodes, slots, spec, pool_specs, events)
    pools[number].next_event_s = next_event(nodes[number], slots[number])
    return (1 if state == READY else 0), (1 if state == DRAINING else 0)


@kernel
def supply_changes(now_s, code, number, pools, nodes, slots, spec, pool_specs, events):
    """The supply of a pool has another code; returns ready replicas that died, draining ones that died, and ready ones
    that began to drain."""
    pool, pool_spec = pools[number], pool_specs[number]
    before = pool.supply
    pool.supply = code
    died = draining_died = drained = 0
    zone_fails = before & ZONE_UP != 0 and code & ZONE_UP == 0
    noticed = pool_spec.spot and before & SPOT != 0 and code & SPOT == 0
    opens = code & pool_spec.needs == pool_spec.needs
    for home in range(nodes.shape[1]):
        node = nodes[number, home]
        if (zone_fails or noticed) and node.state == ORDERED:
            node.state = WAITING
            node.until_s = NEVER
            if spec.bill_from_order:
                pool.nodes_billed -= 1
        elif zone_fails:
            a, b = strike_node(now_s, home, number, pools, nodes, slots, spec, pool_specs, events)
            died += a
            draining_died += b
        elif noticed and node.state == UP:
            drained += notice(now_s, home, number, pools, nodes, slots, spec, pool_specs, events)
        elif opens and node.state == WAITING:
            go_through(now_s, node, pool, spec)
    pool.next_event_s = next_event(nodes[number], slots[number])
    return died, draining_died, drained


@kernel
def _drain_one(now_s, number, pool, slots, spec, pool_spec, events):
    chosen = -1
    emptiest = 1 << 30
    for i in range(slots.shape[0] - 1, -1, -1):
        if slots[i].state == READY:
            occupied = taken_on(i // pool_spec.slots_per_node, slots, pool_spec)
            if occupied < emptiest:
                chosen = i
                emptiest = occupied
    slots[chosen].state = DRAINING
    slots[chosen].until_s = now_s + spec.drain_s
    pool.ready -= 1
    pool.draining += 1
    log_event(events, spec, now_s, REPLICA_DRAINS, number, chosen)
