"""A backend that orders nothing: what would have been ordered is in the audit log and on the metrics page."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from pydantic import Field

from rlscale.deploy.base import Backend, Fleet, LiveConfigError
from rlscale.deploy.kinds import Kind, Site, build
from rlscale.strict import Strict


class DryRunConfig(Strict):
    """`backend: {kind: dry-run}`."""

    replicas: list[int] | None = Field(None, description="per pool, at first; default: the smallest fleet allowed")
    start_s: float = Field(0.0, ge=0, description="seconds until an imagined replica is ready")
    watch: dict[str, Any] | None = Field(
        None, description="another backend whose fleet is read and never changed, instead of an imagined one"
    )


class DryRun:
    """An imagined fleet that does as it is told after `start_s`, or the fleet of a backend that is only watched."""

    tolerance = 0.0

    def __init__(
        self, replicas: tuple[int, ...], start_s: float, steady_s: Callable[[], float], watched: Backend | None = None
    ) -> None:
        self._ready, self._start_s, self._steady_s, self._watched = replicas, start_s, steady_s, watched
        self._wanted, self._ordered_s = replicas, -float("inf")

    def fleet(self) -> Fleet:
        """The imagined or watched one."""
        if self._watched is not None:
            return self._watched.fleet()
        if self._steady_s() - self._ordered_s >= self._start_s:
            self._ready = self._wanted
        ready = tuple(min(now, wanted) for now, wanted in zip(self._ready, self._wanted, strict=True))
        pending = tuple(wanted - now for now, wanted in zip(ready, self._wanted, strict=True))
        return Fleet(ready, pending, self._wanted)

    def order(self, target: tuple[int, ...]) -> None:
        """Imagine it."""
        if target != self._wanted:
            self._ready = self.fleet().ready if self._watched is None else self._ready
            self._wanted, self._ordered_s = target, self._steady_s()

    def close(self) -> None:
        """Nothing is open but what is watched."""
        if self._watched is not None:
            self._watched.close()


def _build(options: DryRunConfig, site: Site) -> DryRun:
    least = [int(count) for count in site.limits.min_replicas]
    if options.replicas is not None and len(options.replicas) != len(least):
        raise LiveConfigError(f"backend.replicas: {len(options.replicas)} pools, expected {len(least)}")
    watched = None if options.watch is None else build("backend", options.watch, site, "backend.watch")
    return DryRun(tuple(options.replicas or least), options.start_s, site.clock.steady_s, watched)


KIND = Kind(DryRunConfig, _build)
