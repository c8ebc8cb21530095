"""What KEDA's questions come to, by their metadata: a pool of a service, and a number of replicas. Knows no gRPC."""

from __future__ import annotations

import re
from collections.abc import Mapping

from rlscale.deploy.keda.board import Board, StaleError
from rlscale.errors import nearest

METRIC = "rlscale-desired-replicas"
TARGET = 1  # wanted replicas per replica: the HPA divides by it
MAX_NAME = 253  # a longer one cannot be a Kubernetes name, and is not compared with those that are

_INDEXED = re.compile(r"(?:s\d{1,4}-)?" + re.escape(METRIC))  # KEDA numbers triggers, and mostly takes the number off


class RefusedError(Exception):
    """A question without an answer: the name of a gRPC status code, and a sentence."""

    def __init__(self, code: str, text: str) -> None:
        super().__init__(text)
        self.code, self.text = code, text


def desired(board: Board, metadata: Mapping[str, str]) -> int:
    """Wanted replicas of what the metadata names. Raises RefusedError."""
    service, pool = which(board, metadata)
    try:
        return board.wanted(service, pool)
    except StaleError as error:
        raise RefusedError("UNAVAILABLE", str(error)) from None


def which(board: Board, metadata: Mapping[str, str]) -> tuple[str, str]:
    """Service and pool, both optional where there is one only. Other keys are KEDA's own, such as `scalerAddress`."""
    service = _pick("service", metadata, tuple(board.services))
    return service, _pick("pool", metadata, board.services[service].pools)


def check_metric(name: str) -> None:
    """Refuse to answer for a metric of another name."""
    if not name:
        raise RefusedError("INVALID_ARGUMENT", f"metricName is missing; expected '{METRIC}'")
    if len(name) > MAX_NAME or not _INDEXED.fullmatch(name):
        raise RefusedError("NOT_FOUND", f"unknown metric {_short(name)}; the only one is '{METRIC}'")


def _pick(key: str, metadata: Mapping[str, str], known: tuple[str, ...]) -> str:
    name = metadata.get(key, "")
    if not known:
        raise RefusedError("UNAVAILABLE", "nothing is served yet; the fleet is to stay as it is")
    if not name and len(known) == 1:
        return known[0]
    if not name:
        raise RefusedError(
            "INVALID_ARGUMENT", f"metadata lacks '{key}', and there are {len(known)}; add it to the trigger's metadata"
        )
    if name not in known:
        hint = nearest(name, known) if len(name) <= MAX_NAME else "no name is that long"
        raise RefusedError("NOT_FOUND", f"unknown {key} {_short(name)}; {hint}")
    return name


def _short(name: str) -> str:
    return repr(name if len(name) <= 60 else name[:60] + "...")
