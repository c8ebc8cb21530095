"""No metrics at all: for scalers that need none, and for services that are told everything by whoever asks them."""

from __future__ import annotations

from rlscale.deploy.base import Reading
from rlscale.deploy.kinds import Kind, Site
from rlscale.strict import Strict


class NoMetricsConfig(Strict):
    """`metrics: {kind: none}`."""


class NoMetrics:
    """Every metric is unknown, and as young as the clock."""

    def __init__(self, site: Site) -> None:
        self._clock = site.clock

    def read(self) -> Reading:
        """Nothing."""
        return Reading(self._clock.unix_s())

    def close(self) -> None:
        """Nothing is open."""


def _build(options: NoMetricsConfig, site: Site) -> NoMetrics:
    return NoMetrics(site)


KIND = Kind(NoMetricsConfig, _build)
