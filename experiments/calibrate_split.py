"""Which measured configurations a law is fitted on and which it is judged on. Knows lengths and batches, no times.

The rule reads nothing but the names of a configuration, so it was settled before any residual was seen.
"""

from __future__ import annotations

import hashlib
from collections.abc import Hashable, Sequence

import numpy as np

from rlscale.types import Floats

KEY = "rlscale hardware split 1"  # never changed: another key would be another split


def fitted_on(group: str, configurations: Sequence[tuple[float, ...]]) -> list[bool]:
    """Whether each row belongs to the fitted half of its group.

    The distinct configurations (prompt tokens, output tokens, batch) of a group are ranked by a keyed hash; the first
    half, rounded up, is fitted on. Repeated runs of one configuration stay on one side.
    """
    distinct = sorted(set(configurations), key=lambda configuration: _rank(group, configuration))
    chosen: set[Hashable] = set(distinct[: (len(distinct) + 1) // 2])
    return [configuration in chosen for configuration in configurations]


def doublings(configuration: tuple[float, ...], fitted: Sequence[tuple[float, ...]]) -> float:
    """Distance to the nearest fitted configuration of the group: Euclidean in log2 of lengths and batch."""
    apart: Floats = np.log2(np.array(fitted)) - np.log2(np.array(configuration))
    return float(np.sqrt((apart**2).sum(axis=1)).min())


def _rank(group: str, configuration: tuple[float, ...]) -> bytes:
    text = "|".join([KEY, group, *(f"{value:g}" for value in configuration)])
    return hashlib.blake2b(text.encode(), digest_size=8).digest()
