"""Staffing by queueing formulas: square-root staffing, and the Erlang C wait probability, on sequences in service.

Textbook formulas (Erlang 1917; Halfin and Whitt 1981). A server is one seat of a replica, the offered load the mean
number of busy seats, arrival rate times the time a request holds one.
"""

from __future__ import annotations

import math
from functools import lru_cache

from rlscale.decide import blind, demand_per_s, hold, positive
from rlscale.errors import ScenarioError
from rlscale.types import Decision, Knob, Observation, ScalerKind, ScalingLimits

_ROUNDING = 1e-9
_LARGE = 1e6  # offered load from which on the margin is that of the square-root law
_FAR = 6.0  # square roots of the offered load below it, from where the recursion may start


def erlang_b(servers: int, offered: float) -> float:
    """Share of arrivals lost with so many servers and no queue: B(0) = 1, B(n) = a B/(n + a B)."""
    _check(servers, offered)
    blocking = 1.0
    for n in range(1, servers + 1):
        blocking = offered * blocking / (n + offered * blocking)
    return blocking if offered > 0 or servers == 0 else 0.0


def erlang_c(servers: int, offered: float) -> float:
    """Share of arrivals that wait: B/(1 - rho (1 - B)) with rho = a/n; 1 when the servers are no more than the load."""
    blocking = erlang_b(servers, offered)
    return 1.0 if servers <= offered else blocking / (1.0 - offered / servers * (1.0 - blocking))


def wait_beyond(servers: int, offered: float, service_per_s: float, limit_s: float) -> float:
    """P(wait > t) = C exp(-(n - a) mu t), 1 for an unstable queue."""
    spare = max(0.0, servers - offered)
    return erlang_c(servers, offered) * math.exp(-spare * service_per_s * limit_s)


def erlang_c_servers(arrival_per_s: float, service_per_s: float, limit_s: float, most: float) -> int:
    """Smallest stable number of servers with P(wait > limit) <= `most`; none without arrivals.

    ScenarioError unless `most` and the service rate are numbers above 0 and the others at least 0.
    """
    positive("erlang: service_per_s", service_per_s)
    positive("erlang: most", most)
    if not (math.isfinite(arrival_per_s) and arrival_per_s >= 0 and limit_s >= 0):
        raise ScenarioError(f"erlang: arrival_per_s = {arrival_per_s}, limit_s = {limit_s}; expected at least 0")
    offered = arrival_per_s / service_per_s
    if offered <= 0:
        return 0
    # Far below the load, n servers have n/(a - n) idle on average; what that start misses vanishes on the way up.
    if offered > _LARGE:
        return math.ceil(offered + _large_beta(service_per_s, limit_s, most) * math.sqrt(offered))
    n = max(0, math.floor(offered - _FAR * math.sqrt(offered)))
    blocking = 1.0 - (n - n / (offered - n)) / offered
    while n < math.floor(offered):
        n += 1
        blocking = offered * blocking / (n + offered * blocking)
    wait = math.inf
    while wait > most:
        n += 1
        blocking = offered * blocking / (n + offered * blocking)
        wait = blocking / (1.0 - offered / n * (1.0 - blocking))
        if limit_s > 0:
            wait *= math.exp((offered - n) * service_per_s * limit_s)
    return n


@lru_cache(maxsize=64)
def _large_beta(service_per_s: float, limit_s: float, most: float) -> float:
    """Spare servers in square roots of a large load. It falls no further with the load, or as `limit_s` allows."""
    servers = erlang_c_servers(_LARGE * service_per_s, service_per_s, limit_s, most)
    return (servers - _LARGE) / math.sqrt(_LARGE)


def square_root_servers(offered: float, beta: float) -> int:
    """n = ceil(a + beta sqrt(a))."""
    _check(0, offered)
    return math.ceil(offered + beta * math.sqrt(offered) - _ROUNDING)


def _check(servers: int, offered: float) -> None:
    if servers < 0 or not (math.isfinite(offered) and offered >= 0):
        raise ScenarioError(f"erlang: {servers} servers, offered load {offered}; expected numbers of at least 0")


