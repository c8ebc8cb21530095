"""The values that travel through the circle. Frozen, in SI units, without behaviour beyond their own arithmetic.

Array-valued fields carry one entry per pool (`P`). The batch environments hold the same fields with a leading
axis of clusters; every formula that reads them broadcasts.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any, Literal, Protocol

import numpy as np
from numpy.typing import NDArray

from rlscale.parts import Actuator, Admission, Energy, Failures, Shortage, SpotMarket, Transfer

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Balancer = Literal["round-robin", "least-outstanding", "power-of-two", "consistent-hash", "gateway-queue"]
Engine = Literal["fluid", "request"]  # see rlscale.sim.worlds
Role = Literal["both", "prefill", "decode"]  # which part of a request the replicas of a pool do

DAY_S, WEEK_S = 86_400.0, 604_800.0
WORK_STEP_S = 60.0  # cells of deferrable work
Z95 = 1.6448536269514722  # 95th percentile of the standard normal


@dataclass(frozen=True, slots=True)
class DelayLaw:
    """Lognormal delay by its median and 95th percentile; equal values mean a constant delay."""

    median_s: float
    p95_s: float

    @property
    def sigma(self) -> float:
        """Standard deviation of the logarithm."""
        return math.log(self.p95_s / self.median_s) / Z95 if self.median_s > 0 else 0.0


@dataclass(frozen=True, slots=True)
class PowerCurve:
    """Watts per GPU by what it does, and of the host per node."""

    idle_w: float
    loaded_idle_w: float
    decode_low_w: float
    decode_high_w: float
    prefill_w: float
    host_w: float


@dataclass(frozen=True, slots=True)
class NodeType:
    """One kind of rentable machine."""

    name: str
    gpu: str
    gpus: int
    gpu_memory_gib: float
    usd_per_gpu_hour: float
    spot_usd_per_gpu_hour: float
    provisioning: DelayLaw  # order -> node up
    power: PowerCurve
    cpus: float = math.inf
    memory_gib: float = math.inf
    wake_stopped: DelayLaw | None = None  # None: replicas on it cannot stand by like that
    wake_sleeping: DelayLaw | None = None
    disk_usd_per_hour: float = 0.0  # of a stopped node

    def usd_per_s(self, spot: bool) -> float:
        """Price of the whole node per second."""
        return (self.spot_usd_per_gpu_hour if spot else self.usd_per_gpu_hour) * self.gpus / 3600.0


@dataclass(frozen=True, slots=True)
class IterationLaw:
    """t = c0 + c1*B + c2*P + c3*K + c4*sum over chunks of ((x+p)^2 - x^2), seconds.

    B sequences in the iteration, P prompt tokens processed in it, K resident tokens of the decoding sequences,
    x prompt tokens of a sequence done before, p tokens in this chunk.
    """

    c0_s: float
    c1_s: float
    c2_s: float
    c3_s: float
    c4_s: float


@dataclass(frozen=True, slots=True)
class ServiceProfile:
    """One model on one kind of GPU: how fast a replica is, how much it holds, how long it takes to start.

    `batching` False is a server that takes one request at a time (`max_seats` of them in parallel): its requests
    have one output token and a prompt measured in units of work, so that `c2_s` is the mean service time of a unit.
    """

    name: str
    model: str
    gpu: str
    gpus_per_replica: int
    law: IterationLaw
    kv_capacity_tokens: float
    max_seats: int
    chunk_tokens: float
    cold_start: DelayLaw  # node up -> replica ready, nothing cached on the node
    warm_start: DelayLaw  # the same on a node that has run this service before
    batching: bool = True
    service_cv2: float = 0.0  # squared coefficient of variation of the work, non-batching services only
    gpu_share: float = 1.0  # of each GPU: below 1 a hardware partition
    weights_gb: float = 0.0  # 0: not known
    kv_bytes_per_token: float = 0.0
    cpus_per_replica: float = 0.0
    memory_gib_per_replica: float = 0.0
    cold_stages: tuple[DelayLaw, ...] = ()  # instead of `cold_start`: one after the other
    warm_stages: tuple[DelayLaw, ...] = ()
    context_tokens: float = math.inf  # prompt and answer together that the model, or its server, takes

    @property
    def longest_tokens(self) -> float:
        """Prompt and answer together that can be served at all; longer ones are turned away."""
        return min(self.kv_capacity_tokens, self.context_tokens)

    @property
    def cold(self) -> tuple[DelayLaw, ...]:
        """Stages of a start with nothing cached."""
        return self.cold_stages or (self.cold_start,)

    @property
    def warm(self) -> tuple[DelayLaw, ...]:
        """Stages of a start on a node that has run the service before."""
        return self.warm_stages or (self.warm_start,)


@dataclass(frozen=True, slots=True)
class Pool:
    """Nodes of one type running one service profile."""

    name: str
    node: NodeType
    profile: ServiceProfile
    min_replicas: int
    max_replicas: int
    spot: bool = False
    zone: str = "a"  # "region/zone", or a region of its own
    standby: Literal["none", "stopped", "sleeping"] = "none"
    standby_replicas: int = 0  # kept unless the scaler says otherwise
    max_standby: int = 0
    family: str = ""  # pools of one family hand their nodes to each other instead of ordering new ones
    role: Role = "both"

    @property
    def slots_per_node(self) -> int:
        """Replicas that fit on one node by GPUs, CPUs and memory."""
        profile = self.profile
        rooms = [math.floor(self.node.gpus / (profile.gpus_per_replica * profile.gpu_share) + 1e-9)]
        if profile.cpus_per_replica > 0.0 and math.isfinite(self.node.cpus):
            rooms.append(math.floor(self.node.cpus / profile.cpus_per_replica + 1e-9))
        if profile.memory_gib_per_replica > 0.0 and math.isfinite(self.node.memory_gib):
            rooms.append(math.floor(self.node.memory_gib / profile.memory_gib_per_replica + 1e-9))
        return min(rooms)

    @property
    def usd_per_replica_s(self) -> float:
        """Price of one replica's share of a full node per second."""
        return self.node.usd_per_s(self.spot) / self.slots_per_node


