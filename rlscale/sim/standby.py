"""Standby: replicas whose engine sleeps or whose node is switched off. They are woken first and refilled after."""

from __future__ import annotations

from rlscale.sim import luck
from rlscale.sim.luck import kernel
from rlscale.sim.node import NEVER, log_event
from rlscale.sim.nodes import free_slot, order_replica
from rlscale.sim.records import (
    AWAITS_NODE,
    LOADING,
    NO_STANDBY,
    NODE_STOPPED,
    NODE_UP,
    REPLICA_SLEEPS,
    STANDBY,
    STOPPED,
    STOPS,
    UP,
)  # fmt: skip


@kernel
def wake(now_s, seed, interval, k, number, pool, nodes, slots, spec, pool_spec, events):
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
def fill(now_s, seed, interval, k, number, pools, nodes, slots, spec, pool_specs, events):
    """Replicas that drain lie down when they are done, so they count; what is too many goes."""
    pool = pools[number]
    while pool.standby + pool.preparing + pool.draining < pool.standby_wanted:
        if not order_replica(now_s, seed, interval, k, 1, number, pools, nodes, slots, spec, pool_specs, events):
            break
        k += 1
    while pool.standby + pool.preparing > pool.standby_wanted:
        if pool.preparing > 0:
            cancel_youngest(now_s, 1, number, pools, nodes, slots, spec, pool_specs, events)
        else:
            i = slots.shape[1] - 1
            while slots[number, i].state != STANDBY:
                i -= 1
            free_slot(now_s, i, number, pools, nodes, slots, spec, pool_specs, events)


@kernel
def short_of_standby(pool, pool_spec):
    """Whether fewer replicas stand by, or are on their way to it, than are wanted."""
    return pool_spec.standby != NO_STANDBY and pool.standby + pool.preparing < pool.standby_wanted


@kernel
def lay_down(now_s, i, number, pool, nodes, slot, spec, pool_spec, events):
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
def cancel_youngest(now_s, sleeps, number, pools, nodes, slots, spec, pool_specs, events):
    """The youngest replica on its way, to service or (`sleeps`) to standby, goes; or stands by where that is short."""
    pool, own = pools[number], slots[number]
    youngest = -1
    for i in range(own.shape[0]):
        state = own[i].state
        starting = state in (AWAITS_NODE, LOADING) and own[i].sleeps == sleeps
        if starting and (youngest < 0 or own[i].ordered_s >= own[youngest].ordered_s):
            youngest = i
    if not sleeps and short_of_standby(pool, pool_specs[number]):
        own[youngest].sleeps = 1
        pool.pending -= 1
        pool.preparing += 1
    else:
        free_slot(now_s, youngest, number, pools, nodes, slots, spec, pool_specs, events)
