"""The cheapest fleet when the future is known: exact for a pool of equal nodes and losses convex in replicas.

Time is cut into control intervals. A node that is ordered comes up after `provision` intervals, bills from then on,
serves after `load` more, and, once it is let go, bills for `idle` intervals. Whoever knows the future lets a node go
only if it is to disappear: one that is kept for an idle spell costs as much as one that serves. So a node's life is a
sequence of spells, and the best one follows from two values per interval, absent and ready.

Nodes are stacked: the k-th one serves where at least k are wanted. Any plan can be rearranged that way at the same
cost, and what the k-th node saves falls with k where losses are convex, so every node is planned by itself. That is
exact where a node idles for at least as long as a new one is under way (minutes against minutes in any real cluster);
where it does not, two nodes could take turns within one gap, which no sequence of targets asks for, and the value is
a lower bound.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from rlscale.sim.luck import kernel
from rlscale.types import Floats, Ints


@dataclass(frozen=True, slots=True)
class Spells:
    """Lengths in intervals: order to node up, node up to ready, let go to gone."""

    provision: int
    load: int
    idle: int


@dataclass(frozen=True, slots=True)
class Plan:
    """Nodes that serve, (T,), and what they cost in units of one node billed for one interval."""

    ready: Ints
    billed: float  # node-intervals
    cost: float  # what those cost
    loss: float
    value: float  # cost + loss, or a lower bound of it where spells are shorter than is exact


def convex(loss: Floats) -> Floats:
    """(T, K + 1) losses with 0 to K nodes -> the largest convex, falling losses below them, row by row."""
    hull = np.array(loss, dtype=np.float64)
    _lower_hulls(hull)
    return hull


def best_plan(loss: Floats, price: float | Floats, spells: Spells, begun: int, least: int = 0) -> Plan:
    """The plan with the least price x billed node-intervals + losses.

    `loss` (T, K + 1) is convex and falling in the number of nodes (see `convex`); `begun` nodes are ready at the start,
    and the first `least` of them stay. One `price` for all is exact; prices by node (K,), rising per loss they save,
    give the best plan in which a node serves only where all before it do. Memory and time are proportional to T x K.
    """
    saved = loss[:, :-1] - loss[:, 1:]
    ready = np.zeros(len(loss), np.int64)
    prices = np.broadcast_to(np.asarray(price, np.float64), saved.shape[1])
    billed, cost, value = 0.0, 0.0, float(loss[:, 0].sum())
    for k in range(saved.shape[1]):
        if k >= max(begun, least) and not (saved[:, k] > 0.0).any():
            break  # nobody is served by this node or by the ones above it
        path = np.zeros(len(loss), np.bool_)
        spent = _best_path(np.ascontiguousarray(saved[:, k]), prices[k], spells.provision, spells.load, spells.idle,
                           k < begun, k < least, path)  # fmt: skip
        billed += spent
        cost += float(prices[k]) * spent
        value += float(prices[k]) * spent - float(saved[path, k].sum())
        ready += path
    return Plan(ready, billed, cost, float(loss[np.arange(len(loss)), ready].sum()), value)


@kernel
def _best_path(
    saved: Floats, price: float, provision: int, load: int, idle: int, begun: bool, stays: bool, path: NDArray[np.bool_]
) -> float:
    """When one node serves, into `path`; returns the intervals for which it is billed."""
    last = saved.shape[0]
    # Value from interval i on, of a node that is absent or ready when i begins; what comes after the end is free.
    absent, ready = np.zeros(last + 1), np.zeros(last + 1)
    starts, stops = np.zeros(last, np.bool_), np.zeros(last, np.bool_)
    for i in range(last - 1, -1, -1):
        gone = min(i + idle, last)
        later = min(i + max(idle, 1), last)  # an order takes the next decision at the earliest
        stopped = absent[later] - price * (gone - i)
        ready[i] = saved[i] - price + ready[i + 1]
        if stopped > ready[i] and not stays:
            ready[i] = stopped
            stops[i] = True
        serves = min(i + provision + load, last)
        started = ready[serves] - price * (serves - min(i + provision, last))
        absent[i] = absent[i + 1]
        if started > absent[i]:
            absent[i] = started
            starts[i] = True
    total = 0.0
    i = 0
    serving = begun
    while i < last:
        if serving:
            if stops[i]:
                total += min(i + idle, last) - i
                i = min(i + max(idle, 1), last)
                serving = False
            else:
                path[i] = True
                total += 1.0
                i += 1
        elif starts[i]:
            serves = min(i + provision + load, last)
            total += serves - min(i + provision, last)
            i = serves
            serving = True
        else:
            i += 1
    return total


@kernel
def _lower_hulls(loss: Floats) -> None:
    """Replace each row by its lower convex hull; a row that rises is first made to fall."""
    n = loss.shape[1]
    corner = np.empty(n, np.int64)
    for t in range(loss.shape[0]):
        row = loss[t]
        for k in range(1, n):
            row[k] = min(row[k], row[k - 1])
        corners = 0
        for k in range(n):
            while corners >= 2:
                a, b = corner[corners - 2], corner[corners - 1]
                if (row[b] - row[a]) * (k - a) < (row[k] - row[a]) * (b - a):
                    break
                corners -= 1
            corner[corners] = k
            corners += 1
        for c in range(corners - 1):
            a, b = corner[c], corner[c + 1]
            for k in range(a + 1, b):
                row[k] = row[a] + (row[b] - row[a]) * (k - a) / (b - a)
