"""Ray Serve autoscaling policy: `AutoscalingPolicy(policy_function="rlscale.deploy.ray_serve:Policy", ...)`.

Serve pickles this module by value into its controller, so it holds nothing but the way to the installed package.
"""

from __future__ import annotations

import os
from typing import Any


class Policy:
    """A scaler as the policy of a deployment; `settings` are those of `rlscale.deploy.ray_settings.RaySettings`.

    Serve builds it once per deployment of an application and calls it at every tick of its controller.
    """

    def __init__(self, **settings: Any) -> None:
        # Compiling, or loading what was compiled, takes Serve's controller seconds; in plain Python a policy decides in
        # a third of a millisecond.
        os.environ.setdefault("NUMBA_DISABLE_JIT", "1")
        from rlscale.deploy.ray_pilot import Pilot

        self._pilot = Pilot(settings)

    def __call__(self, ctx: Any) -> tuple[int, dict[str, Any]]:
        """Replicas to have, and how things stand."""
        return self._pilot.tick(ctx)

    def status(self) -> dict[str, Any]:
        """See `Pilot.status`."""
        return self._pilot.status()


def autoscaling_policy(**settings: Any) -> Any:
    """The policy as Serve takes it, its settings checked here, where an error reaches whoever deploys.

    In the controller a wrong setting could only be logged. Raises LiveConfigError, ScenarioError or PolicyError.
    """
    from rlscale.deploy.base import LiveConfigError
    from rlscale.deploy.ray_build import rehearse

    try:
        from ray.serve.config import AutoscalingPolicy
    except ImportError as error:
        raise LiveConfigError(f"ray cannot be imported ({error}); install rlscale[ray]") from None
    rehearse(settings)
    return AutoscalingPolicy(policy_function="rlscale.deploy.ray_serve:Policy", policy_kwargs=settings)
