"""Two binary heaps whose members know their place: replicas by the end of their run, sequences by their last token."""

from __future__ import annotations

from rlscale.sim.luck import kernel


@kernel
def place_replica(k, heap, replicas):
    """Restore the order after the run of the replica at place `k` has another end."""
    r = heap[k]
    end_s = replicas[r].end_s
    while k > 0:
        up = (k - 1) >> 1
        if replicas[heap[up]].end_s <= end_s:
            break
        heap[k] = heap[up]
        replicas[heap[k]].place = k
        k = up
    count = heap.shape[0]
    while True:
        down = 2 * k + 1
        if down >= count:
            break
        if down + 1 < count and replicas[heap[down + 1]].end_s < replicas[heap[down]].end_s:
            down += 1
        if replicas[heap[down]].end_s >= end_s:
            break
        heap[k] = heap[down]
        replicas[heap[k]].place = k
        k = down
    heap[k] = r
    replicas[r].place = k


@kernel
def push(i, count, heap, requests):
    """Add a sequence to a heap of `count`."""
    ends = requests[i].ends
    k = count
    while k > 0:
        up = (k - 1) >> 1
        other = heap[up]
        if requests[other].ends <= ends:
            break
        heap[k] = other
        requests[other].place = k
        k = up
    heap[k] = i
    requests[i].place = k


@kernel
def remove(k, count, heap, requests):
    """Take the sequence at place `k` out of a heap of `count`; the last one takes its place."""
    i = heap[count - 1]
    count -= 1
    if k == count:
        return
    ends = requests[i].ends
    while k > 0:
        up = (k - 1) >> 1
        other = heap[up]
        if requests[other].ends <= ends:
            break
        heap[k] = other
        requests[other].place = k
        k = up
    while True:
        down = 2 * k + 1
        if down >= count:
            break
        if down + 1 < count and requests[heap[down + 1]].ends < requests[heap[down]].ends:
            down += 1
        other = heap[down]
        if requests[other].ends >= ends:
            break
        heap[k] = other
        requests[other].place = k
        k = down
    heap[k] = i
    requests[i].place = k
