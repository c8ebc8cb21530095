"""The state of a cluster as records: one row of each array is one cluster. Layout only, no behaviour.

Counters grow from the start of the run and are never reset: what happened between two instants is a difference, as
with a Prometheus counter. Fields that no part of the engine writes yet (standby, spot, failures, energy) are here
so that the kernels keep their signatures when it does.
"""

from __future__ import annotations

from dataclasses import fields
from typing import Any

import numba
import numpy as np
from numpy.typing import NDArray

from rlscale.sim.company import KNOTS
from rlscale.sim.kappa import Kappa

COUNTER_NAMES = (
    "arrived", "admitted", "finished", "dropped", "lost", "missed", "ttft_sum_s", "tpot_sum_s", "tpot_count",
    "output_tokens", "total_tokens", "churn",
)  # fmt: skip
GAUGE_NAMES = ("waiting", "running")

CLUSTER = np.dtype(
    [
        ("seed", "u8"), ("load", "i8"), ("cell", "i8"),  # luck, which load, its cell at t = 0
        ("step", "i8"), ("interval", "i8"),  # since t = 0
        ("queued", "f8"), ("left", "f8"),  # cumulative requests that entered and left the queue
        ("head", "i8"),  # the oldest sub-step whose requests may still wait
        ("rate_per_s", "f8"),  # smoothed arrivals of a bursty load
    ]
    + [(name, "f8") for name in COUNTER_NAMES]
)  # fmt: skip

POOL = np.dtype(
    [
        ("wanted", "i8"), ("target", "i8"),  # bounded target asked for, and in force
        ("ready", "i8"), ("pending", "i8"), ("draining", "i8"), ("nodes_up", "i8"), ("nodes_billed", "i8"),
        ("running", "f8"), ("drift", "f8"),  # sequences on ready replicas; luck of the answer lengths, in sequences
        ("drain_running", "f8"), ("drain_ok", "f8"),  # on draining replicas; share of those whose TTFT met the SLO
        ("progress", "f8"), ("iteration_s", "f8"),  # decode passes since t = 0; their duration now
        ("rate_per_s", "f8"),  # smoothed admissions per replica
        ("next_event_s", "f8"),
        # counters
        ("ready_s", "f8"), ("pending_s", "f8"), ("draining_s", "f8"), ("node_s", "f8"), ("started", "f8"),
        # not written yet
        ("standby_wanted", "i8"), ("standby", "i8"), ("preempted", "f8"), ("failed", "f8"), ("energy_j", "f8"),
    ]
)  # fmt: skip

NODE = np.dtype([("state", "i8"), ("since_s", "f8"), ("until_s", "f8"), ("warm", "i8")])
SLOT = np.dtype([("state", "i8"), ("ordered_s", "f8"), ("until_s", "f8"), ("luck", "f8")])

# Node states: absent, ordered, up. `until_s`: when it comes up; once up and empty, when it is given back.
ABSENT, ORDERED, UP = 0, 1, 2
# Slot states. `until_s`: when the present state ends (ready: never).
FREE, AWAITS_NODE, LOADING, READY, DRAINING, STANDBY = 0, 1, 2, 3, 4, 5

SCRAPE = np.dtype([("t_s", "f8")] + [(name, "f8") for name in COUNTER_NAMES + GAUGE_NAMES])
POOL_SCRAPE = np.dtype([("ready", "i8"), ("running", "f8"), ("memory", "f8")])

SPEC = np.dtype(
    [
        ("substep_s", "f8"), ("substeps", "i8"), ("scrape_step", "i8"), ("control_step", "i8"),
        ("drain_s", "f8"), ("timeout_s", "f8"), ("node_idle_s", "f8"), ("bill_from_order", "i8"),
        ("ttft_s", "f8"), ("ttft_s_per_token", "f8"), ("tpot_s", "f8"),
        ("log_events", "i8"),
    ]
    + [(f"k_{field.name}", "f8") for field in fields(Kappa)]
)  # fmt: skip

# How a load's values become counts, and how its requests gather below a sub-step (see company.py).
LAW = np.dtype([("poisson", "i8"), ("bursty", "i8"), ("burstiness", "f8"), ("company", "f8", (KNOTS,))])

POOL_SPEC = np.dtype(
    [
        ("slots_per_node", "i8"), ("min_replicas", "i8"), ("max_replicas", "i8"), ("batching", "i8"),
        ("node_median_s", "f8"), ("node_sigma", "f8"), ("cold_median_s", "f8"), ("cold_sigma", "f8"),
        ("warm_median_s", "f8"), ("warm_sigma", "f8"), ("kv_capacity_tokens", "f8"), ("chunk_tokens", "f8"),
        ("service_cv2", "f8"),
    ]
)  # fmt: skip

# Moments of one token law on one pool: the symbols of laws.Demand.
DEMAND = np.dtype(
    [(name, "f8") for name in ("ni", "no", "k", "c0", "c", "w", "w2", "seats", "chunk_s", "over", "kv_spread_s")]
)

# Event log, for audits and tests: (time, kind, pool, number).
NODE_ORDERED, NODE_UP, NODE_GONE, REPLICA_ORDERED, REPLICA_READY, REPLICA_GONE = 1, 2, 3, 4, 5, 6


def records(shape: tuple[int, ...], dtype: np.dtype[Any]) -> NDArray[Any]:
    """Zeroed records; in plain-Python mode with attribute access, which compiled code has anyway."""
    array = np.zeros(shape, dtype)
    return array.view(np.recarray) if numba.config.DISABLE_JIT else array  # type: ignore[attr-defined]
