"""A KEDA external scaler: KEDA asks over gRPC how many replicas are wanted, and the HPA it keeps sets them.

The wanted number N is the metric `rlscale-desired-replicas` with a target of 1 per replica (AverageValue), so that the
HPA computes ceil(N / 1). It leaves the fleet alone while N is within its tolerance of what runs, 10 % by default. No
scale of the metric gets around that: the HPA compares the ratio metric / (target * replicas), in which a common factor
of metric and target cancels. A smaller change gets through only when it is enlarged before it is ordered, or with a
smaller tolerance in the HPA's `behavior` on clusters that know that field.

What is not known is never answered with a number: without a fresh order every call fails with UNAVAILABLE, upon which
KEDA and the HPA leave the fleet as it is.
"""

from __future__ import annotations

from rlscale.deploy.keda.backend import KedaBackend
from rlscale.deploy.keda.board import Served
from rlscale.deploy.keda.config import KedaConfig, TlsConfig
from rlscale.deploy.keda.fleets import CountedFleet
from rlscale.deploy.keda.kind import KIND
from rlscale.deploy.keda.server import KedaServer

__all__ = ["KIND", "CountedFleet", "KedaBackend", "KedaConfig", "KedaServer", "Served", "TlsConfig"]
