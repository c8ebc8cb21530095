"""A shadow never disturbs; a log is read as far as it can be; a report says what would have been."""

from __future__ import annotations

import gzip
import json
import math
import threading
import time
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from test_deploy_guard import LIMITS, Says, seen

from agents.headroom import Headroom, held
from envs import get_scenario
from experiments.__main__ import main
from experiments.shadow import judge
from experiments.shadow_replay import block_s, observed_load, recording, serving
from rlscale.deploy import shield_config as config
from rlscale.deploy.audit_read import AuditError, decision_of, read_audit
from rlscale.deploy.guard import Guarded
from rlscale.deploy.shadow import Shadowed
from rlscale.errors import ScenarioError
from rlscale.loop import run
from rlscale.types import Decision, Observation

PATIENCE_S = 20.0


def test_one_acts_and_what_the_other_would_have_done_is_told() -> None:
    both = Shadowed(Says(Decision((6,), "six")), Says(Decision((99,), "many")), LIMITS, "headroom")
    assert both.decide(seen()).target == (6,)
    assert both.last["target"] == [40]
    assert both.last["scaler"] == "headroom"
    assert both.last["reason"].startswith("many; pool 0: 99 asked")


@pytest.mark.parametrize("answer", [RuntimeError("no"), None, Decision((math.nan,)), Decision((1, 2))])
def test_a_shadow_that_fails_does_not_disturb(answer: Any) -> None:
    both = Shadowed(Says(Decision((6,), "six")), Says(answer), LIMITS)
    assert [both.decide(seen(15.0 * k)).target for k in range(3)] == [(6,)] * 3
    assert both.last["target"] is None
    assert both.counts["shadow_failed"] == 3


def test_a_shadow_that_blocks_keeps_nobody_waiting() -> None:
    free = threading.Event()
    both = Shadowed(Says(Decision((6,))), Says(lambda _: free.wait(PATIENCE_S)), LIMITS, deadline_s=0.05)
    began = time.monotonic()
    assert [both.decide(seen(15.0 * k)).target for k in range(5)] == [(6,)] * 5
    assert time.monotonic() - began < PATIENCE_S / 2
    assert both.failures == 5
    free.set()


def test_a_shadow_leaves_the_run_of_the_acting_scaler_as_it_is() -> None:
    chat = replace(get_scenario("chat"), horizon_s=3600.0)
    load, known = chat.sample_load("test", 0), chat.limits
    made = config.ShieldsConfig(breaker=config.Breaker(deadline_s=None))
    acting = Guarded(Headroom(known), held(known), made, known)
    both = Shadowed(acting, held(known), known, deadline_s=None)
    shadowed, alone = run(chat, both, load, 0), run(chat, Headroom(known), load, 0)
    np.testing.assert_array_equal(shadowed.series["target"], alone.series["target"])
    assert "shadow_failed" in both.counts
    kept = json.loads(json.dumps(both.state(), allow_nan=False))
    both.restore(kept)


# The log.
def plain(value: Any) -> Any:
    if isinstance(value, np.ndarray):
        return [plain(one) for one in value.tolist()]
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    return value


class Logged:
    """A scaler that writes what a live loop writes."""

    def __init__(self, both: Shadowed, name: str, start_s: float = 1.7e9) -> None:
        self.both, self.name, self.start_s, self.lines = both, name, start_s, []  # type: ignore[var-annotated]

    def reset(self) -> None:
        self.both.reset()

    def warm_up(self, *history: Any) -> None:
        self.both.warm_up(*history)

    def decide(self, moment: Observation) -> Decision:
        decision = self.both.decide(moment)
        told = {item.name: plain(getattr(moment, item.name)) for item in fields(moment) if item.name != "limits"}
        self.lines.append(json.dumps({
            "kind": "decision", "t_s": moment.t_s, "unix_s": self.start_s + moment.t_s, "week_s": moment.week_s,
            "observation": told, "target": [math.ceil(n) for n in decision.target or self.both.acting.last],
            "reason": decision.reason, "scaler": self.name, "shadow": self.both.last, "unknown": 1,
        }))  # fmt: skip
        return decision


