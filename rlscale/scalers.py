"""From a word to a scaler: `hpa`, `policy:FOLDER`, or `module:Class`. One way for comparisons and live services."""

from __future__ import annotations

from inspect import signature
from typing import Any

from rlscale.errors import ScenarioError
from rlscale.registry import get
from rlscale.types import Scaler, ScalerKind, ScalingLimits

POLICY = "policy:"


def scaler_kind(name: str) -> ScalerKind:
    """A registered scaler; a class named `module:Class`, or the ScalerKind a module offers under that name."""
    found = get("agents", "SCALERS", name, "scaler")
    return found if isinstance(found, ScalerKind) else ScalerKind(found, None, f"from {name}")


def build_scaler(name: str, limits: ScalingLimits, where: str = "", **parameters: Any) -> Scaler:
    """A fresh scaler of that name for a cluster with these limits; `where` is what the cluster is called in errors.

    Raises ScenarioError for unknown names and parameters, PolicyError for a policy folder that does not fit.
    """
    if name.startswith(POLICY):
        from rlscale.policy_folder import load_policy

        return load_policy(name.removeprefix(POLICY), limits, **parameters)
    kind = scaler_kind(name)
    if "decode" in limits.roles and not kind.roles:
        raise ScenarioError(f"scaler '{name}' cannot scale the prefill and decode pools of {where or 'this cluster'}; "
                            "leave it out there")  # fmt: skip
    try:
        signature(kind.build).bind(limits, **parameters)
    except TypeError as error:
        raise ScenarioError(
            f"scaler '{name}' cannot be built: {error}; given were {', '.join(parameters) or 'no parameters'}"
        ) from None
    return kind.build(limits, **parameters)
