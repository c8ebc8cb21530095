"""Real Ray Serve on loopback: a policy folder drives replicas, a policy that raises is stood in for, a controller that
is killed goes on where it was."""

from __future__ import annotations

import logging
import os
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import requests

from rlscale.actions import LEVELS, Headroom
from rlscale.circle import decide
from rlscale.deploy.audit import records
from rlscale.deploy.observed import from_json
from rlscale.deploy.ray_build import guarded
from rlscale.deploy.ray_settings import checked
from rlscale.features import FEATURES, NAMES
from rlscale.limits_file import LIMITS, load_limits
from rlscale.network import Network
from rlscale.policy_folder import save_policy

ray = pytest.importorskip("ray", reason="needs rlscale[ray]")
pytest.importorskip("ray.serve", reason="needs rlscale[ray]")

# Ray warns of its own dependencies and leaves sockets of its processes to the garbage collector.
pytestmark = [pytest.mark.live, pytest.mark.timeout(400), pytest.mark.filterwarnings("ignore")]

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent.parent
CLIENTS = 10  # for eight seats at most
TRAINED_ON, STEPS = "half-second.yaml", 400_000
ENVIRONMENT = {
    "RAY_AUTH_MODE": "disabled",  # no token in anybody's home directory
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_worker_niceness": "0",  # workers at the default of 15 starve beside anything else on two cores
    "RAY_ENABLE_AUTO_CONNECT": "0",  # a client that comes too late must not start a Ray of its own
    "RAY_SERVE_QUEUE_LENGTH_RESPONSE_DEADLINE_S": "2",  # a busy machine is no dead replica
    "RAY_SERVE_CONTROL_LOOP_INTERVAL_S": "0.5",
    "PYTHONPATH": os.pathsep.join([str(ROOT), str(HERE), str(HERE.parent)]),
}
INTERVAL_S = 5.0  # one of 2 s orders, on a busy machine, fewer replicas before the first have started
# A dozen processes on two cores: decisions are late and metrics come in fits and starts, which is not what is tested.
# The clients do cease all at once, and no test waits until that is believed.
SHIELDS = {"breaker": {"deadline_s": 5.0}, "flap": {"on": False}, "queueing": {"floor_window_s": 10.0},
           "silence": {"on": False}}  # fmt: skip
SERVICE = """{"rlscale_limits": 1, "slo": {"ttft_s": 1.0}, "drain_s": 1.0, "pools": [{"min_replicas": 1,
"max_replicas": 4, "capacity_per_s": 3.2, "seats": 2.0, "start_median_s": 5.0, "start_p95_s": 8.0,
"usd_per_replica_s": 0.001}]}"""


@pytest.fixture(scope="module")
def serve() -> Iterator[Any]:
    """One Ray for all tests of this file, and nothing of it left afterwards."""
    patch = pytest.MonkeyPatch()
    for name, value in ENVIRONMENT.items():
        patch.setenv(name, value)
    home = Path(tempfile.mkdtemp(prefix="rl-"))  # sockets lie in it: the path of a test's own folder is too long
    from ray import serve as serving

    logging.getLogger("ray.serve").setLevel(logging.ERROR)
    try:
        started(home)
        serving.start(proxy_location="Disabled")
        yield serving
    finally:
        # Handles go on telling a controller that is gone, and would say so for minutes.
        logging.getLogger("ray.serve").setLevel(logging.CRITICAL)
        serving.shutdown()
        ray.shutdown()
        shutil.rmtree(home, ignore_errors=True)
        patch.undo()


