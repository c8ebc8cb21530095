"""Action maps: from what an agent outputs to bounded targets, for many clusters at once and for one alike.

A map is a frozen value that the policy folder stores, so that training and deployment use the same lines. `sizes` says
what an agent chooses from: one number for a discrete choice, several for one choice per pool, none for a number
in [-1, 1].
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from functools import lru_cache
from typing import Any, ClassVar, Protocol

import numpy as np
from numpy.typing import NDArray

from rlscale.allocation import allocate_many
from rlscale.errors import PolicyError, nearest
from rlscale.execute import by_price
from rlscale.sides import step_level
from rlscale.types import Ints, Observation, ScalingLimits

# Multiples of the demand estimate. Below 1 to shrink ahead of a falling load, far above for standing headroom.
LEVELS = (0.8, 0.9, 0.95, 1.0, 1.05, 1.1, 1.15, 1.2, 1.3, 1.45, 1.7, 2.1)
CALIBRATED = 1.2
STEPS = (-4, -2, -1, 0, 1, 2, 4)
_ROUNDING = 1e-9


class ActionMap(Protocol):
    """What an agent's output means."""

    @property
    def kind(self) -> str:
        """Name in policy folders and on the command line."""

    def sizes(self, pools: int) -> tuple[int, ...]:
        """Choices per dimension; empty for one number in [-1, 1]."""

    def targets(self, actions: NDArray[Any], seen: Observation, known: ScalingLimits) -> Ints:
        """(n, P) bounded targets for (n,) or (n, dimensions) actions; rows whose metrics are missing hold theirs."""

    def mask(self, seen: Observation, known: ScalingLimits) -> NDArray[np.bool_]:
        """(n, choices of all dimensions) which of them change what they say, given the limits."""

    def words(self, action: Any) -> str:
        """One action in words, for logs."""

    def neutral(self) -> int:
        """The choice, in every dimension, that an agent which knows nothing yet should prefer."""


@dataclass(frozen=True, slots=True)
class Headroom:
    """A level times the demand estimate (rate + backlog / drain_s), allocated to the cheapest pools first.

    The demand is that of the reactive rule, so the agent learns what to correct of it. Clusters whose metrics are
    missing hold their targets.
    """

    levels: tuple[float, ...] = LEVELS
    kind: ClassVar[str] = "headroom"

    def sizes(self, pools: int) -> tuple[int, ...]:
        """One choice of a level."""
        return (len(self.levels),)

    def targets(self, actions: NDArray[Any], seen: Observation, known: ScalingLimits) -> Ints:
        """See `headroom_targets`."""
        return headroom_targets(_array(self.levels)[actions], seen, known)

    def mask(self, seen: Observation, known: ScalingLimits) -> NDArray[np.bool_]:
        """Every level is feasible: the limits bound what it asks for."""
        return np.ones((_rows(seen), len(self.levels)), np.bool_)

    def words(self, action: Any) -> str:
        """`1.2 x demand`."""
        return f"{self.levels[int(action)]:g} x demand"

    def neutral(self) -> int:
        """The level of the calibrated reactive rule."""
        return int(np.argmin(np.abs(np.asarray(self.levels) - CALIBRATED)))


@dataclass(frozen=True, slots=True)
class Continuous:
    """A number in [-1, 1] between the lowest and the highest level, on a logarithmic scale."""

    lowest: float = LEVELS[0]
    highest: float = LEVELS[-1]
    kind: ClassVar[str] = "continuous"

    def sizes(self, pools: int) -> tuple[int, ...]:
        """A number, not a choice."""
        return ()

    def targets(self, actions: NDArray[Any], seen: Observation, known: ScalingLimits) -> Ints:
        """See `headroom_targets`."""
        return headroom_targets(self._level(np.asarray(actions, np.float64).reshape(_rows(seen))), seen, known)

    def mask(self, seen: Observation, known: ScalingLimits) -> NDArray[np.bool_]:
        """There is nothing to choose from."""
        return np.ones((_rows(seen), 0), np.bool_)

    def words(self, action: Any) -> str:
        """`1.234 x demand`."""
        return f"{float(self._level(np.asarray(action, np.float64).reshape(1))[0]):.4g} x demand"

    def neutral(self) -> int:
        """There are no choices."""
        return 0

    def _level(self, actions: NDArray[np.float64]) -> NDArray[np.float64]:
        share = (np.clip(actions, -1.0, 1.0) + 1.0) / 2.0
        return np.asarray(self.lowest * (self.highest / self.lowest) ** share)


