"""The newest order of every service, for as long as it may be told. Knows neither gRPC nor where orders come from."""

from __future__ import annotations

import operator
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from rlscale.deploy.base import BackendError, LiveConfigError

MAX_REPLICAS = 2**31 - 1  # Kubernetes counts replicas in int32


class StaleError(BackendError):
    """There is no order that may be told: none has come, the newest is too old, or it was withdrawn."""


@dataclass(frozen=True, slots=True)
class Served:
    """A service as KEDA names it. `min_replicas` per pool: an order below it is refused, so zero is never told unless
    it is allowed."""

    service: str
    pools: tuple[str, ...]
    min_replicas: tuple[int, ...]

    def __post_init__(self) -> None:
        if not self.service or not self.pools or not all(self.pools) or len(set(self.pools)) < len(self.pools):
            raise LiveConfigError(
                f"service '{self.service}' with pools {self.pools}: expected names, each pool its own"
            )
        if len(self.min_replicas) != len(self.pools) or min(self.min_replicas) < 0:
            raise LiveConfigError(
                f"service '{self.service}': min_replicas={self.min_replicas} for pools {self.pools}; expected a number "
                "of 0 or more for each"
            )


@dataclass(frozen=True, slots=True)
class Order:
    """Replicas per pool, and when they were asked for, steady time."""

    target: tuple[int, ...]
    at_s: float


class Board:
    """Orders by service. Publishing and asking may happen in any thread."""

    def __init__(self, stale_s: float, steady_s: Callable[[], float]) -> None:
        self._stale_s, self._steady_s = stale_s, steady_s
        self._served: dict[str, Served] = {}
        self._orders: dict[str, Order] = {}
        self._left: set[str] = set()
        self._changed = threading.Condition()
        self._version = 0
        self.closed = False

    def serve(self, served: Served) -> None:
        """Tell of one more service, or again of one that was left."""
        with self._changed:
            if served.service in self._served and served.service not in self._left:
                raise LiveConfigError(f"service '{served.service}' is there twice; give each service its own name")
            self._left.discard(served.service)
            self._served = {**self._served, served.service: served}

    @property
    def services(self) -> dict[str, Served]:
        """What is served, by name. Not to be changed."""
        return self._served

    def publish(self, service: str, target: Sequence[int]) -> Order:
        """The order that holds from now on. Raises BackendError and keeps the old one when it is none."""
        order = Order(_checked(self._served[service], target), self._steady_s())
        with self._changed:
            self._orders[service] = order
        self.wake()
        return order

    def withdraw(self, service: str) -> None:
        """Tell nothing of a service until its next order."""
        with self._changed:
            self._orders.pop(service, None)
        self.wake()

    def leave(self, service: str) -> bool:
        """Withdraw for good; returns whether another service is left.

        The name stays known, so that a question without one is not taken for another service.
        """
        self.withdraw(service)
        with self._changed:
            self._left.add(service)
            return bool(self._served.keys() - self._left)

    def wanted(self, service: str, pool: str) -> int:
        """Replicas asked for. Raises StaleError."""
        if self.closed:
            raise StaleError("the server is stopping; the fleet is to stay as it is")
        order = self._orders.get(service)
        if order is None:
            raise StaleError(f"service '{service}' has no order yet; the fleet is to stay as it is")
        age_s = self._steady_s() - order.at_s
        if not 0.0 <= age_s <= self._stale_s:
            raise StaleError(
                f"the last order of service '{service}' is {age_s:.0f} s old, the limit is {self._stale_s:g} s; "
                "the fleet is to stay as it is"
            )
        return order.target[self._served[service].pools.index(pool)]

    def age_s(self, service: str) -> float | None:
        """Seconds since the order; None when there is none."""
        order = self._orders.get(service)
        return None if order is None else self._steady_s() - order.at_s

    def order_of(self, service: str) -> tuple[int, ...] | None:
        """The newest order, stale or not; None when there is none."""
        order = self._orders.get(service)
        return None if order is None else order.target

    def is_fresh(self) -> bool:
        """Whether every service has an order that may be told."""
        ages = [self.age_s(service) for service in self._served if service not in self._left]
        return bool(ages) and not self.closed and all(age is not None and age <= self._stale_s for age in ages)

    @property
    def version(self) -> int:
        """Grows with every change."""
        return self._version

    def wait(self, version: int, timeout_s: float) -> None:
        """Return when the board has another version than this one, or after the timeout."""
        with self._changed:
            self._changed.wait_for(lambda: self._version != version, timeout_s)

    def wake(self) -> None:
        """Let everyone who waits look again."""
        with self._changed:
            self._version += 1
            self._changed.notify_all()

    def close(self) -> None:
        """Tell nothing any more."""
        self.closed = True
        self.wake()


def _checked(served: Served, target: Sequence[int]) -> tuple[int, ...]:
    try:
        whole = tuple(operator.index(wanted) for wanted in target)
    except TypeError:
        raise BackendError(f"order {target!r} of service '{served.service}': expected whole numbers") from None
    if len(whole) != len(served.pools):
        raise BackendError(
            f"order {whole} of service '{served.service}': expected one number for each of {served.pools}"
        )
    for pool, wanted, least in zip(served.pools, whole, served.min_replicas, strict=True):
        if not least <= wanted <= MAX_REPLICAS:
            raise BackendError(
                f"order of {wanted} replicas for pool '{pool}' of service '{served.service}': expected {least} "
                f"to {MAX_REPLICAS}"
            )
    return whole
