"""The one-file export decides as the policy: every kind of network and action map, on recorded intervals."""

from __future__ import annotations

import json
import math
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from recorded import chat_intervals, intervals_of, lines, saved, steady_network, stretch, targets

from envs import get_scenario
from experiments import export_python
from experiments.export import imported
from experiments.export_agreement import heard
from experiments.export_source import read_source
from rlscale.actions import MAPS, Headroom, action_map
from rlscale.checks import check_scaler
from rlscale.features import FeatureExtractor
from rlscale.policy import Policy
from rlscale.policy_folder import load_policy
from rlscale.record import plain
from rlscale.types import ScalerKind


def exported(folder: Path, **network: Any) -> tuple[Policy, Any]:
    """A policy for `chat` and the module it was exported as."""
    path = saved(folder / "p", steady_network(len(Headroom().levels), **network), Headroom())
    return load_policy(path, get_scenario("chat").limits), module_of(path)


def module_of(path: Path, scenario: str = "chat") -> Any:
    for name, data in export_python.files(read_source(path, scenario)).items():
        (path.parent / name).write_bytes(data)
    return imported(path.parent / export_python.FILE)


def test_five_thousand_recorded_intervals_have_the_same_targets(tmp_path: Path) -> None:
    policy, module = exported(tmp_path)
    ours, said, _ = heard(policy, chat_intervals())
    theirs, told, _ = heard(module.Scaler(), chat_intervals())
    assert len(ours) == 5000
    assert len(set(ours)) > 15, "the recording has to ask for more than a few fleets"
    assert theirs == ours
    np.testing.assert_allclose(told, said, rtol=0, atol=2e-6 * np.abs(said).max())


@pytest.mark.parametrize(
    "network",
    [{"kind": "gru", "seed": 3}, {"kind": "lstm", "seed": 4}, {"activation": "relu", "standard": False, "seed": 5}],
    ids=["gru", "lstm", "relu"],
)
def test_every_kind_of_network_has_the_same_targets(network: dict[str, Any], tmp_path: Path) -> None:
    policy, module = exported(tmp_path, **network)
    runs = stretch(chat_intervals(), 1200)
    ours, said, _ = heard(policy, runs)
    theirs, told, _ = heard(module.Scaler(), runs)
    assert len(set(ours)) > 5
    assert theirs == ours
    np.testing.assert_allclose(told, said, rtol=0, atol=2e-6 * np.abs(said).max())


@pytest.mark.parametrize("scenario", ["chat-mixed", "chat-disaggregated"])
@pytest.mark.parametrize("name", sorted(MAPS))
def test_every_action_map_has_the_same_targets_and_reasons(name: str, scenario: str, tmp_path: Path) -> None:
    mixed = get_scenario(scenario)
    if mixed.cluster.has_roles and name == "vertical":
        pytest.skip("vertical does not work on prefill and decode pools")
    blinking = replace(mixed.cluster, metric_missing_share=0.1, metric_noise=0.1)
    mixed = replace(mixed, horizon_s=1800.0, cluster=blinking)
    actions, pools = action_map(name), len(mixed.cluster.pools)
    path = saved(tmp_path / "p", steady_network(max(1, sum(actions.sizes(pools))), seed=7), actions, scenario)
    policy, scaler = load_policy(path, mixed.limits), module_of(path, scenario).Scaler()
    for one in intervals_of(mixed, policy, 236):
        for who in (policy, scaler):
            who.reset()
            who.warm_up(one.history_per_s, one.history_step_s)
        for seen in one.seen:
            ours, theirs = policy.decide(seen), scaler.decide(seen)
            assert (theirs.target, theirs.reason) == (ours.target, ours.reason)