@dataclass(frozen=True, slots=True)
class Delta:
    """Replicas more or fewer than the last bounded target, of the cheapest pool; the others keep theirs.

    With prefill and decode pools each replica comes to the side that carries less, or goes from the one that carries
    more, so that the step is one of the service.
    """

    steps: tuple[int, ...] = STEPS
    kind: ClassVar[str] = "delta"

    def sizes(self, pools: int) -> tuple[int, ...]:
        """One choice of a step."""
        return (len(self.steps),)

    def targets(self, actions: NDArray[Any], seen: Observation, known: ScalingLimits) -> Ints:
        """Within the limits; a step beyond them goes as far as they allow."""
        target = _targets(seen).copy()
        step = _array(self.steps)[np.asarray(actions).reshape(len(target))]
        if known.roles:
            return np.array([step_level(row, int(one) if see else 0, known)
                             for row, one, see in zip(target, step, _can_see(seen), strict=True)])  # fmt: skip
        target[:, by_price(known)[0]] += step * _can_see(seen)
        return _bounded(target, known)

    def mask(self, seen: Observation, known: ScalingLimits) -> NDArray[np.bool_]:
        """Steps that stay within the limits; standing still always does."""
        if known.roles:
            moved = [[step_level(row, step, known).sum() - row.sum() == step for step in self.steps] for row in
                     _targets(seen)]  # fmt: skip
            return np.array(moved, np.bool_)
        pool = by_price(known)[0]
        return _feasible(_targets(seen)[:, pool], self.steps, known, pool)

    def words(self, action: Any) -> str:
        """`+2 replicas`."""
        return f"{self.steps[int(action)]:+d} replicas"

    def neutral(self) -> int:
        """Standing still."""
        return self.steps.index(0)


@dataclass(frozen=True, slots=True)
class PoolDeltas:
    """One step per pool."""

    steps: tuple[int, ...] = STEPS
    kind: ClassVar[str] = "pool-deltas"

    def sizes(self, pools: int) -> tuple[int, ...]:
        """One choice per pool."""
        return (len(self.steps),) * pools

    def targets(self, actions: NDArray[Any], seen: Observation, known: ScalingLimits) -> Ints:
        """Within the limits of every pool."""
        target = _targets(seen)
        step = _array(self.steps)[np.asarray(actions).reshape(target.shape)]
        return _bounded(target + step * _can_see(seen)[:, None], known)

    def mask(self, seen: Observation, known: ScalingLimits) -> NDArray[np.bool_]:
        """Side by side, pool after pool."""
        target = _targets(seen)
        return np.concatenate([_feasible(target[:, p], self.steps, known, p) for p in range(target.shape[1])], axis=1)

    def words(self, action: Any) -> str:
        """`+2, +0, -1 replicas`."""
        return ", ".join(f"{self.steps[int(choice)]:+d}" for choice in action) + " replicas"

    def neutral(self) -> int:
        """Standing still."""
        return self.steps.index(0)