@dataclass(frozen=True, slots=True)
class Slo:
    """A request meets it iff TTFT <= ttft_s + n/ttft_tokens_per_s and TPOT <= tpot_s (n prompt tokens)."""

    ttft_s: float
    tpot_s: float = math.inf
    ttft_tokens_per_s: float = math.inf
    attainment: float = 0.99  # target share of requests


@dataclass(frozen=True, slots=True)
class ClusterSpec:
    """One service on one or more pools, and the control plane around it."""

    pools: tuple[Pool, ...]
    slo: Slo
    interval_s: float = 15.0
    substep_s: float = 1.0
    scrape_interval_s: float = 5.0
    scrape_delay_s: float = 2.0
    control_delay_s: float = 0.0
    drain_s: float = 60.0
    timeout_s: float = 30.0
    node_idle_s: float = 600.0
    bill_from: Literal["up", "order"] = "up"
    metric_noise: float = 0.0  # relative standard deviation of every scraped rate and latency
    metric_missing_share: float = 0.0  # share of intervals whose scrape fails, 0 to 1
    node_delay_after_add_s: float = 0.0  # no idle node is given back for so long after one came up
    shortage: Shortage | None = None
    spot: SpotMarket | None = None  # None: spot pools are cheap and never preempted
    failures: Failures = Failures()
    actuator: Actuator = Actuator()
    energy: Energy = Energy()
    admission: Admission = Admission()
    transfer: Transfer = Transfer()  # between prefill and decode pools
    balancer: Balancer = "least-outstanding"  # of single requests; the fluid engine has one queue in front of all
    prefix_cache_share: float = 0.0  # of the KV memory, for prompts seen before; 0 to 0.9

    @property
    def substeps(self) -> int:
        """Sub-steps per control interval."""
        return round(self.interval_s / self.substep_s)

    @property
    def has_roles(self) -> bool:
        """Whether prompts and further tokens are made by pools of their own."""
        return any(pool.role != "both" for pool in self.pools)


