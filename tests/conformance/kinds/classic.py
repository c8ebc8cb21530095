"""Cases of the textbook forecasts, staffing formulas and the allocation program."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from agents.erlang import erlang_b, erlang_c, erlang_c_servers, square_root_servers
from rlscale.errors import ScenarioError
from rlscale.lp import cheapest, cost
from rlscale.predict import Exponential, Holt, HoltWintersAdditive, Linear

SYSTEM = "classic"


def ses(given: Mapping[str, Any]) -> dict[str, Any]:
    model = Exponential(given["alpha"])
    for value in given["series"]:
        model.update(value, 1.0)
    return {"forecast": model.projected_per_s}


def holt(given: Mapping[str, Any]) -> dict[str, Any]:
    first, second = given["series"][:2]
    model = Holt(given["horizon"], given["alpha"], given["beta"])
    model.level_per_s, model.trend_per_s2 = float(first), float(second - first)
    for value in given["series"][1:]:
        model.update(value, 1.0)
    return {"forecast": model.projected_per_s}


def holt_winters(given: Mapping[str, Any]) -> dict[str, Any]:
    model = HoltWintersAdditive(given["alpha"], given["beta"], given["gamma"])
    model.start(given["series"][: 2 * given["period"]])
    for value in given["series"]:
        model.update(value)
    return {"forecast": model.ahead(given["horizon"])}


def linear_regression(given: Mapping[str, Any]) -> dict[str, Any]:
    model = Linear(given["horizon"], given.get("n") or len(given["series"]))
    for value in given["series"]:
        model.update(value, 1.0)
    return {"forecast": model.projected_per_s}


def lp_allocation(given: Mapping[str, Any]) -> dict[str, Any]:
    prices = [resource["price"] for resource in given["resources"]]
    try:
        amounts = cheapest(given["demand"], prices, [resource["limit"] for resource in given["resources"]])
    except ScenarioError:
        return {"infeasible": True}
    return {"infeasible": False, "allocation": list(amounts), "cost": cost(amounts, prices)}


KINDS = {
    "ses": ses,
    "holt": holt,
    "holt_winters_additive": holt_winters,
    "linear_regression": linear_regression,
    "erlang_b": lambda given: {"blocking": erlang_b(given["servers"], given["offered_load"])},
    "erlang_c": lambda given: {"wait_probability": erlang_c(given["servers"], given["offered_load"])},
    "erlang_c_staffing": lambda given: {
        "servers": erlang_c_servers(
            given["arrival_rate"], given["service_rate"], given["wait_limit_s"], given["max_wait_probability"]
        )
    },
    "square_root_staffing": lambda given: {"servers": square_root_servers(given["offered_load"], given["beta"])},
    "lp_allocation": lp_allocation,
}
