"""How a sub-step's admissions spread over the pools of a service: to the replicas with the fewest sequences."""

from __future__ import annotations

from rlscale.sim.luck import kernel

_OPEN = -1.0  # part of a pool that is not settled yet


@kernel
def spread(h, admitted, pools, pool_spec, demands, kind):
    """Set every pool's `part` of the admitted, at most its `room`, so that sequences per replica come out level.

    That is what a balancer by least outstanding requests does, whatever the speed of the replicas. Level is meant after
    the completions of the sub-step, so that the share of a fast pool does not depend on its length. Pools that would
    have to give requests away get none and pools that are full get their room, the worse kind of the two first, until
    nobody is outside.
    """
    for p in range(pools.shape[0]):
        pools[p].part = _OPEN if pools[p].room > 0.0 else 0.0
    left = admitted
    for _ in range(2 * pools.shape[0]):
        width = running = 0.0
        for p in range(pools.shape[0]):
            if pools[p].part == _OPEN:
                width += _width(h, pools[p], pool_spec[p], demands[kind, p])
                running += pools[p].running
        if width == 0.0:
            return
        level = (left + running) / width
        short = excess = 0.0
        for p in range(pools.shape[0]):
            if pools[p].part == _OPEN:
                part = level * _width(h, pools[p], pool_spec[p], demands[kind, p]) - pools[p].running
                short += max(0.0, -part)
                excess += max(0.0, part - pools[p].room)
        for p in range(pools.shape[0]):
            if pools[p].part == _OPEN:
                part = level * _width(h, pools[p], pool_spec[p], demands[kind, p]) - pools[p].running
                if short == 0.0 and excess == 0.0:
                    pools[p].part = part
                elif short >= excess and part <= 0.0:
                    pools[p].part = 0.0
                elif excess > short and part >= pools[p].room:
                    pools[p].part = pools[p].room
                    left -= pools[p].room
        if short == 0.0 and excess == 0.0:
            return


@kernel
def _width(h, q, pool_spec, d):
    """Sequences a pool may have before completions for one per replica after them."""
    if not pool_spec.batching:
        return q.ready * (1.0 + h / d.w)
    if d.prompt_s > 0.0:
        return q.ready * (1.0 + h / d.prompt_s)
    # Passes as long as the smoothed admissions make them: the last sub-step's own would swing from one to the next.
    pass_s = (d.c0 + d.c * q.running / q.ready) / max(0.1, 1.0 - q.rate_per_s * d.w)
    return q.ready * (1.0 + h / (d.no * pass_s))
