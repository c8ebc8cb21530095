"""The same decisions on 5 000 recorded intervals: as the KEDA server tells them by gRPC, and in contexts of Ray
Serve's own class. ONNX and the one Python file: test_export_onnx.py and test_export_python.py.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from recorded import INTERVALS, chat_intervals, saved, steady_network, wanted
from replayed import ENOUGH, lived, piloted

from envs import get_scenario
from rlscale.actions import Headroom
from rlscale.policy_folder import load_policy

pytestmark = pytest.mark.live


def test_the_keda_server_tells_what_the_simulator_decides(tmp_path: Path) -> None:
    """The live loop orders, and whoever asks gets the order: the number for every interval."""
    grpc = pytest.importorskip("grpc", reason="needs the extra keda; make test-live installs it")
    from keda_parts import method, question, serving, wire

    chat, runs, found = get_scenario("chat"), chat_intervals(), []
    path = saved(tmp_path / "policy", steady_network(len(Headroom().levels)), Headroom())
    with serving() as (server, backend, _), grpc.insecure_channel(f"127.0.0.1:{server.port}") as channel:
        metrics = method(channel, "GetMetrics", wire.GetMetricsResponse)
        for one in runs:
            for target in lived(chat, one, load_policy(path, chat.limits), backend.order):
                (value,) = metrics(question("chat"), timeout=10).metricValues
                assert value.metricValueFloat == value.metricValue == target[0]
                found.append((int(value.metricValue),))
    assert len(found) == INTERVALS
    assert found == wanted(runs)


def test_ray_serve_is_told_what_the_simulator_decides(tmp_path: Path) -> None:
    """In the class of Ray Serve's own, with what its own code makes of the records."""
    pytest.importorskip("ray.serve", reason="needs the extra ray; make test-live installs it")
    from ray.serve._private.common import DeploymentID
    from ray.serve.config import AutoscalingContext

    rest: dict[str, Any] = dict.fromkeys(("last_scale_up_time", "last_scale_down_time", "current_time"))
    rest |= {"deployment_id": DeploymentID("model", "app"), "deployment_name": "model", "app_name": "app",
             "running_replicas": [], "policy_state": {}}  # fmt: skip

    path = saved(tmp_path / "policy", steady_network(len(ENOUGH.levels)), ENOUGH)

    def made(**told: Any) -> Any:
        return AutoscalingContext(**rest, **told)

    found, expected = piloted(get_scenario("chat"), path, made)
    assert len(found) == INTERVALS
    assert found == expected
