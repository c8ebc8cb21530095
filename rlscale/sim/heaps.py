"""A binary heap by `due`: replicas by the end of their run, sequences by their last token. Members know their place."""

from __future__ import annotations

from rlscale.sim.luck import kernel


@kernel
def settle(k, i, count, heap, members):
    """Put member `i` where it belongs in a heap of `count`, beginning at place `k`, which is free or its own."""
    due = members[i].due
    while k > 0:
        up = (k - 1) >> 1
        other = heap[up]
        if members[other].due <= due:
            break
        heap[k] = other
        members[other].place = k
        k = up
    while True:
        down = 2 * k + 1
        if down >= count:
            break
        if down + 1 < count and members[heap[down + 1]].due < members[heap[down]].due:
            down += 1
        other = heap[down]
        if members[other].due >= due:
            break
        heap[k] = other
        members[other].place = k
        k = down
    heap[k] = i
    members[i].place = k


@kernel
def take_out(k, count, heap, members):
    """Take the member at place `k` out of a heap of `count`; the last one takes its place."""
    if k < count - 1:
        settle(k, heap[count - 1], count - 1, heap, members)
