"""The four ServeGen services as settings of the multi-tenant family. Knows numbers only.

Source: ServeGen (Apache-2.0), rates per client and ten minutes. Number of clients, mean rate, spread of the client
rates and variation of the inter-arrivals are measured. `largest`, the correlation of rate and variation with its
seed, and the noises are tuned so that the shares of the first clients, the rate-weighted variation, the residual of
the log rate and the day means (m-large: 175 to 279 in eight days, m-small: 933 to 1438 in fourteen) come out as
measured. The 37 empty windows of m-small are outages and no part of it.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

# fmt: off
SERVICES: Mapping[str, Mapping[str, Any]] = MappingProxyType({
    "m-small": {
        "clients": 43, "rate_per_s": 1174.0, "tokens": "servegen-small", "rate_sigma": 2.7, "largest": 160.0,
        "cv_median": 1.2, "cv_p95": 9.1, "cv_rate_correlation": 0.15, "service_seed": 1, "profile": "servegen-m-small",
        "client_sigma": 0.25, "shared_sigma": 0.22, "noise_s": 2700.0, "day_sigma": 0.1,
    },
    "m-large": {
        "clients": 139, "rate_per_s": 214.0, "tokens": "api", "rate_sigma": 2.7, "largest": 300.0,
        "cv_median": 1.15, "cv_p95": 9.4, "cv_rate_correlation": 0.1, "profile": "servegen-m-small",
        "client_sigma": 0.25, "shared_sigma": 0.22, "noise_s": 2200.0, "day_sigma": 0.16,
    },
    "deepseek-r1": {
        "clients": 73, "rate_per_s": 16.0, "tokens": "reasoning", "rate_sigma": 1.8, "largest": 200.0,
        "cv_median": 1.0, "cv_p95": 5.8, "cv_rate_correlation": 0.0, "service_seed": 4,
        "profile": "servegen-deepseek-r1",
        "client_sigma": 0.25, "shared_sigma": 0.24, "noise_s": 700.0,
    },
    # No row of lengths is published for mm-image: those of m-large stand in.
    "mm-image": {
        "clients": 35, "rate_per_s": 9.5, "tokens": "api", "rate_sigma": 1.8, "largest": 15.0,
        "cv_median": 1.4, "cv_p95": 6.4, "cv_rate_correlation": 0.1, "service_seed": 1, "profile": "servegen-mm-image",
        "client_sigma": 0.25, "shared_sigma": 0.08, "noise_s": 600.0,
    },
})
# fmt: on
