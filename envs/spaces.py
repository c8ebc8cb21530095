"""Observation and action spaces in Gymnasium's words."""

from __future__ import annotations

from typing import Any

import numpy as np
from gymnasium import spaces

from rlscale.actions import ActionMap
from rlscale.features import HIGHEST, LOWEST


def observation_space() -> spaces.Box:
    """One vector of features."""
    return spaces.Box(LOWEST, HIGHEST, dtype=np.float32)


def action_space(actions: ActionMap, pools: int) -> spaces.Space[Any]:
    """Discrete for one choice, MultiDiscrete for one per pool, a Box for a number."""
    sizes = actions.sizes(pools)
    if not sizes:
        return spaces.Box(-1.0, 1.0, (1,), np.float32)
    return spaces.Discrete(sizes[0]) if len(sizes) == 1 else spaces.MultiDiscrete(np.array(sizes))
