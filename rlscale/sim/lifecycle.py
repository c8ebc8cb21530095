"""Nodes and replicas: ordered, up, loading, ready, draining, asleep, gone. Knows no requests and no prices.

A replica takes a slot. It goes to the fullest node with a free slot, else a node of its family is taken over, else one
is ordered; the order waits while the supply is interrupted. Scaling in cancels the youngest replica that is not ready
yet, then drains replicas on the emptiest node; a node without replicas is given back after `node_idle_s`. Replicas in
standby are woken first and refilled after. All changes take effect at the start of a sub-step. Scalar functions over
the records of one cluster; `number` is a pool, and so the first index of `pools`, `nodes` and `slots`.
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
    NO_STANDBY,
    NODE_GONE,
    NODE_NOTICED,
    NODE_ORDERED,
    NODE_STOPPED,
    NODE_UP,
    NOTICED,
    ORDERED,
    PROMISED,
    READY,
    REPLICA_FAILED,
    REPLICA_GONE,
    REPLICA_ORDERED,
    REPLICA_READY,
    REPLICA_SLEEPS,
    STANDBY,
    STOPPED,
    STOPS,
    UP,
    WAITING,
)  # fmt: skip
from rlscale.sim.supply import SPOT
from rlscale.sim.supply import UP as ZONE_UP

NEVER = 1e18
STAGE = 1 << 20  # what sets the luck of the stages of one start apart
POOL = 1 << 32  # of a donor's number: pool and node in one integer


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
        _cancel_youngest(now_s, 0, number, pools, nodes, slots, spec, pool_specs, events)
    drained = 0
    while pool.ready + pool.pending > pool.target:
        _drain_one(now_s, pool, slots[number], spec, pool_specs[number])
        drained += 1
    pool.next_event_s = _next_event(nodes[number], slots[number])
    return drained


@kernel
def scale_out(now_s, seed, interval, number, pools, nodes, slots, spec, pool_specs, events):
    """More replicas where there are fewer than the target: standby is woken first, and refilled after."""
    pool = pools[number]
    k = 0
    while pool.ready + pool.pending < pool.target:
        if not _wake(now_s, seed, interval, k, number, pool, nodes[number], slots[number], spec, pool_specs[number],
                     events) and not _order(now_s, seed, interval, k, 0, number, pools, nodes, slots, spec,
                                            pool_specs, events):  # fmt: skip
            break  # no record free until draining replicas are gone; tried again at the next interval
        k += 1
    if pool_specs[number].standby != NO_STANDBY:
        _fill_standby(now_s, seed, interval, k, number, pools, nodes, slots, spec, pool_specs, events)
    pool.next_event_s = _next_event(nodes[number], slots[number])


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
            _node_comes_up(now_s, i, number, pool, own, places, spec, pool_spec, events)
        elif node.state == UP:
            if now_s < pool.last_add_s + spec.node_delay_after_add_s:
                node.until_s = pool.last_add_s + spec.node_delay_after_add_s
            else:
                _node_goes(now_s, i, number, pool, own, spec, events)
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
                _lay_down(now_s, i, number, pool, own, slot, spec, pool_spec, events)
            else:
                slot.state = READY
                slot.until_s = NEVER
                pool.ready += 1
                pool.pending -= 1
                log_event(events, spec, now_s, REPLICA_READY, number, i)
        elif slot.state == DRAINING:
            expired += 1
            free_slot(now_s, i, number, pools, nodes, slots, spec, pool_specs, events)
    pool.next_event_s = _next_event(own, places)
    return expired


@kernel
def drained_all(now_s, number, pools, nodes, slots, spec, pool_specs, events):
    """Every draining replica has finished its requests: all of them go, or lie down where standby is short."""
    pool, pool_spec = pools[number], pool_specs[number]
    for i in range(slots.shape[1]):
        slot = slots[number, i]
        if slot.state == DRAINING:
            if _short_of_standby(pool, pool_spec) and nodes[number, i // pool_spec.slots_per_node].state == UP:
                pool.draining -= 1
                _lay_down(now_s, i, number, pool, nodes[number], slot, spec, pool_spec, events)
            else:
                free_slot(now_s, i, number, pools, nodes, slots, spec, pool_specs, events)
    pool.next_event_s = _next_event(nodes[number], slots[number])


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
    if _occupied(home, slots[number], pool_spec) == 0:
        _node_empties(now_s, home, number, pools, nodes, slots, spec, pool_specs, events)


@kernel
def strike_replica(now_s, i, number, pools, nodes, slots, spec, pool_specs, events):
    """A replica dies if the slot is taken; returns whether it was ready, and whether it was draining, as 0 or 1."""
    state = slots[number, i].state
    if state in (FREE, AWAITS_NODE):
        return 0, 0
    pools[number].failed += 1.0
    log_event(events, spec, now_s, REPLICA_FAILED, number, i)
    free_slot(now_s, i, number, pools, nodes, slots, spec, pool_specs, events)
    pools[number].next_event_s = _next_event(nodes[number], slots[number])
    return (1 if state == READY else 0), (1 if state == DRAINING else 0)


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
        _node_goes(now_s, home, number, pool, nodes[number], spec, events)
    if promised:
        _disinherit(now_s, home, number, pools, nodes, slots, spec, pool_specs)
    pool.next_event_s = _next_event(nodes[number], slots[number])
    return ready, draining


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
            drained += _notice(now_s, home, number, pools, nodes, slots, spec, pool_specs, events)
        elif opens and node.state == WAITING:
            _go_through(now_s, node, pool, spec)
    pool.next_event_s = _next_event(nodes[number], slots[number])
    return died, draining_died, drained


@kernel
def _notice(now_s, home, number, pools, nodes, slots, spec, pool_specs, events):
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
            drained += 1
        elif slot.state != FREE and slot.state != DRAINING:
            pool.preempted += 1.0
            free_slot(now_s, i, number, pools, nodes, slots, spec, pool_specs, events)
    return drained


@kernel
def _go_through(now_s, node, pool, spec):
    """An order gets its node; the clock of its provisioning starts."""
    node.state = ORDERED
    node.until_s = now_s + node.delay_s
    if spec.bill_from_order:
        pool.nodes_billed += 1


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
        _node_goes(now_s, home, number, pool, nodes[number], spec, events)


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
    _node_goes(now_s, home, number, pools[number], nodes[number], spec, events)
    nodes[other, i].warm = 1
    if spec.bill_from_order:
        pools[other].nodes_billed += 1
    _node_comes_up(now_s, i, other, pools[other], nodes[other], slots[other], spec, pool_specs[other], events)
    pools[other].next_event_s = _next_event(nodes[other], slots[other])


@kernel
def _disinherit(now_s, home, number, pools, nodes, slots, spec, pool_specs):
    """The promised node will never be handed over: its heir orders one of its own."""
    nodes[number, home].heir = 0
    for other in range(nodes.shape[0]):
        for i in range(nodes.shape[1]):
            heir = nodes[other, i]
            if heir.state == PROMISED and heir.donor == number * POOL + home:
                _place(now_s, heir, pools[other], spec, pool_specs[other])
                pools[other].next_event_s = _next_event(nodes[other], slots[other])


@kernel
def _order(now_s, seed, interval, k, sleeps, number, pools, nodes, slots, spec, pool_specs, events):
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
                        left = _staying(i, slots[other], pool_specs[other])
                        if left < 0:
                            _take_over(now_s, i, other, home, number, pools, nodes, slots, spec, pool_specs, events)
                            return
                        if left == 0:
                            node.state = PROMISED
                            node.until_s = NEVER
                            node.donor = other * POOL + i
                            nodes[other, i].heir = 1
                            return
    _place(now_s, node, pool, spec, pool_spec)


@kernel
def _place(now_s, node, pool, spec, pool_spec):
    """An order goes through, or waits for the supply."""
    node.state = WAITING
    node.until_s = NEVER
    if pool.supply & pool_spec.needs == pool_spec.needs:
        _go_through(now_s, node, pool, spec)


@kernel
def _staying(home, slots, pool_spec):
    """Replicas of a node that are not draining; -1 for a node without any replica."""
    staying, taken = 0, 0
    for i in range(home * pool_spec.slots_per_node, (home + 1) * pool_spec.slots_per_node):
        if slots[i].state != FREE:
            taken += 1
            if slots[i].state != DRAINING:
                staying += 1
    return staying if taken > 0 else -1


@kernel
def _fullest(nodes, slots, pool_spec):
    """The fullest node with a free slot, -1 if there is none."""
    home = fullest = -1
    for i in range(nodes.shape[0]):
        node = nodes[i]
        if (node.state == UP and not node.heir) or node.state in (ORDERED, WAITING, PROMISED):
            occupied = _occupied(i, slots, pool_spec)
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


@kernel
def _wake(now_s, seed, interval, k, number, pool, nodes, slots, spec, pool_spec, events):
    """Wake a replica that stands by, or let one that is being prepared for it serve; False when there is none."""
    if pool.standby + pool.preparing == 0:
        return False
    available = pool_spec.standby != STOPS or pool.supply & pool_spec.needs == pool_spec.needs
    for i in range(slots.shape[0]):
        slot = slots[i]
        if slot.state == STANDBY and available:
            z = luck.normal_quantile(luck.uniform(seed, luck.WAKE, number, k, interval))
            home = i // pool_spec.slots_per_node
            if nodes[home].state == STOPPED:
                nodes[home].state = UP
                pool.nodes_stopped -= 1
                pool.nodes_up += 1
                pool.nodes_billed += 1
                pool.last_add_s = now_s
                log_event(events, spec, now_s, NODE_UP, number, home)
            slot.state = LOADING
            slot.ordered_s = now_s
            slot.until_s = now_s + luck.delay(pool_spec.wake_median_s, pool_spec.wake_sigma, z)
            pool.standby -= 1
            pool.pending += 1
            return True
    for i in range(slots.shape[0]):
        if slots[i].sleeps:
            slots[i].sleeps = 0
            pool.preparing -= 1
            pool.pending += 1
            return True
    return False


@kernel
def _fill_standby(now_s, seed, interval, k, number, pools, nodes, slots, spec, pool_specs, events):
    """Replicas that drain lie down when they are done, so they count; what is too many goes."""
    pool = pools[number]
    while pool.standby + pool.preparing + pool.draining < pool.standby_wanted:
        if not _order(now_s, seed, interval, k, 1, number, pools, nodes, slots, spec, pool_specs, events):
            break
        k += 1
    while pool.standby + pool.preparing > pool.standby_wanted:
        if pool.preparing > 0:
            _cancel_youngest(now_s, 1, number, pools, nodes, slots, spec, pool_specs, events)
        else:
            i = slots.shape[1] - 1
            while slots[number, i].state != STANDBY:
                i -= 1
            free_slot(now_s, i, number, pools, nodes, slots, spec, pool_specs, events)


@kernel
def _short_of_standby(pool, pool_spec):
    return pool_spec.standby != NO_STANDBY and pool.standby + pool.preparing < pool.standby_wanted


@kernel
def _lay_down(now_s, i, number, pool, nodes, slot, spec, pool_spec, events):
    """A replica stands by: its engine sleeps, or its node is switched off."""
    slot.state = STANDBY
    slot.sleeps = 0
    slot.until_s = NEVER
    pool.standby += 1
    log_event(events, spec, now_s, REPLICA_SLEEPS, number, i)
    if pool_spec.standby == STOPS:
        home = i // pool_spec.slots_per_node
        nodes[home].state = STOPPED
        nodes[home].until_s = NEVER
        pool.nodes_up -= 1
        pool.nodes_billed -= 1
        pool.nodes_stopped += 1
        log_event(events, spec, now_s, NODE_STOPPED, number, home)


@kernel
def _cancel_youngest(now_s, sleeps, number, pools, nodes, slots, spec, pool_specs, events):
    """The youngest replica on its way, to service or (`sleeps`) to standby, goes; or stands by where that is short."""
    pool, own = pools[number], slots[number]
    youngest = -1
    for i in range(own.shape[0]):
        state = own[i].state
        starting = state in (AWAITS_NODE, LOADING) and own[i].sleeps == sleeps
        if starting and (youngest < 0 or own[i].ordered_s >= own[youngest].ordered_s):
            youngest = i
    if not sleeps and _short_of_standby(pool, pool_specs[number]):
        own[youngest].sleeps = 1
        pool.pending -= 1
        pool.preparing += 1
    else:
        free_slot(now_s, youngest, number, pools, nodes, slots, spec, pool_specs, events)


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
    pool.last_add_s = now_s
    if not spec.bill_from_order:
        pool.nodes_billed += 1
    log_event(events, spec, now_s, NODE_UP, number, home)
    for i in range(home * pool_spec.slots_per_node, (home + 1) * pool_spec.slots_per_node):
        if slots[i].state == AWAITS_NODE:
            slots[i].state = LOADING
            slots[i].until_s = now_s + (slots[i].warm_s if node.warm else slots[i].cold_s)


@kernel
def _node_goes(now_s, home, number, pool, nodes, spec, events):
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