def test_features_are_those_of_rlscale_bit_for_bit(tmp_path: Path) -> None:
    """The kernels' own lines on plain arrays; two pools, an hour and a half, one scrape in ten fails."""
    mixed = get_scenario("chat-mixed")
    mixed = replace(mixed, horizon_s=5400.0, cluster=replace(mixed.cluster, metric_missing_share=0.1))
    path = saved(tmp_path / "p", steady_network(12), Headroom(), "chat-mixed")
    module = module_of(path, "chat-mixed")
    twin = module.Features(module.Known(module.SPEC["limits"]), 15.0)
    (one,) = intervals_of(mixed, load_policy(path, mixed.limits), 300)
    extractor = FeatureExtractor(mixed.limits, 15.0)
    extractor.reset(slice(None), one.history_per_s, one.history_step_s)
    twin.begin(list(one.history_per_s), one.history_step_s)
    for seen in one.seen:
        found = np.array(twin.push(module.read(plain(seen), 2, 1.0)), np.float32)
        np.testing.assert_array_equal(found, extractor.push(seen)[0])


def test_the_file_runs_on_the_standard_library_alone(tmp_path: Path) -> None:
    """Another process, without site-packages and without this repository on its path: JSON in, JSON out."""
    policy, module = exported(tmp_path)
    runs = chat_intervals(200)
    done = subprocess.run(
        [sys.executable, "-I", "-S", str(tmp_path / export_python.FILE)], input="\n".join(lines(runs)),
        capture_output=True, text=True, check=True, timeout=60, cwd=tmp_path,
    )  # fmt: skip
    policy.reset()  # the process was not told of the load before
    found = [tuple(json.loads(line)["targets"]) for line in done.stdout.splitlines()]
    assert found == [policy.decide(seen).target for seen in runs[0].seen]
    assert module.Policy().decide(plain(runs[0].seen[0])) == found[0]


def test_limits_and_multiplier_are_those_that_are_given(tmp_path: Path) -> None:
    _, module = exported(tmp_path)
    chat = get_scenario("chat")
    small = replace(chat.limits, max_replicas=np.array([9]))
    path = tmp_path / "p"
    runs = stretch(chat_intervals(), 500)
    theirs = targets(module.Scaler(small, multiplier=1.3), runs)
    assert theirs == targets(load_policy(path, small, 1.3), runs)
    assert max(count for (count,) in theirs) == 9


def test_the_file_is_a_scaler_that_keeps_the_contract(tmp_path: Path) -> None:
    _, module = exported(tmp_path)
    check_scaler(ScalerKind(module.Scaler, None, "random weights, exported"), reacts=False)


def test_what_cannot_be_read_is_named(tmp_path: Path) -> None:
    _, module = exported(tmp_path)
    seen = plain(chat_intervals(200)[0].seen[0])
    for change, message in (
        ({"ready": [1, 2]}, "ready has 2 entries; expected one for each of 1 pools"),
        ({"pending_by_age": [[0.0]]}, "pending_by_age: expected 7 ages for each of 1 pools"),
    ):
        with pytest.raises(ValueError, match=message):
            module.Policy().decide({**seen, **change})
    with pytest.raises(ValueError, match="no arrival_per_s, waiting"):
        module.Policy().decide({key: value for key, value in seen.items() if key not in ("arrival_per_s", "waiting")})
    for multiplier in (0.0, math.nan):
        with pytest.raises(ValueError, match="multiplier"):
            module.Policy(multiplier)


@pytest.mark.parametrize(
    ("broken", "why"),
    [
        ({"waiting": None}, "no value for waiting"),
        ({"age_s": 500.0}, "500 s old"),
        ({"arrival_per_s": -1.0}, "arrival_per_s is -1"),
    ],
)
def test_missing_metrics_hold(broken: dict[str, Any], why: str, tmp_path: Path) -> None:
    _, module = exported(tmp_path)
    policy = module.Policy()
    seen = plain(chat_intervals(200)[0].seen[5])
    assert policy.decide({**seen, **broken}) == tuple(seen["target"])
    assert why in policy.reason
