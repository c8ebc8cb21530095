"""What a policy saw on training loads, as statistics that a live service compares its own observations with."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from envs.batch import ClusterBatch
from rlscale.actions import ActionMap
from rlscale.feature_statistics import FeatureStatistics, fit
from rlscale.features import HIGHEST, LOWEST, NAMES
from rlscale.network import Network
from rlscale.policy import preferred
from rlscale.scenario import Scenario
from rlscale.types import Floats

LOADS = 32  # a window of each: days differ more than the hours of one do
WINDOW_S = 3 * 3600.0  # every hour of the day comes four times


def fit_statistics(scenario: Scenario, network: Network, actions: ActionMap) -> FeatureStatistics:
    """Roll the policy over windows of training loads, all at once, and fit the features that its network saw.

    In the fluid engine, whichever the policy was trained in: 96 hours of single requests would take longer than most
    trainings.
    """
    return fit(*training_features(scenario, network, actions))


def training_features(
    scenario: Scenario, network: Network, actions: ActionMap
) -> tuple[NDArray[np.float32], tuple[str, ...], Floats]:
    """(rows, inputs) load after load, their names, and how far each can move."""
    loads = [scenario.sample_load("train", seed) for seed in range(LOADS)]
    spec, rows = scenario.cluster, np.arange(LOADS)
    whole = min(int(load.duration_s / spec.interval_s + 1e-9) for load in loads)
    intervals = max(4, min(whole, round(WINDOW_S / spec.interval_s)))
    batch = ClusterBatch(scenario, loads, len(rows), actions)
    # The golden ratio spreads the windows over the day in either half of them.
    first = (rows * 0.6180339887498949 % 1.0 * (whole - intervals)).astype(np.int64) * spec.substeps
    batch.begin(rows, rows, first, rows.astype(np.uint64), np.full(len(rows), intervals))
    sizes, state = actions.sizes(batch.world.pools), network.start(len(rows))
    seen = np.empty((len(rows), intervals, network.inputs), np.float32)
    features = batch.look()
    for i in range(intervals):
        seen[:, i] = features[:, : network.inputs]
        outputs, state = network.forward(seen[:, i], state)
        if i + 1 < intervals:
            batch.step(preferred(outputs, actions.mask(batch.seen, batch.known), sizes))
            features = batch.observation
    span = (HIGHEST - LOWEST).astype(np.float64)[: network.inputs]
    return seen.reshape(-1, network.inputs), NAMES[: network.inputs], span