@dataclass(frozen=True, slots=True)
class TokenLaw:
    """Prompt and output lengths, independent, each by quantile knots (linear in between)."""

    prompt_p: tuple[float, ...]  # probabilities, 0 to 1, increasing
    prompt_tokens: tuple[float, ...]
    output_p: tuple[float, ...]
    output_tokens: tuple[float, ...]

    def prompt_at(self, u: Floats | float) -> Floats:
        """Prompt tokens at quantile `u`, at least 1."""
        return np.maximum(1.0, np.interp(u, self.prompt_p, self.prompt_tokens))

    def output_at(self, u: Floats | float) -> Floats:
        """Output tokens at quantile `u`, at least 1."""
        return np.maximum(1.0, np.interp(u, self.output_p, self.output_tokens))


@dataclass(frozen=True, slots=True)
class Load:
    """What a workload yields: requests per cell of `step_s` seconds, and the lengths of their prompts and answers.

    `law` "poisson": `values` are mean requests per second and the world draws the counts.
    `law` "counts": `values` are requests per cell, whole numbers, and nothing is drawn.
    """

    name: str
    step_s: float
    values: NDArray[np.float32]  # (cells,)
    law: Literal["poisson", "counts"]
    tokens: tuple[TokenLaw, ...]
    token_block: Ints = field(default_factory=lambda: np.zeros(1, np.int64))  # index into tokens per block
    token_block_s: float = math.inf
    burstiness: float = 1.0  # variance over mean of the counts below one cell; 1 is Poisson
    history_per_s: Floats = field(default_factory=lambda: np.zeros(0))  # mean rate per history cell, oldest first
    history_step_s: float = 60.0
    week_s: float = 0.0  # seconds since Monday 00:00 at t = 0
    continues: float = 0.0  # sessions: share of the answers that are followed by another request of the same user
    think_s: float = 0.0  # mean time until then
    work_per_s: Floats = field(default_factory=lambda: np.zeros(1))  # deferrable tokens, per cell of WORK_STEP_S
    deadline_s: float = math.inf  # by when a deferrable token has to be done, after it came
    requests: Requests | None = None  # every one of them, where they were recorded: those counted in `values`

    @property
    def duration_s(self) -> float:
        """Length of the load."""
        return len(self.values) * self.step_s

    @property
    def rate_per_s(self) -> Floats:
        """Mean arrival rate of every cell, requests per second, the later requests of sessions included."""
        scale = (1.0 if self.law == "poisson" else 1.0 / self.step_s) / (1.0 - self.continues)
        return self.values.astype(np.float64) * scale


@dataclass(frozen=True, slots=True)
class PromptBlocks:
    """Prompts as lists of blocks: two of one group share what their lists have in common at the beginning."""

    ids: Ints  # of all prompts, one after the other
    first: Ints  # (n,) where in `ids` a prompt begins
    count: Ints  # (n,) blocks of a prompt, the last of them perhaps not full
    group: Ints  # (n,) whose it is: copies of one user share nothing
    tokens: int  # of a full block

    def rows(self, rows: Ints | slice) -> PromptBlocks:
        """Of some requests."""
        return PromptBlocks(self.ids, self.first[rows], self.count[rows], self.group[rows], self.tokens)