class Staffing:
    """Seats for the offered load and a margin, in replicas of the first pool's kind, allocated by price.

    The time a request holds its seat is that at l_SLO (seats / capacity, the longest the fleet should ever show), or
    with `residence` "measured" by Little's law running / arrivals: shorter while the fleet is calm, so less is asked.
    With `server` "replica" a replica is one server of rate capacity_per_s: a coarser and more careful model.
    """

    def __init__(self, limits: ScalingLimits, residence: str = "slo", server: str = "sequence") -> None:
        if residence not in ("slo", "measured"):
            raise ScenarioError(f"staffing: residence = {residence!r}; expected 'slo' or 'measured'")
        if server not in ("sequence", "replica"):
            raise ScenarioError(f"staffing: server = {server!r}; expected 'sequence' or 'replica'")
        self.limits = limits
        self._measured = residence == "measured"
        each = [
            (float(n), float(rate)) for n, rate in zip(limits.seats, limits.capacity_per_s, strict=True) if rate > 0
        ]
        self._seats, self._each_per_s = max(each, key=lambda pool: pool[1], default=(1.0, math.nan))
        if server == "replica":
            self._seats = 1.0

    def reset(self) -> None:
        """Nothing is remembered."""

    def decide(self, seen: Observation) -> Decision:
        """Servers for the rate and what is left of the queue."""
        why = blind(seen, arrival_per_s=seen.arrival_per_s, waiting=seen.waiting, running=seen.running)
        if not why and not math.isfinite(self._each_per_s):
            why = "no pool carries anything within the SLO"
        if why:
            return hold(seen, why)
        rate, holds_s = demand_per_s(seen, self.limits), self._holds_s(seen)
        servers = self.servers(rate, 1.0 / holds_s)
        capacity = servers / self._seats * self._each_per_s
        return Decision(reason=f"{servers} seats for a load of {rate * holds_s:.1f}", capacity_per_s=capacity)

    def servers(self, arrival_per_s: float, service_per_s: float) -> int:
        """How many, by the formula."""
        raise NotImplementedError

    def _holds_s(self, seen: Observation) -> float:
        """How long a request holds a server."""
        slowest_s = self._seats / self._each_per_s
        if self._measured and seen.arrival_per_s > 0 and seen.running > 0 and self._seats > 1.0:
            return min(slowest_s, float(seen.running / seen.arrival_per_s))
        return slowest_s


class SquareRoot(Staffing):
    """a + beta sqrt(a) servers."""

    def __init__(
        self, limits: ScalingLimits, beta: float = 1.0, residence: str = "slo", server: str = "sequence"
    ) -> None:
        super().__init__(limits, residence, server)
        self.beta = beta
        if not (math.isfinite(beta) and beta >= 0):
            raise ScenarioError(f"square-root: beta = {beta}; expected a number of at least 0")

    def servers(self, arrival_per_s: float, service_per_s: float) -> int:
        """By the square-root rule."""
        return square_root_servers(arrival_per_s / service_per_s, self.beta)


class ErlangC(Staffing):
    """The fewest servers with which at most a share `wait_share` of the requests waits longer than `wait_limit_s`."""

    def __init__(
        self,
        limits: ScalingLimits,
        wait_share: float = 0.01,
        wait_limit_s: float = 0.0,
        residence: str = "slo",
        server: str = "sequence",
    ) -> None:
        super().__init__(limits, residence, server)
        self.wait_share = positive("erlang-c: wait_share", wait_share)
        self.wait_limit_s = wait_limit_s
        if not (math.isfinite(wait_limit_s) and wait_limit_s >= 0):
            raise ScenarioError(f"erlang-c: wait_limit_s = {wait_limit_s}; expected a number of at least 0")

    def servers(self, arrival_per_s: float, service_per_s: float) -> int:
        """By the tail of the wait."""
        return erlang_c_servers(arrival_per_s, service_per_s, self.wait_limit_s, self.wait_share)


_BETAS = (0.0, 0.25, 0.5, 1.0, 1.5, 2.0, 3.0, 4.0, 6.0, 8.0, 12.0)
_SHARES = (0.9, 0.5, 0.2, 0.1, 0.05, 0.02, 0.01, 1e-3, 1e-4, 1e-6, 1e-9, 1e-14, 1e-20, 1e-30)
_MODEL = {"residence": ("choice", "slo", "measured"), "server": ("choice", "sequence", "replica")}

SCALERS = {
    "square-root": ScalerKind(
        SquareRoot,
        Knob("beta", _BETAS, 1.0, "spare seats in square roots of the offered load"),
        "square-root staffing of seats for the offered load",
    ),
    "erlang-c": ScalerKind(
        ErlangC,
        Knob("wait_share", _SHARES, 0.01, "share of the requests that may wait for a seat"),
        "the fewest seats with which few enough requests wait, by Erlang C",
    ),
}

SEARCH: dict[str, dict[str, tuple[object, ...]]] = {
    "square-root": {"beta": ("float", 0.0, 12.0), **_MODEL},
    "erlang-c": {"wait_share": ("log", 1e-60, 0.9), "wait_limit_s": ("float", 0.0, 5.0), **_MODEL},
}