def started(home: Path) -> None:
    """Ray gives itself half a minute to start, which on a machine that reads it from the disk for the first time is not
    always enough."""
    for attempt in range(3):
        try:
            ray.init(num_cpus=8, include_dashboard=False, object_store_memory=100_000_000, _temp_dir=str(home),
                     logging_level="ERROR", log_to_driver=False)  # fmt: skip
            return
        except RuntimeError as error:
            ray.shutdown()
            why = f"attempt {attempt + 1}: {error!s:.200}"
    pytest.skip(f"Ray does not start on this machine ({why})")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A policy folder with its limits: 1.2 times the demand, and 2.1 times while requests wait."""
    path = tmp_path_factory.mktemp("policy") / "p"
    weights = np.zeros((len(LEVELS), len(FEATURES)), np.float32)
    weights[LEVELS.index(2.1), NAMES.index("backlog")] = 5.0
    bias = np.zeros(len(LEVELS), np.float32)
    bias[LEVELS.index(1.2)] = 1.0
    network = Network({"0.weight": weights, "0.bias": bias}, len(FEATURES), len(LEVELS))
    save_policy(path, network, Headroom(), 1, INTERVAL_S, {"algo": "by hand"})
    (path / LIMITS).write_text(SERVICE)
    return path


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What PPO has learnt on a simulated service of one to four replicas; half a minute."""
    out = tmp_path_factory.mktemp("trained") / "ppo"
    command = [sys.executable, "-m", "experiments", "train", "--algo", "ppo", "--scenario", str(HERE / TRAINED_ON),
               "-n", str(STEPS), "--seed", "0", "--out", str(out)]  # fmt: skip
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr
    return out / "seed-0"


class Load:
    """Clients that ask again as soon as they are answered."""

    def __init__(self, handle: Any, clients: int) -> None:
        self.handle, self.answers, self.failures = handle, 0, []  # type: ignore[var-annotated]
        self._stop = threading.Event()
        self._threads = [threading.Thread(target=self._ask) for _ in range(clients)]

    def __enter__(self) -> Load:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join(30.0)

    def _ask(self) -> None:
        while not self._stop.is_set():
            try:
                assert self.handle.remote().result(timeout_s=30.0) == "done"
                self.answers += 1
            except Exception as error:
                self.failures.append(error)


@contextmanager
def deployed(serve: Any, name: str, audit: Path, **settings: Any) -> Iterator[Any]:
    """The service under a policy with these settings while the block lasts; its handle."""
    import ray_app

    from rlscale.deploy.ray_serve import autoscaling_policy

    deployment = serve.deployment(
        ray_app.Model, max_ongoing_requests=ray_app.SEATS, ray_actor_options={"num_cpus": 0.2},
        graceful_shutdown_timeout_s=20.0,
        autoscaling_config={
            "min_replicas": 1, "max_replicas": 4, "target_ongoing_requests": 2, "look_back_period_s": 6.0,
            "metrics_interval_s": 1.0,  # the environment variables that are to replace it do nothing in 2.60
            "upscale_delay_s": 0.0, "downscale_delay_s": 0.0,
            "policy": autoscaling_policy(audit=str(audit), shields=SHIELDS, **settings),
        },
    )  # fmt: skip
    handle = serve.run(deployment.bind(), name=name, route_prefix=None)
    try:
        # A handle makes its router at its first request, without a lock: of several threads each would make one, all
        # under the same name, and Serve would count the requests of one of them.
        assert handle.remote().result(timeout_s=60.0) == "done"
        yield handle
    finally:
        serve.delete(name)


def running(serve: Any, name: str) -> int:
    """Replicas that serve."""
    states = serve.status().applications[name].deployments["Model"].replica_states
    return int({str(getattr(state, "value", state)): count for state, count in states.items()}.get("RUNNING", 0))


def within(deadline_s: float, what: str, condition: Callable[[], Any]) -> Any:
    """The first true value of a condition."""
    end = time.monotonic() + deadline_s
    while not (found := condition()):
        assert time.monotonic() < end, f"not within {deadline_s:g} s: {what}"
        time.sleep(0.1)
    return found


def decisions(audit: Path) -> list[dict[str, Any]]:
    return [record for record in records(audit) if record["kind"] == "decision"]


