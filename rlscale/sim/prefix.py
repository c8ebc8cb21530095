"""Prompts that a replica has seen: blocks of their KV cache, the least recently used one goes first.

A prompt is a list of block numbers, each standing for the tokens up to its end, so that two prompts share what their
lists have in common at the beginning. Blocks live in a part of the memory of their own. Scalar code over the records of
one cluster; `cache` is (block numbers of all prompts, kept blocks with their hash table). Knows no queue and no time.
"""

from __future__ import annotations

import numpy as np

from rlscale.sim.luck import kernel
from rlscale.sim.request_records import NOBODY

_MIX = np.uint64(0x9E3779B97F4A7C15)
_GROUP = np.uint64(0xD1B54A32D192ED03)
_SHIFT = np.uint64(29)


@kernel
def seen_tokens(job, r, replicas, cache, server):
    """Tokens of a prompt that need not be computed again; the last token of a prompt always is."""
    ids = cache[0]
    hits = 0
    while hits < job.blocks and (hits + 1) * server.block_tokens <= job.prompt:
        entry = _find(_key(ids[job.block + hits], job.group), r, cache)
        if entry == NOBODY:
            break
        hits += 1
    for k in range(hits - 1, -1, -1):
        _use(_find(_key(ids[job.block + k], job.group), r, cache), r, replicas, cache)
    return min(hits * server.block_tokens, job.to_process - 1.0)


@kernel
def keep_prompt(job, r, replicas, cache, server):
    """The whole blocks of a prompt stay; its beginning is what goes last."""
    ids = cache[0]
    whole = min(job.blocks, int(job.prompt / server.block_tokens))
    for k in range(whole - 1, -1, -1):
        key = _key(ids[job.block + k], job.group)
        entry = _find(key, r, cache)
        if entry == NOBODY:
            _insert(key, r, replicas, cache, server.kept_blocks)
        else:
            _use(entry, r, replicas, cache)


@kernel
def forget(r, replicas, cache):
    """An empty cache, as of a replica that has just started."""
    kept = cache[1]
    q = replicas[r]
    q.kept = 0
    q.newest = q.oldest = NOBODY
    for place in range(kept.shape[1]):
        kept[r, place].entry = 0


@kernel
def _key(number, group):
    """Blocks of different groups are different."""
    return (np.uint64(number) + np.uint64(1)) * _MIX ^ np.uint64(group) * _GROUP


@kernel
def _home(key, size):
    mixed = (key ^ (key >> _SHIFT)) * _MIX
    return np.int64((mixed >> _SHIFT) & np.uint64(size - 1))


@kernel
def _find(key, r, cache):
    """Entry of a kept block, or NOBODY. The table holds entries plus one, and 0 where it is free."""
    kept = cache[1]
    size = kept.shape[1]
    place = _home(key, size)
    while kept[r, place].entry != 0:
        entry = kept[r, place].entry - 1
        if kept[r, entry].key == key:
            return entry
        place = (place + 1) & (size - 1)
    return NOBODY


@kernel
def _insert(key, r, replicas, cache, most):
    kept = cache[1]
    q = replicas[r]
    if q.kept < most:
        entry = q.kept
        q.kept += 1
    else:
        entry = q.oldest
        _take_out(kept[r, entry].key, r, cache)
        _unlink(entry, r, replicas, cache)
    size = kept.shape[1]
    place = _home(key, size)
    while kept[r, place].entry != 0:
        place = (place + 1) & (size - 1)
    kept[r, place].entry = entry + 1
    kept[r, entry].key = key
    _link(entry, r, replicas, cache)


@kernel
def _take_out(key, r, cache):
    """Close the gap in the table: whoever was pushed past it moves back."""
    kept = cache[1]
    size = kept.shape[1]
    place = _home(key, size)
    while kept[r, kept[r, place].entry - 1].key != key:
        place = (place + 1) & (size - 1)
    gap, place = place, (place + 1) & (size - 1)
    while kept[r, place].entry != 0:
        home = _home(kept[r, kept[r, place].entry - 1].key, size)
        if ((place - home) & (size - 1)) >= ((place - gap) & (size - 1)):
            kept[r, gap].entry = kept[r, place].entry
            gap = place
        place = (place + 1) & (size - 1)
    kept[r, gap].entry = 0


@kernel
def _use(entry, r, replicas, cache):
    _unlink(entry, r, replicas, cache)
    _link(entry, r, replicas, cache)


@kernel
def _link(entry, r, replicas, cache):
    """As the newest."""
    kept = cache[1]
    q = replicas[r]
    kept[r, entry].newer = NOBODY
    kept[r, entry].older = q.newest
    if q.newest == NOBODY:
        q.oldest = entry
    else:
        kept[r, q.newest].newer = entry
    q.newest = entry


@kernel
def _unlink(entry, r, replicas, cache):
    kept = cache[1]
    q = replicas[r]
    newer, older = kept[r, entry].newer, kept[r, entry].older
    if newer == NOBODY:
        q.newest = older
    else:
        kept[r, newer].older = older
    if older == NOBODY:
        q.oldest = newer
    else:
        kept[r, older].newer = newer
