"""Cases of the documented rules of the cloud providers' autoscalers."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from conformance.kinds import Refused

from agents.aws_rules import Step, StepPolicy, effective_max, percent_rounding
from agents.azure import Rule, action, calm_count
from agents.gcp import recommended, whole_instances
from rlscale.errors import ScenarioError

SYSTEM = "cloud-autoscalers"


def aws_step(given: Mapping[str, Any]) -> dict[str, Any]:
    steps = [
        Step(step["lower"], step["upper"], step.get("adjustment_pct", step.get("adjustment")))
        for step in given["steps"]
    ]
    magnitude = given.get("min_adjustment_magnitude") or 0
    try:
        policy = StepPolicy(given["threshold"], given["breach"], steps, given["adjustment_type"], magnitude)
    except ScenarioError as error:
        raise Refused(str(error)) from error
    return {"capacity": policy.capacity(given["capacity"], given["metric"])}


def azure_anti_flap(given: Mapping[str, Any]) -> dict[str, Any]:
    rules = Rule("out", given["scale_out_above"]), Rule("in", given["scale_in_below"], given["decrease_by"])
    now = given["instances"]
    if action([rules[0].fires(given["metric_average"])], [rules[1].fires(given["metric_average"])]) != "in":
        return {"instances": now}
    wanted = min(now, max(now - rules[1].change, given.get("min", 0)))
    return {"instances": calm_count(now, given["metric_average"], rules, wanted)}


def aws_predictive_capacity(given: Mapping[str, Any]) -> dict[str, Any]:
    buffer_pct = given.get("max_capacity_buffer_pct") or 0
    return {
        "effective_max": effective_max(given["forecast"], given["max_capacity"], buffer_pct, given["breach_behavior"])
    }


KINDS = {
    "aws_step": aws_step,
    "aws_percent_rounding": lambda given: {"rounded": percent_rounding(given["change"])},
    "aws_predictive_capacity": aws_predictive_capacity,
    "gcp_rounding": lambda given: {
        "instances": whole_instances(given["fractional_instances"], given["direction"])
    },
    "gcp_multi_signal": lambda given: {"size": recommended(given["recommended_by_signal"])},
    "azure_anti_flap": azure_anti_flap,
    "azure_rule_combination": lambda given: {"action": action(given["scale_out_rules"], given["scale_in_rules"])},
}  # fmt: skip