def test_a_trained_policy_drives_replicas_up_and_down(serve: Any, trained: Path, folder: Path, tmp_path: Path) -> None:
    audit, known = tmp_path / "net.jsonl", str(folder / LIMITS)
    with deployed(serve, "net", audit, policy=str(trained), limits=known) as handle:
        with Load(handle, CLIENTS) as load:
            within(240.0, "four replicas under load", lambda: running(serve, "net") == 4)
            asked = load.answers
            within(20.0, "answers by four replicas", lambda: load.answers > asked + 20)
        assert not load.failures
        within(90.0, "one replica without load", lambda: running(serve, "net") == 1)

    # The same scaler behind the same shields, asked directly on what was seen, decides the same.
    rows, limits = decisions(audit), load_limits(folder)
    patient = SHIELDS | {"breaker": {"deadline_s": None}}  # kernels may be compiled first, here
    scaler = guarded(checked({"policy": str(trained), "limits": known, "shields": patient}), limits, INTERVAL_S, 2.0)
    assert rows[-1]["errors"] == 0
    own = [row["target"][0] for row in rows if row["decided_by"] == "scaler"]
    assert set(own) >= {1, 4}
    assert len(own) > 0.5 * len(rows)  # on a busy machine metrics come in gusts, which the policy was not trained on
    assert any(row["arrival"] == "recorded" and (row["observation"]["ttft_s"] or 0.0) > 0.1 for row in rows)
    for row in rows:
        assert list(decide(scaler, from_json(row["observation"], limits), limits).target) == row["target"]
    assert [row["text"] for row in records(audit) if row["kind"] == "warning"] == []


def test_a_policy_that_raises_keeps_serving_through_the_fallback(serve: Any, folder: Path, tmp_path: Path) -> None:
    audit = tmp_path / "bad.jsonl"
    with deployed(serve, "bad", audit, policy="fake_ray:Raising", limits=str(folder), interval_s=INTERVAL_S) as handle:
        with Load(handle, CLIENTS) as load:
            within(240.0, "four replicas by the fallback", lambda: running(serve, "bad") == 4)
            many = within(30.0, "errors", lambda: [row for row in decisions(audit) if row["errors"] >= 3])
            within(30.0, "errors among the metrics of Ray", lambda: exported_errors() >= 3)
        assert not load.failures
        within(90.0, "one replica without load", lambda: running(serve, "bad") == 1)
        assert str(serve.status().applications["bad"].status.value) == "RUNNING"
    assert many[-1]["decided_by"] == "fallback"
    assert any("raised ZeroDivisionError: a decision divided by zero" in row["reason"] for row in many)
    errors = [row["errors"] for row in decisions(audit)]
    assert errors == sorted(errors)


def test_a_controller_that_is_killed_goes_on_where_it_was(serve: Any, folder: Path, tmp_path: Path) -> None:
    audit = tmp_path / "kill.jsonl"
    with deployed(serve, "kill", audit, policy=str(folder)) as handle, Load(handle, CLIENTS) as load:
        within(240.0, "two replicas under load", lambda: running(serve, "kill") >= 2)
        before = decisions(audit)[-1]
        ray.kill(ray.get_actor("SERVE_CONTROLLER_ACTOR", namespace="serve"), no_restart=False)
        within(60.0, "a second start", lambda: sum(row["kind"] == "start" for row in records(audit)) == 2)
        rows = within(60.0, "decisions", lambda: later(audit, before, 4))
    assert not load.failures
    assert rows[0]["state"]["decisions"] == before["state"]["decisions"] + 1
    assert rows[0]["observation"]["t_s"] > before["observation"]["t_s"]
    assert min(row["target"][0] for row in rows) >= 2  # metrics that have not come yet are no idleness


def later(audit: Path, before: dict[str, Any], count: int) -> list[dict[str, Any]]:
    """Decisions after that one, when there are so many."""
    rows = [row for row in decisions(audit) if row["unix_s"] > before["unix_s"]]
    return rows if len(rows) >= count else []


def exported_errors() -> float:
    """The counter as Prometheus would scrape it from Ray."""
    node = ray.nodes()[0]
    text = requests.get(f"http://{node['NodeManagerAddress']}:{node['MetricsExportPort']}/metrics", timeout=5.0).text
    lines = [line for line in text.splitlines() if line.startswith("ray_rlscale_scaler_errors") and '"bad"' in line]
    return sum(float(line.rpartition(" ")[2]) for line in lines)