@dataclass(frozen=True, slots=True)
class Requests:
    """Single requests, sorted by arrival."""

    arrival_s: Floats
    prompt_tokens: Floats
    output_tokens: Floats
    blocks: PromptBlocks | None = None  # None: it is not known which prompts begin alike

    def __len__(self) -> int:
        return len(self.arrival_s)

    def between(self, start_s: float, end_s: float) -> Requests:
        """Those in [start, end), their time counted from `start_s`."""
        rows = slice(*np.searchsorted(self.arrival_s, (start_s, end_s)))
        blocks = None if self.blocks is None else self.blocks.rows(rows)
        return Requests(self.arrival_s[rows] - start_s, self.prompt_tokens[rows], self.output_tokens[rows], blocks)

    def at(self, arrival_s: Floats, rows: Ints, group: Ints) -> Requests:
        """The given rows at new times, sorted by them; `group` says whose their prompts are."""
        order = np.argsort(arrival_s, kind="stable")
        rows = rows[order]
        blocks = None if self.blocks is None else replace(self.blocks.rows(rows), group=group[order])
        return Requests(arrival_s[order], self.prompt_tokens[rows], self.output_tokens[rows], blocks)


class Workload(Protocol):
    """A generator of load."""

    def sample(self, rng: np.random.Generator, duration_s: float, step_s: float) -> Load:
        """One realisation of `duration_s` seconds in cells of `step_s` seconds."""
        ...


@dataclass(frozen=True, slots=True)
class RewardWeights:
    """lambda and mu of the reward, weights of missed requests and of churn, and the prices of what no bill shows."""

    missed: float = 20.0
    churn: float = 0.001
    usd_per_kg_carbon: float = 0.0  # what is charged beside the bill
    usd_per_million_late_tokens: float = 10.0  # deferrable work that misses its deadline has to be bought elsewhere


@dataclass(frozen=True, slots=True)
class Decision:
    """What a scaler wants, and why, for the audit log.

    `target` replicas per pool, ready and pending counted, draining not. An empty target with `capacity_per_s` asks
    for that many requests per second within the SLO and leaves it to Execute to allocate replicas over the pools.
    """

    target: tuple[int, ...] = ()
    reason: str = ""
    capacity_per_s: float = math.nan
    standby: tuple[int, ...] = ()  # replicas to keep in standby per pool; empty: as many as so far


@dataclass(frozen=True, slots=True)
class Knob:
    """The one parameter of a scaler that trades cost against attainment; a comparison sweeps it."""

    name: str
    values: tuple[float, ...]  # in order of rising cost
    default: float
    meaning: str = ""


@dataclass(frozen=True, slots=True)
class ScalerKind:
    """A scaler as the registry lists it: `build(limits, **parameters)` makes one."""

    build: Callable[..., Scaler]
    knob: Knob | None
    summary: str
    upstream: dict[str, Any] | None = None  # default settings of the product it models, shown as a row of their own
    stabilisation: str = ""  # the parameter, seconds, for which it waits before it scales in; "": it has none
    native_s: float = 0.0  # between two decisions of the product it models; 0: as often as it is asked
    lacks: dict[str, str] = field(default_factory=dict)  # properties of rlscale.checks its model lacks -> why
    lacks_at: dict[str, str] = field(default_factory=dict)  # those lacking with some other settings than the default
    roles: bool = True  # whether it can scale prefill and decode pools, which share every request


