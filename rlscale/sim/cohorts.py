"""Cohorts of the fluid: how long those admitted together waited, and when they finish.

Scalar code over records; inlined into the sub-steps of pools of any kind.
"""

from __future__ import annotations

import math

from rlscale.sim.histogram import bin_of
from rlscale.sim.luck import inlined
from rlscale.sim.records import ADMITTED, BEHIND, PROGRESS, TTFT_MEAN, TTFT_OK
from rlscale.sim.tables import CLASSES, EACH, SETS

SHORTEST_PASS = 0.8  # a request's mean pass is never below this share of the present decode pass


@inlined
def arrived_in(x, j, c, queue):
    """Sub-step, not before j, in which the x-th request arrived; the present one for those still to come."""
    mask = queue.shape[0] - 1
    while j < c.step and queue[j & mask] < x:
        j += 1
    return j


@inlined
def waited(x, j, position, c, queue, h, more_behind):
    """Queueing time of the x-th request, which arrived in sub-step j: first in first out, linear inside a cell."""
    mask = queue.shape[0] - 1
    if j == c.step and not more_behind:
        return 0.0  # arrived and admitted within one sub-step: the fluid sees no queue
    start = queue[(j - 1) & mask] if j > 0 else 0.0
    inside = queue[j & mask] - start
    share = (x - start) / inside if inside > 0.0 else 0.0
    return max(0.0, (c.step + position - j - min(max(share, 0.0), 1.0)) * h)


@inlined
def complete(before, c, p, q, cells, classes, hist, spec, kind, d, point, output, shortest, noise, spread,
              prompts, uneven):  # fmt: skip
    """Finish every cohort that has made its passes; returns how many requests that were."""
    mask = cells.shape[1] - 1
    table = point[kind, p, c.step & (SETS - 1)]
    step = c.step
    progress = q.progress
    oldest_kept = step - mask
    done = 0.0
    good = 0.0
    tokens = 0.0
    tpot_sum = 0.0
    tpot_mass = 0.0
    for j in range(CLASSES):
        further = output[kind, j, 1]
        reached = progress - further
        at = int(classes[p, j, 0])
        used = classes[p, j, 1]
        mass = 0.0
        ok = 0.0
        while at < step and (cells[p, at & mask, PROGRESS] <= reached or at <= oldest_kept):
            part = (1.0 - used) * cells[p, at & mask, ADMITTED]
            mass += part
            ok += part * cells[p, at & mask, TTFT_OK]
            used = 0.0
            at += 1
        here = at & mask
        end = cells[p, here, PROGRESS]
        if reached >= end:
            share = 1.0
        else:
            begin = before if at == step else (cells[p, (at - 1) & mask, PROGRESS] if at > 0 else 0.0)
            share = max(used, (reached - begin) / (end - begin))
        part = (share - used) * cells[p, here, ADMITTED]
        mass = (mass + part) * EACH
        ok = (ok + part * cells[p, here, TTFT_OK]) * EACH
        classes[p, j, 0] = at
        classes[p, j, 1] = share
        if mass <= 0.0:
            continue
        done += mass
        tokens += mass * output[kind, j, 0]
        tpot = 0.0
        if further > 0.0:
            life = (step + 1 - at - share) * spec.substep_s
            each = output[kind, j, 2]  # 1 / further
            tpot = life * each + table[j, 8] * math.sqrt(noise * each + spread)
            # Prompts of its own burst, where they are more than the even stream already counted in `life`.
            late = cells[p, here, BEHIND] * (1.0 + uneven * (table[j, 5] - 1.0)) - life * prompts
            if late > 0.0:
                tpot += late * output[kind, j, 3]  # the mean of 1 / (m - 1)
            tpot = max(tpot, shortest)
            hist[1, bin_of(tpot)] += mass
            tpot_sum += mass * tpot
            tpot_mass += mass
        hist[2, bin_of(cells[p, here, TTFT_MEAN] + further * tpot)] += mass
        if tpot <= spec.tpot_s:
            good += ok
    c.finished += done
    c.missed += done - good
    c.tpot_sum_s += tpot_sum
    c.tpot_count += tpot_mass
    c.output_tokens += tokens
    c.total_tokens += tokens + done * d.ni
    return done
