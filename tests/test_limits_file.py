"""Limits come back from their file to the last bit; what is wrong in a file is named."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import fields
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from envs import get_scenario
from experiments.__main__ import main
from rlscale.checks import limits_of
from rlscale.errors import PolicyError
from rlscale.limits_file import limits_text, load_limits, parse_limits, parse_limits_interval
from rlscale.types import ScalingLimits


@pytest.mark.parametrize("name", ["chat", "chat-mixed", "chat-disaggregated"])
def test_limits_come_back_to_the_last_bit(name: str) -> None:
    scenario = get_scenario(name)
    pools = len(scenario.cluster.pools)
    back = parse_limits(limits_text(scenario.limits, scenario.name, scenario.hash).encode(), "limits.json")
    for field in fields(ScalingLimits):
        ours, theirs = getattr(scenario.limits, field.name), getattr(back, field.name)
        if isinstance(ours, np.ndarray):
            np.testing.assert_array_equal(theirs, ours[:pools], err_msg=field.name)
        else:
            assert theirs == ours, field.name


def text() -> dict[str, Any]:
    return dict(json.loads(limits_text(limits_of(2))))


def put(*path: Any, value: Any) -> Callable[[dict[str, Any]], None]:
    def change(data: Any) -> None:
        for key in path[:-1]:
            data = data[key]
        data[path[-1]] = value

    return change


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (put("maximum", value=3), "unknown field 'maximum'"),
        (put("rlscale_limits", value=2), "rlscale_limits: got 2, expected 1"),
        (put("pools", value=[]), "pools"),
        (put("pools", 0, "capacity_per_s", value=0.0), "pools.0.capacity_per_s: got 0.0, expected greater than 0"),
        (put("pools", 1, "capacity_per_s", value=float("nan")), "pools.1.capacity_per_s"),
        (put("pools", 0, "max_replicas", value="40"), "pools.0.max_replicas: got 40, expected a valid integer"),
        (put("pools", 0, "min_replicas", value=99), "max_replicas 40 is below min_replicas 99; swap them"),
        (put("pools", 0, "role", value="prefill"), "role is said of some pools only"),
        (put("slo", "ttft_s", value=-1.0), "slo.ttft_s"),
        (put("drain_s", value=0.0), "drain_s"),
    ],
)
def test_what_is_wrong_in_a_file_is_named(change: Callable[[dict[str, Any]], None], message: str) -> None:
    data = text()
    change(data)
    with pytest.raises(PolicyError, match=message):
        parse_limits(json.dumps(data).encode(), "limits.json")


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"{", "not JSON"),
        (b"[]", "holds a list"),
        (b'{"slo": 1, "slo": 2}', "key 'slo' twice"),
        (b"[" * 100_000, "not JSON"),
        (b"\xff\xfe\x00", "not JSON"),
    ],
)
def test_what_is_no_limits_file_is_refused(data: bytes, message: str) -> None:
    with pytest.raises(PolicyError, match=message):
        parse_limits(data, "limits.json")


def test_another_content_than_the_manifest_says_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "limits.json"
    path.write_text(limits_text(limits_of(1)))
    assert len(load_limits(tmp_path).min_replicas) == 1
    with pytest.raises(PolicyError, match="the manifest says 000000000000"):
        load_limits(path, "0" * 64)


def test_the_command_prints_what_a_service_takes(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["scenarios", "limits", "chat"]) == 0
    known, interval_s = parse_limits_interval(capsys.readouterr().out.encode(), "limits.json")
    chat = get_scenario("chat")
    assert interval_s == chat.cluster.interval_s == 15.0
    assert limits_text(known) == limits_text(chat.limits)
    assert main(["scenarios", "limits", "chat", "code"]) == 2
    assert "got 2 names, expected one scenario" in capsys.readouterr().err