@dataclass(frozen=True, slots=True)
class Observation:
    """What a scaler may see at a decision. Metrics come from the last scrape that had arrived and may be NaN.

    Metrics of a failed scrape are NaN and `age_s` grows; the fleet counts come from the control plane and are
    always current.
    """

    t_s: Any  # time of the decision
    week_s: Any  # seconds since Monday 00:00
    interval_s: float
    age_s: Any  # age of the newest metric
    arrival_per_s: Any  # mean arrival rate over the scraped window
    waiting: Any  # requests in the queue at the scrape
    running: Any  # requests holding a seat at the scrape
    ttft_s: Any  # mean TTFT of the window
    tpot_s: Any  # mean TPOT of the window
    attainment: Any  # share of the window's outcomes within the SLO, 0 to 1
    dropped_per_s: Any
    ready: Any  # (P,) replicas serving, at the decision
    pending: Any  # (P,) replicas ordered and not ready
    pending_by_age: Any  # (P, len(PENDING_AGES_S) + 1) pending replicas by age since order
    draining: Any  # (P,)
    target: Any  # (P,) last bounded target
    ready_at_scrape: Any  # (P,) replicas serving when the metrics were taken
    compute_occupancy: Any  # (P,) running / (ready * sequences per replica at l_SLO)
    memory_occupancy: Any  # (P,) resident KV / capacity
    forecast_per_s: Any = math.nan  # arrival rate expected one lead time ahead
    limits: ScalingLimits | None = None
    standby: Any = 0  # (P,) replicas standing by or on the way there
    carbon_g_per_kwh: Any = 0.0  # (P,) of the electricity now
    usd_per_kwh: Any = 0.0  # (P,)
    work_waiting: Any = 0.0  # deferrable tokens that have come and are not done
    work_urgent: Any = 0.0  # those of them that are due within an hour
    ttft_p90_s: Any = math.nan  # of the window, by latency histograms; an upper edge of a bucket
    tpot_p90_s: Any = math.nan
    prompt_tokens: Any = math.nan  # mean of the requests that finished in the window
    answer_tokens: Any = math.nan
    decode_waiting: Any = 0.0  # sequences with a first token that no decode pool has begun, those on the way included


PENDING_AGES_S = (30.0, 60.0, 120.0, 240.0, 480.0, 960.0)  # edges of the age classes of pending replicas


@dataclass(frozen=True, slots=True, eq=False)
class ScalingLimits:
    """What a scaler may know of the cluster before the run starts; constant through it, so it is compared by identity
    and what follows from it is computed once."""

    min_replicas: Ints  # (P,)
    max_replicas: Ints  # (P,)
    capacity_per_s: Floats  # (P,) l_SLO: arrivals per second one replica carries within the SLO
    seats: Floats  # (P,) sequences per replica at l_SLO
    start_median_s: Floats  # (P,) lead time of a replica that needs a new node
    start_p95_s: Floats
    usd_per_replica_s: Floats  # (P,)
    slo: Slo
    drain_s: float
    max_standby: Ints = field(default_factory=lambda: np.zeros(8, np.int64))  # (P,)
    watts_per_replica: Floats = field(default_factory=lambda: np.zeros(8))  # (P,) at l_SLO, host and PUE included
    work_tokens_per_s: Floats = field(default_factory=lambda: np.zeros(8))  # (P,) deferrable, idle replica
    spot: tuple[bool, ...] = ()  # (P,) whether it can be taken away; (): no pool
    zones: tuple[str, ...] = ()  # (P,) "region/zone"; (): all in one
    roles: tuple[Role, ...] = ()  # (P,) which part of a request; (): each does both

    @property
    def sides(self) -> tuple[tuple[int, ...], ...]:
        """Pools that replace one another: all of them, or those of prefill and those of decode. A service carries what
        the weaker side carries."""
        if "decode" not in self.roles:
            return (tuple(range(len(self.capacity_per_s))),)
        return tuple(tuple(p for p, role in enumerate(self.roles) if role == side) for side in ("prefill", "decode"))

    @property
    def cheapest(self) -> tuple[int, ...]:
        """The pool with the lowest price of capacity on each side."""
        price = self.usd_per_replica_s / self.capacity_per_s
        return tuple(side[int(np.argmin(price[list(side)]))] for side in self.sides)

    @property
    def reference_per_s(self) -> float:
        """What a replica of the cheapest pool carries; with prefill and decode pools, a replica of a fleet of both in
        which neither has more than the other needs."""
        each = [float(self.capacity_per_s[pool]) for pool in self.cheapest]
        return each[0] if len(each) == 1 else 1.0 / sum(1.0 / one for one in each)


class Scaler(Protocol):
    """Anything that decides."""

    def reset(self) -> None:
        """Forget the previous run."""
        ...

    def decide(self, seen: Observation) -> Decision:
        """The wanted replicas, given what can be seen."""
        ...
