"""The state of a cluster as records: one row of each array is one cluster. Layout only, no behaviour.

Counters grow from the start of the run and are never reset: what happened between two instants is a difference, as
with a Prometheus counter.
"""

from __future__ import annotations

from dataclasses import fields
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rlscale.sim.company import KNOTS
from rlscale.sim.compiled import PLAIN
from rlscale.sim.kappa import Kappa

COUNTER_NAMES = (
    "arrived", "admitted", "finished", "dropped", "lost", "missed", "ttft_sum_s", "tpot_sum_s", "tpot_count",
    "output_tokens", "total_tokens", "churn",
)  # fmt: skip
GAUGE_NAMES = ("waiting", "running", "decode_waiting")

CLUSTER = np.dtype(
    [
        ("seed", "u8"), ("load", "i8"), ("cell", "i8"),  # luck, which load, its cell at t = 0
        ("step", "i8"), ("interval", "i8"),  # since t = 0
        ("queued", "f8"), ("left", "f8"),  # cumulative requests that entered and left the queue
        ("head", "i8"),  # the oldest sub-step whose requests may still wait
        ("rate_per_s", "f8"),  # smoothed arrivals of a bursty load
        ("week_s", "f8"),  # seconds since Monday 00:00 at t = 0
        ("supply_cell", "i8"), ("supply_step", "i8"),  # of the supply at t = 0; sub-step of its next cell
        ("thinking", "f8"),  # users of sessions between two requests
        # deferrable tokens: come, done, not done at their deadline, and due so far
        ("work_come", "f8"), ("work", "f8"), ("work_late", "f8"), ("work_due", "f8"),
        ("degraded_steps", "i8"),  # sub-steps in which answers were cut
        # cumulative sequences that left the prefill pools, and that decode pools began
        ("passed", "f8"), ("joined", "f8"),
        ("sent_head", "i8"),  # the oldest sub-step whose sequences a decode pool may not have begun
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
        ("preempted", "f8"), ("failed", "f8"), ("energy_j", "f8"), ("carbon_g", "f8"), ("energy_usd", "f8"),
        ("standby_s", "f8"), ("stopped_s", "f8"),  # replica-seconds in standby; node-seconds stopped
        # standby: wanted, there, on the way; nodes stopped
        ("standby_wanted", "i8"), ("standby", "i8"), ("preparing", "i8"), ("nodes_stopped", "i8"),
        ("supply", "i8"),  # code of the present cell, see supply.py
        ("last_add_s", "f8"),  # when a node last came up
        ("extra", "f8"),  # deferrable sequences per replica
        ("prompt_ok", "f8"), ("prompt_ttft_s", "f8"),  # prompts under way: share whose TTFT meets the SLO, mean TTFT
        ("room", "f8"), ("part", "f8"),  # requests it could admit and admits in the present sub-step
    ]
)  # fmt: skip

NODE = np.dtype(
    [
        ("state", "i8"), ("since_s", "f8"), ("until_s", "f8"), ("warm", "i8"),
        ("delay_s", "f8"),  # of its provisioning
        ("donor", "i8"), ("heir", "i8"),  # the node it was promised, see lifecycle; whether it is promised itself
    ]
)  # fmt: skip
SLOT = np.dtype(
    [
        ("state", "i8"), ("ordered_s", "f8"), ("until_s", "f8"), ("cold_s", "f8"), ("warm_s", "f8"),
        ("sleeps", "i8"),  # it is being prepared for standby
    ]
)  # fmt: skip

BOTH, PREFILL, DECODE = 0, 1, 2  # roles of a pool
ROLES = {"both": BOTH, "prefill": PREFILL, "decode": DECODE}

NOW, BEFORE = 0, 1  # latency histograms at the last scrape and at the one before

# Node states. `until_s`: when it comes up; once up and empty, when it is given back; once noticed, when it is taken.
# Waiting: ordered, and the supply is interrupted. Promised: a node of another pool of the family that has to be emptied
# first. Stopped: switched off with its disk, its replica stands by. Noticed: a spot node that will be taken away.
ABSENT, ORDERED, UP, WAITING, PROMISED, STOPPED, NOTICED = 0, 1, 2, 3, 4, 5, 6
# Slot states. `until_s`: when the present state ends (ready, standby: never).
FREE, AWAITS_NODE, LOADING, READY, DRAINING, STANDBY = 0, 1, 2, 3, 4, 5
NO_STANDBY, STOPS, SLEEPS = 0, 1, 2  # kinds of standby
STAGES = 4  # of a start, at most

SCRAPE = np.dtype([("t_s", "f8")] + [(name, "f8") for name in COUNTER_NAMES + GAUGE_NAMES])
POOL_SCRAPE = np.dtype([("ready", "i8"), ("running", "f8"), ("memory", "f8")])

