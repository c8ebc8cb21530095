"""A process that serves a policy loads no compiler, no simulator and no training library, and decides the same."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from equivalence_run import digests
from recorded import chat_intervals, lines, saved, steady_network

from envs import get_scenario
from rlscale.actions import Headroom
from rlscale.policy_folder import load_policy

ROOT = Path(__file__).resolve().parent.parent
NOT_LOADED = (
    "numba", "llvmlite", "scipy", "torch", "gymnasium", "stable_baselines3", "matplotlib", "onnxruntime",
    "rlscale.loop", "rlscale.scenario", "rlscale.sim.world", "rlscale.sim.steady", "rlscale.workloads",
)  # fmt: skip
MOST_MIB = 60  # measured 46: Python 9, numpy 16, pydantic 8

SERVE = """
import json, sys
from rlscale.policy_folder import load_policy, policy_limits
from rlscale.types import Observation
import numpy as np

known = policy_limits(sys.argv[1])
policy = load_policy(sys.argv[1], known)
found = []
for line in sys.stdin:
    values = {name: np.asarray(value) if isinstance(value, list) else value for name, value in json.loads(line).items()}
    found.append([list(policy.decide(Observation(**values, limits=known)).target)])
status = open("/proc/self/status").read()
peak_kib = int(status.split("VmHWM:")[1].split()[0])
print(json.dumps({"targets": found, "modules": sorted(sys.modules), "peak_mib": peak_kib / 1024}))
"""


HIDDEN = """
import importlib.util, sys
real = importlib.util.find_spec
importlib.util.find_spec = lambda name, package=None: None if name == "numba" else real(name, package)
sys.modules["numba"] = None
"""


def process(code: str, *args: str, given: str = "", **env: str) -> dict[str, Any]:
    """What another process prints, as JSON."""
    done = subprocess.run(
        [sys.executable, "-c", code, *args], input=given, capture_output=True, text=True, timeout=120, cwd=ROOT,
        env={**os.environ, "PYTHONPATH": f"{ROOT}{os.pathsep}{ROOT / 'tests'}", **env}, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return dict(json.loads(done.stdout))


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return saved(tmp_path_factory.mktemp("served") / "p", steady_network(len(Headroom().levels)), Headroom())


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_a_hundred_decisions_need_numpy_and_little_else(path: Path) -> None:
    runs = chat_intervals(100)
    found = process(SERVE, str(path), given="\n".join(lines(runs)), NUMBA_DISABLE_JIT="1")
    loaded = [name for name in found["modules"] if any(name == bad or name.startswith(bad + ".") for bad in NOT_LOADED)]
    assert not loaded
    assert found["peak_mib"] < MOST_MIB
    policy = load_policy(path, get_scenario("chat").limits)  # compiled here
    assert found["targets"] == [[list(policy.decide(seen).target)] for seen in runs[0].seen]


def test_a_policy_decides_where_numba_is_not_installed(path: Path) -> None:
    """An import of numba fails there."""
    seen = "\n".join(lines(chat_intervals(100))[:20])
    without = process(HIDDEN + SERVE, str(path), given=seen, NUMBA_DISABLE_JIT="")
    assert without["targets"] == process(SERVE, str(path), given=seen, NUMBA_DISABLE_JIT="1")["targets"]


def test_the_simulator_runs_where_numba_is_not_installed() -> None:
    code = HIDDEN + "import json\nfrom equivalence_run import digests\nprint(json.dumps({'digests': digests(1, 2)}))\n"
    assert process(code, NUMBA_DISABLE_JIT="")["digests"] == digests(1, 2)