@dataclass(frozen=True, slots=True)
class Vertical:
    """Steps on the pool that carries most, or all of it moved to the pool of the next smaller or larger replica.

    The move asks for as many replicas as carry the same; pools of one family hand their nodes over for it. The old
    replicas drain at once: what the move costs is the time until the new ones are ready.
    """

    steps: tuple[int, ...] = STEPS
    kind: ClassVar[str] = "vertical"

    def sizes(self, pools: int) -> tuple[int, ...]:
        """The steps, then smaller, then larger."""
        return (len(self.steps) + 2,)

    def targets(self, actions: NDArray[Any], seen: Observation, known: ScalingLimits) -> Ints:
        """Within the limits; rows whose metrics are missing hold theirs."""
        target = _targets(seen).copy()
        chosen = np.asarray(actions).reshape(len(target))
        active, by_size = _active(target, known), np.argsort(known.capacity_per_s, kind="stable")
        for r in np.flatnonzero(_can_see(seen)):
            pool, choice = int(active[r]), int(chosen[r])
            if choice < len(self.steps):
                target[r, pool] += self.steps[choice]
                continue
            place = int(np.flatnonzero(by_size == pool)[0]) + (1 if choice > len(self.steps) else -1)
            if 0 <= place < len(by_size):
                other = int(by_size[place])
                moved = target[r, pool] * known.capacity_per_s[pool] / known.capacity_per_s[other]
                target[r, other] += math.ceil(moved - _ROUNDING)
                target[r, pool] = 0
        return _bounded(target, known)

    def mask(self, seen: Observation, known: ScalingLimits) -> NDArray[np.bool_]:
        """Steps within the limits of the pool that carries most; moves where there is such a pool."""
        target = _targets(seen)
        active = _active(target, known)
        rank = np.argsort(np.argsort(known.capacity_per_s, kind="stable"), kind="stable")[active]
        steps = np.array([_feasible(row[pool : pool + 1], self.steps, known, int(pool))[0]
                          for row, pool in zip(target, active, strict=True)])  # fmt: skip
        return np.column_stack([steps, rank > 0, rank < len(known.capacity_per_s) - 1])

    def words(self, action: Any) -> str:
        """`+2 replicas`, `smaller replicas` or `larger replicas`."""
        choice = int(action)
        if choice < len(self.steps):
            return f"{self.steps[choice]:+d} replicas"
        return "larger replicas" if choice > len(self.steps) else "smaller replicas"

    def neutral(self) -> int:
        """Standing still."""
        return self.steps.index(0)


def _active(target: Ints, known: ScalingLimits) -> Ints:
    """(n,) the pool that carries most."""
    return np.asarray(np.argmax(target * known.capacity_per_s, axis=1))


MAPS: dict[str, Any] = {
    "headroom": Headroom, "continuous": Continuous, "delta": Delta, "pool-deltas": PoolDeltas, "vertical": Vertical,
}  # fmt: skip


def action_map(name: str, **settings: Any) -> ActionMap:
    """A map by its name; settings that it does not have are refused."""
    if name not in MAPS:
        raise PolicyError(f"unknown action map '{name}'; {nearest(name, MAPS)}")
    values = {key: tuple(value) if isinstance(value, list) else value for key, value in settings.items()}
    try:
        found: ActionMap = MAPS[name](**values)
    except TypeError as error:
        raise PolicyError(f"action map '{name}': {error}") from None
    return found


def described(actions: ActionMap) -> dict[str, Any]:
    """For a manifest; `action_map(**described(m))` gives the map back."""
    return {"name": actions.kind, **asdict(actions)}  # type: ignore[call-overload]


def from_manifest(entry: Mapping[str, Any]) -> ActionMap:
    """The map a manifest describes."""
    if not isinstance(entry, Mapping) or "name" not in entry:
        raise PolicyError(f"action map {entry!r}; expected a mapping with a name")
    return action_map(**entry)


def headroom_targets(levels: NDArray[np.float64], seen: Observation, known: ScalingLimits) -> Ints:
    """(n, P) targets for a level per cluster; clusters whose metrics are missing hold theirs."""
    demand_per_s = np.atleast_1d(seen.arrival_per_s + np.maximum(seen.waiting, seen.decode_waiting) / known.drain_s)
    return allocate_many(levels * demand_per_s, known, _targets(seen))


@lru_cache(maxsize=64)
def _array(values: tuple[float, ...]) -> NDArray[Any]:
    """The choices of a map, to be indexed by actions."""
    return np.array(values)


def _rows(seen: Observation) -> int:
    return len(np.atleast_1d(seen.arrival_per_s))


def _can_see(seen: Observation) -> NDArray[np.bool_]:
    """(n,) where the metrics that a decision needs are there."""
    return np.asarray(np.isfinite(np.atleast_1d(seen.arrival_per_s + seen.waiting)))


def _targets(seen: Observation) -> Ints:
    return np.atleast_2d(np.asarray(seen.target, dtype=np.int64))


def _bounded(target: Ints, known: ScalingLimits) -> Ints:
    return np.clip(target, known.min_replicas, known.max_replicas).astype(np.int64)


def _feasible(now: Ints, steps: tuple[int, ...], known: ScalingLimits, pool: int) -> NDArray[np.bool_]:
    then = now[:, None] + np.asarray(steps)
    inside = (then >= known.min_replicas[pool]) & (then <= known.max_replicas[pool])
    return np.asarray(inside | (np.asarray(steps) == 0))