SPEC = np.dtype(
    [
        ("substep_s", "f8"), ("substeps", "i8"), ("scrape_step", "i8"), ("control_step", "i8"),
        ("drain_s", "f8"), ("timeout_s", "f8"), ("node_idle_s", "f8"), ("bill_from_order", "i8"),
        ("ttft_s", "f8"), ("ttft_s_per_token", "f8"), ("tpot_s", "f8"),
        ("log_events", "i8"), ("interval_s", "f8"),
        ("node_delay_after_add_s", "f8"), ("has_supply", "i8"), ("supply_steps", "i8"), ("supply_starts", "i8"),
        ("tolerance", "f8"), ("fails", "i8"), ("requeue", "i8"), ("energy", "i8"), ("pue", "f8"),
        ("rejects", "i8"), ("degrades", "i8"), ("max_waiting", "f8"),
        ("has_work", "i8"), ("work_pass_s", "f8"), ("deadline_steps", "i8"),
        ("balancer", "i8"), ("largest_kv_tokens", "f8"),  # of the request engine
        ("roles", "i8"), ("transfer_s", "f8"), ("transfer_s_per_token", "f8"),  # prefill and decode pools
    ]
    + [(f"k_{field.name}", "f8") for field in fields(Kappa)]
)  # fmt: skip

# How a load's values become counts, and how its requests gather below a sub-step (see company.py).
# Sessions: `continues`, share of the answers that are followed by another request; `returns`, share of the thinking
# users who send theirs within a sub-step. `stretch`: exponent that makes an exponential gap a Weibull one as bursty.
LAW = np.dtype(
    [("poisson", "i8"), ("bursty", "i8"), ("burstiness", "f8"), ("continues", "f8"), ("returns", "f8"),
     ("company", "f8", (KNOTS,)), ("stretch", "f8")]
)  # fmt: skip

POOL_SPEC = np.dtype(
    [
        ("role", "i8"), ("slots_per_node", "i8"), ("min_replicas", "i8"), ("max_replicas", "i8"), ("batching", "i8"),
        ("node_median_s", "f8"), ("node_sigma", "f8"), ("cold_stages", "i8"), ("warm_stages", "i8"),
        ("cold_median_s", "f8", (STAGES,)), ("cold_sigma", "f8", (STAGES,)),
        ("warm_median_s", "f8", (STAGES,)), ("warm_sigma", "f8", (STAGES,)),
        ("kv_capacity_tokens", "f8"), ("chunk_tokens", "f8"), ("service_cv2", "f8"),
        ("needs", "i8"),  # supply bits without which no order goes through
        ("spot", "i8"), ("notice_s", "f8"), ("family", "i8"),
        ("standby", "i8"), ("wake_median_s", "f8"), ("wake_sigma", "f8"),
        ("nodes", "i8"),  # how many there are records for
        ("replica_fails", "f8"), ("node_fails", "f8"),  # expected per interval over all records
        ("gpus_per_node", "f8"), ("gpus_per_replica", "f8"), ("idle_w", "f8"), ("loaded_idle_w", "f8"),
        ("decode_low_w", "f8"), ("decode_high_w", "f8"), ("prefill_w", "f8"), ("host_w", "f8"),
    ]
)  # fmt: skip

# Moments of one token law on one pool: the symbols of laws.Demand.
DEMAND = np.dtype(
    [(name, "f8") for name in ("ni", "no", "k", "c0", "c", "w", "w2", "seats", "chunk_s", "over", "kv_spread_s")]
    # Prefill and decode pools: see laws.Demand; mean delay of a KV cache.
    + [(name, "f8") for name in ("first", "prompt_s", "alone_s", "prompt_cv2", "transfer_s")]
)

# Columns of a cell of admissions: what one sub-step admitted to a pool.
ADMITTED, TTFT_OK, PROGRESS, TTFT_MEAN, BEHIND = 0, 1, 2, 3, 4
COLUMNS = 5
# Columns of a cell of what prefill pools hand over: so far, and of one sub-step.
PASSED, PASSED_OK, PASSED_TTFT = 0, 1, 2

# Event log, for audits and tests: (time, kind, pool, number).
NODE_ORDERED, NODE_UP, NODE_GONE, REPLICA_ORDERED, REPLICA_READY, REPLICA_GONE = 1, 2, 3, 4, 5, 6
NODE_STOPPED, REPLICA_SLEEPS, REPLICA_FAILED, NODE_NOTICED, REPLICA_DRAINS = 7, 8, 9, 10, 11


def records(shape: tuple[int, ...], dtype: np.dtype[Any]) -> NDArray[Any]:
    """Zeroed records; in plain-Python mode with attribute access, which compiled code has anyway."""
    array = np.zeros(shape, dtype)
    return array.view(np.recarray) if PLAIN else array
