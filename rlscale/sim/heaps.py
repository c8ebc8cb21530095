"""A binary heap by `due`: replicas by the end of their run, sequences by their last token. Members know their place."""

from __future__ import annotations

from rlscale.sim.luck import kernel


@kernel
def settle(k, i, count, heaps, row, members):
    """Put member `i` where it belongs in a heap of `count`, beginning at place `k`, which is free or its own."""
    due = members[i].due
    while k > 0:
        up = (k - 1) >> 1
        other = heaps[row, up]
        if members[other].due <= due:
            break
        heaps[row, k] = other
        members[other].place = k
        k = up
    while True:
        down = 2 * k + 1
        if down >= count:
            break
        if down + 1 < count and members[heaps[row, down + 1]].due < members[heaps[row, down]].due:
            down += 1
        other = heaps[row, down]
        if members[other].due >= due:
            break
        heaps[row, k] = other
        members[other].place = k
        k = down
    heaps[row, k] = i
    members[i].place = k


@kernel
def take_out(k, count, heaps, row, members):
    """Take the member at place `k` out of a heap of `count`; the last one takes its place."""
    if k < count - 1:
        settle(k, heaps[row, count - 1], count - 1, heaps, row, members)
