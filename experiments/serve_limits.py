"""What a live service may know of its cluster: from a limits file, from the policy itself, or from a scenario.

A scenario's capacity is computed in a process of its own, so that the one that serves never loads numba and the
simulator: 60 instead of 170 MB for as long as it serves.
"""

from __future__ import annotations

import os
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

from rlscale.deploy.base import LiveConfigError
from rlscale.deploy.config import LiveConfig
from rlscale.errors import RlscaleError
from rlscale.limits_file import load_limits_interval, parse_limits_interval
from rlscale.types import ScalingLimits

POLICY = "policy:"
LONGEST_S = 600.0  # compiling everything on a busy machine took 90 s


def known_of(config: LiveConfig, path: Path) -> tuple[ScalingLimits, float]:
    """Limits and control interval in seconds; `path` is the file that the configuration came from.

    Raises LiveConfigError that begins with the file when none, or more than one, of the three is there.
    """
    if config.scenario is not None and config.limits is not None:
        raise LiveConfigError(f"{path}: expected either 'scenario' or 'limits', got both")
    try:
        if config.limits is not None:
            known, interval_s = load_limits_interval(config.limits)
        elif config.scenario is not None:
            beside = path.parent / config.scenario
            known, interval_s = _computed(str(beside) if beside.is_file() else config.scenario)
        else:
            known, interval_s = _of_policy(config, path)
    except LiveConfigError:
        raise
    except RlscaleError as error:
        raise LiveConfigError(f"{path}: {error}") from None
    if (interval_s := config.interval_s or interval_s) is None:
        raise LiveConfigError(f"{path}: 'interval_s' is missing; {config.limits} does not say it")
    return known, interval_s


def _of_policy(config: LiveConfig, path: Path) -> tuple[ScalingLimits, float | None]:
    """What lies in the folder of the policy that serves."""
    name = "" if config.scaler is None else config.scaler.name
    if not name.startswith(POLICY):
        raise LiveConfigError(f"{path}: expected either 'scenario' or 'limits', got neither; "
                              "only a policy folder brings its own")  # fmt: skip
    from rlscale.policy_folder import policy_limits, read_model

    place = Path(name.removeprefix(POLICY))
    return policy_limits(place), float(read_model(place)[0]["interval_s"])


def _computed(scenario: str) -> tuple[ScalingLimits, float | None]:
    """What `python -m experiments scenarios limits` says."""
    if find_spec("numba") is None:
        raise RlscaleError(
            f"scenario: the capacity of '{scenario}' cannot be computed where numba is not installed, as in an image; "
            f"give 'limits', the file that `python -m experiments scenarios limits {scenario}` prints elsewhere"
        )
    command = [sys.executable, "-m", "experiments", "scenarios", "limits", scenario]
    env = {name: value for name, value in os.environ.items() if name != "NUMBA_DISABLE_JIT"}
    env["PYTHONPATH"] = os.pathsep.join(str(Path(place).absolute()) for place in sys.path)
    try:
        done = subprocess.run(command, env=env, capture_output=True, text=True, timeout=LONGEST_S, check=False)
    except subprocess.TimeoutExpired:
        raise RlscaleError(f"scenario '{scenario}': its capacity was not computed within {LONGEST_S:g} s") from None
    if done.returncode:
        said = (done.stderr.strip().splitlines() or [f"exit code {done.returncode}"])[-1]
        raise RlscaleError(said.removeprefix("error: "))
    return parse_limits_interval(done.stdout.encode(), scenario)
