"""Scaling limits as a JSON file, so that a process which only serves needs neither scenario nor simulator.

One entry per pool, units in the names; what is infinite is left out. The file can be written by hand: maxima, prices
and the capacity of a replica are the operator's to change.
"""

from __future__ import annotations

import hashlib
import json
import math
from pathlib import Path
from typing import Any, Literal

import numpy as np
from pydantic import Field, ValidationError, model_validator

from rlscale.artefact import KIB, parse_json, read_limited
from rlscale.errors import PolicyError
from rlscale.strict import Strict
from rlscale.types import Floats, Ints, ScalingLimits, Slo

LIMITS = "limits.json"
SCHEMA: Literal[1] = 1
MOST_BYTES, MOST_POOLS, MOST_REPLICAS = 256 * KIB, 256, 1_000_000


class _Slo(Strict):
    ttft_s: float = Field(gt=0)
    tpot_s: float | None = Field(None, gt=0)
    ttft_tokens_per_s: float | None = Field(None, gt=0)
    attainment: float = Field(0.99, gt=0, lt=1)


class _Pool(Strict):
    min_replicas: int = Field(ge=0, le=MOST_REPLICAS)
    max_replicas: int = Field(ge=1, le=MOST_REPLICAS)
    capacity_per_s: float = Field(gt=0)
    seats: float = Field(gt=0)
    start_median_s: float = Field(ge=0)
    start_p95_s: float = Field(ge=0)
    usd_per_replica_s: float = Field(ge=0)
    max_standby: int = Field(0, ge=0, le=MOST_REPLICAS)
    watts_per_replica: float = Field(0.0, ge=0)
    work_tokens_per_s: float = Field(0.0, ge=0)
    spot: bool | None = None
    zone: str | None = Field(None, max_length=200)
    role: Literal["both", "prefill", "decode"] | None = None

    @model_validator(mode="after")
    def _ordered(self) -> _Pool:
        if self.max_replicas < self.min_replicas:
            raise ValueError(f"max_replicas {self.max_replicas} is below min_replicas {self.min_replicas}; swap them")
        return self


class _File(Strict):
    rlscale_limits: Literal[1]
    scenario: str | None = Field(None, max_length=200)
    scenario_hash: str | None = Field(None, max_length=200)
    slo: _Slo
    drain_s: float = Field(gt=0)
    interval_s: float | None = Field(None, gt=0, le=3600)
    pools: list[_Pool] = Field(min_length=1, max_length=MOST_POOLS)

    @model_validator(mode="after")
    def _alike(self) -> _File:
        for name in ("spot", "zone", "role"):
            said = [getattr(pool, name) is not None for pool in self.pools]
            if any(said) and not all(said):
                raise ValueError(f"{name} is said of some pools only; say it of all or of none")
        roles = {pool.role for pool in self.pools} - {None, "both"}
        if roles and (roles != {"prefill", "decode"} or any(pool.role == "both" for pool in self.pools)):
            raise ValueError("roles: expected prefill and decode pools and no other, or none at all")
        return self


def limits_text(
    known: ScalingLimits, scenario: str | None = None, scenario_hash: str | None = None, interval_s: float | None = None
) -> str:
    """The file's content; `parse_limits` gives equal limits back, to the last bit. The interval is the scenario's."""
    pools = [
        {
            "min_replicas": int(known.min_replicas[p]), "max_replicas": int(known.max_replicas[p]),
            **{name: float(getattr(known, name)[p]) for name in _PER_POOL},
            "max_standby": int(known.max_standby[p]),
            **({"spot": bool(known.spot[p])} if known.spot else {}),
            **({"zone": known.zones[p]} if known.zones else {}),
            **({"role": known.roles[p]} if known.roles else {}),
        }
        for p in range(len(known.min_replicas))
    ]  # fmt: skip
    slo = {name: getattr(known.slo, name) for name in ("ttft_s", "tpot_s", "ttft_tokens_per_s", "attainment")}
    said = {"scenario": scenario, "scenario_hash": scenario_hash, "interval_s": interval_s}
    data = {
        "rlscale_limits": SCHEMA, **{name: value for name, value in said.items() if value is not None},
        "slo": {name: float(value) for name, value in slo.items() if math.isfinite(value)},
        "drain_s": float(known.drain_s), "pools": pools,
    }  # fmt: skip
    return json.dumps(data, indent=1) + "\n"


def parse_limits(data: bytes, where: object) -> ScalingLimits:
    """Limits out of the file's content. Raises PolicyError that names every field that is wrong."""
    return parse_limits_interval(data, where)[0]


def parse_limits_interval(data: bytes, where: object) -> tuple[ScalingLimits, float | None]:
    """The same, and the control interval in seconds where the file says it."""
    try:
        file = _File.model_validate(parse_json(data, where))
    except ValidationError as error:
        raise PolicyError(f"{where}: {_explained(error)}") from None
    return _limits(file), file.interval_s


def _limits(file: _File) -> ScalingLimits:
    slo = file.slo

    def of(name: str) -> Floats:
        return np.array([getattr(pool, name) for pool in file.pools], np.float64)

    def whole(name: str) -> Ints:
        return np.array([getattr(pool, name) for pool in file.pools], np.int64)

    def each(name: str) -> tuple[Any, ...]:
        return tuple(getattr(pool, name) for pool in file.pools if getattr(pool, name) is not None)

    return ScalingLimits(
        min_replicas=whole("min_replicas"), max_replicas=whole("max_replicas"), max_standby=whole("max_standby"),
        slo=Slo(slo.ttft_s, slo.tpot_s or math.inf, slo.ttft_tokens_per_s or math.inf, slo.attainment),
        drain_s=file.drain_s, spot=each("spot"), zones=each("zone"), roles=each("role"),
        **{name: of(name) for name in _PER_POOL},
    )  # fmt: skip


def load_limits(path: str | Path, digest: str | None = None) -> ScalingLimits:
    """Limits out of a file, or out of the folder of a policy; `digest` is the SHA-256 that it has to have."""
    return load_limits_interval(path, digest)[0]


def load_limits_interval(path: str | Path, digest: str | None = None) -> tuple[ScalingLimits, float | None]:
    """The same, and the control interval in seconds where the file says it."""
    place = Path(path)
    place = place / LIMITS if place.is_dir() else place
    data = read_limited(place, MOST_BYTES)
    found = hashlib.sha256(data).hexdigest()
    if digest is not None and found != digest:
        raise PolicyError(f"{place}: content {found[:12]}…, the manifest says {digest[:12]}…; copy the folder again, "
                          "or name another limits file")  # fmt: skip
    return parse_limits_interval(data, place)


_PER_POOL = ("capacity_per_s", "seats", "start_median_s", "start_p95_s", "usd_per_replica_s", "watts_per_replica",
             "work_tokens_per_s")  # fmt: skip


def _explained(error: ValidationError) -> str:
    parts = []
    for item in error.errors(include_url=False):
        where = ".".join(str(part) for part in item["loc"]) or "file"
        message = str(item["msg"]).removeprefix("Value error, ").removeprefix("Input should be ")
        if item["type"] == "extra_forbidden":
            parts.append(f"unknown field '{where}'")
        elif item["type"] == "missing":
            parts.append(f"'{where}' is missing")
        elif item["type"] == "value_error":
            parts.append(f"{where}: {message}")
        else:
            parts.append(f"{where}: got {str(item['input'])[:60]}, expected {message}")
    return "; ".join(parts[:8])