@pytest.fixture(scope="module")
def log(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three hours of chat traffic: headroom-held acts, headroom is the shadow."""
    chat = replace(get_scenario("chat"), horizon_s=3 * 3600.0)
    known = chat.limits
    made = config.ShieldsConfig(breaker=config.Breaker(deadline_s=None))
    acting = Guarded(held(known), held(known), made, known)
    logged = Logged(Shadowed(acting, Headroom(known), known, "headroom", None), "headroom-held")
    run(chat, logged, chat.sample_load("test", 0), 0)
    path = tmp_path_factory.mktemp("log") / "audit.jsonl"
    path.write_text('{"kind": "start"}\n' + "\n".join(logged.lines) + "\n")
    return path


def test_a_log_is_read_as_far_as_it_can_be(log: Path, tmp_path: Path) -> None:
    whole = read_audit([log])
    assert whole.skipped == 0
    assert {decision.scaler for decision in whole.decisions} == {"headroom-held"}
    lines = log.read_text().splitlines()
    lines[5] = lines[5][:100]
    lines[7:7] = ["[1]", '{"kind": "decision"}', '{"kind": "decision", "observation": {}, "target": [-1]}', "", "null",
                  "[" * 5000, '{"kind": "reload", "target": 3}', "\x00\xff"]  # fmt: skip
    torn = tmp_path / "torn.jsonl"
    torn.write_text("\n".join(lines) + "\n" + lines[-1][:50])
    found = read_audit([torn])
    assert len(found.decisions) == len(whole.decisions) - 1
    assert found.skipped == 8
    assert "line 6: not JSON" in found.named[0]
    packed = tmp_path / "torn.jsonl.gz"
    packed.write_bytes(gzip.compress(torn.read_bytes())[:-2000])
    assert 0 < len(read_audit([packed]).decisions) < len(found.decisions)


def test_the_command_reads_the_files_that_were_closed_as_well(log: Path, tmp_path: Path) -> None:
    lines = log.read_text().splitlines(keepends=True)
    half, out = len(lines) // 2, tmp_path / "out"
    (tmp_path / "audit.jsonl.1").write_text("".join(lines[:half]))
    (tmp_path / "audit.jsonl").write_text("".join(lines[half:]))
    assert main(["shadow", str(tmp_path / "audit.jsonl"), "--scenario", "chat", "--out", str(out)]) == 0
    found = json.loads((out / "results.json").read_text())["log"]
    assert found["decisions"] == len(read_audit([log]).decisions)
    assert found["files"] == [str(tmp_path / name) for name in ("audit.jsonl.1", "audit.jsonl")]


@pytest.mark.parametrize("text", ["", "nothing\n", '{"kind": "start"}\n'])
def test_a_log_without_decisions_is_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / "empty.jsonl").write_text(text)
    with pytest.raises(AuditError, match="no decision record"):
        read_audit([tmp_path / "empty.jsonl"])
    with pytest.raises(AuditError, match=r"missing\.jsonl"):
        read_audit([tmp_path / "missing.jsonl"])


def test_a_log_of_two_services_is_read_one_at_a_time(log: Path, tmp_path: Path) -> None:
    records = [json.loads(line) for line in log.read_text().splitlines()[1:9]]
    both = tmp_path / "both.jsonl"
    both.write_text("\n".join(json.dumps(record | {"service": f"s{k % 2}"}) for k, record in enumerate(records)))
    assert len(read_audit([both], "s1").decisions) == 4
    with pytest.raises(AuditError, match="s0, s1"):
        read_audit([both])
    with pytest.raises(AuditError, match="'s2': no decision record among those for s0, s1"):
        read_audit([both], "s2")


def test_logs_are_put_in_order_and_gaps_filled(log: Path, tmp_path: Path) -> None:
    lines = log.read_text().splitlines()[1:]
    first, second = tmp_path / "a.jsonl", tmp_path / "b.jsonl"
    first.write_text("\n".join(lines[400:]) + "\n")
    second.write_text("\n".join(lines[:300]) + "\n")
    recorded = recording(read_audit([first, second]))
    assert len(recorded.rate_per_s) == len(lines)
    assert recorded.filled == pytest.approx(100 / len(lines))
    assert recorded.acting[350] is None
    assert recorded.rate_per_s[350] == recorded.rate_per_s[299]
    assert len(recorded.pairs) == len(lines) - 100


def test_without_wall_time_a_restart_goes_on_one_interval_later(log: Path, tmp_path: Path) -> None:
    records = [json.loads(line) for line in log.read_text().splitlines()[1:101]]
    for k, record in enumerate(records):
        del record["unix_s"]
        record["t_s"] = 15.0 * (k % 50)
    (tmp_path / "again.jsonl").write_text("\n".join(map(json.dumps, records)))
    assert len(recording(read_audit([tmp_path / "again.jsonl"])).rate_per_s) == 100


def test_a_log_of_another_cluster_or_of_nothing_is_refused(log: Path, tmp_path: Path) -> None:
    recorded = recording(read_audit([log]))
    with pytest.raises(AuditError, match="has 2; give"):
        serving(get_scenario("chat-disaggregated"), recorded)
    lines = log.read_text().splitlines()[1:]
    (tmp_path / "few.jsonl").write_text("\n".join([lines[0], lines[-1]]))
    with pytest.raises(AuditError, match="fewer gaps"):
        recording(read_audit([tmp_path / "few.jsonl"]))
    decision = decision_of(lines[0])
    assert decision is not None
    assert math.isnan(decision.number("no such metric"))


@pytest.mark.parametrize("law", ["poisson", "counts"])
def test_the_load_of_a_log_is_what_was_observed(log: Path, law: str) -> None:
    recorded = recording(read_audit([log]))
    scenario = serving(get_scenario("chat"), recorded)
    load = observed_load(scenario, recorded, law)
    assert load.duration_s == pytest.approx(len(recorded.rate_per_s) * 15.0)
    assert load.rate_per_s.mean() == pytest.approx(recorded.rate_per_s.mean(), rel=1e-3)
    if law == "counts":
        np.testing.assert_array_equal(load.values, np.rint(load.values))


def test_a_scaler_that_cannot_be_built_is_replayed_as_logged(log: Path) -> None:
    recorded = recording(read_audit([log]))
    scenario = serving(get_scenario("chat"), recorded)
    names = {"acting": "headroom-held", "shadow": "policy:gone"}
    found, runs = judge(scenario, recorded, names, {"acting": False, "shadow": False}, "poisson", 0)
    assert list(runs) == ["acting", "acting, as logged", "shadow, as logged"]
    assert "shadow" in found["not_rebuilt"]
    assert found["difference"] is None
    with pytest.raises(ScenarioError, match="unknown scaler"):
        judge(scenario, recorded, names | {"shadow": "hppa"}, {"acting": False, "shadow": True}, "poisson", 0)


def test_blocks_are_as_long_as_leaves_enough_of_them() -> None:
    assert [block_s(days * 86_400.0) for days in (7.0, 2.0, 0.5, 0.1)] == [86_400.0, 21_600.0, 3_600.0, 1_800.0]


def test_the_report_says_what_would_have_been(log: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "shadow"
    command = ["shadow", str(log), "--scenario", "chat", "--out", str(out)]
    assert main(command) == 0
    text = (out / "report.md").read_text()
    assert text in capsys.readouterr().out
    found = json.loads((out / "results.json").read_text())
    assert list(found["runs"]) == ["acting", "acting, as logged", "shadow", "shadow, as logged"]
    agreed = found["agreement"]
    assert 0.2 < agreed["equal_share"] < 1.0
    assert agreed["fewer_share"] > agreed["more_share"], "the rule that does not wait asks for less"
    cost = {name: summary["cost_usd"] for name, summary in found["runs"].items()}
    assert cost["acting"] == pytest.approx(cost["acting, as logged"], rel=0.03)
    difference = found["difference"]
    assert difference["blocks"] == 6
    assert difference["cost_usd"]["low"] <= difference["cost_usd"]["value"] <= difference["cost_usd"]["high"]
    assert difference["cost_usd"]["value"] == pytest.approx(cost["shadow"] / cost["acting"] - 1.0, abs=0.02)
    assert found["runs"]["shadow"]["churn"] > found["runs"]["acting"]["churn"]
    rows = (out / "targets.csv").read_text().splitlines()
    assert 100 < len(rows) <= 1001
    assert rows[0].startswith("t_s,arrival_per_s,acting_logged,shadow_logged,acting")
    assert main(command) == 2, "nothing is overwritten"


def test_the_same_scaler_twice_agrees_with_itself(log: Path) -> None:
    recorded = recording(read_audit([log]))
    same = replace(recorded, shadow=recorded.acting)
    scenario = serving(get_scenario("chat"), recorded)
    names = {"acting": "headroom-held", "shadow": "headroom-held"}
    found, _ = judge(scenario, same, names, {"acting": True, "shadow": True}, "poisson", 0)
    assert found["agreement"]["equal_share"] == 1.0
    assert found["difference"]["cost_usd"]["value"] == 0.0
    assert found["runs"]["acting"]["churn"] == found["runs"]["shadow"]["churn"]
