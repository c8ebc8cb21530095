"""The audit log: whole lines whatever happens, observations to the last bit, memory over a restart."""

from __future__ import annotations

import json
import math
import os
from pathlib import Path

import numpy as np
import pytest

from agents.headroom import Headroom
from envs import get_scenario
from rlscale.deploy.audit import Audit, memory, records
from rlscale.deploy.base import LiveConfigError
from rlscale.deploy.observed import NAMES, ObservedError, from_json, to_json
from rlscale.loop import run
from rlscale.scenario import Scenario
from rlscale.types import Decision, Observation


@pytest.fixture(scope="module")
def chat() -> Scenario:
    return get_scenario("chat")


class Kept(Headroom):
    """Headroom that keeps what it saw."""

    seen: list[Observation]

    def decide(self, seen: Observation) -> Decision:
        self.seen.append(seen)
        return super().decide(seen)


def test_an_observation_comes_back_to_the_last_bit(chat: Scenario) -> None:
    scaler = Kept(chat.limits)
    scaler.seen = []
    load = chat.sample_load("test", 0)
    run(chat, scaler, load, 0)
    assert len(scaler.seen) > 5000
    for seen in scaler.seen[::50]:
        again = from_json(json.loads(json.dumps(to_json(seen), allow_nan=False)), chat.limits)
        for name in NAMES:
            np.testing.assert_array_equal(getattr(again, name), getattr(seen, name), err_msg=name)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"nonsense": 1.0}, "unknown fields"),
        ({"ready": [1, 2]}, "ready has 2 pools, expected 1"),
        ({"waiting": "many"}, "waiting is 'many'"),
        ({"memory_occupancy": [[], "x"]}, "memory_occupancy"),
        ({"arrival_per_s": True}, "arrival_per_s is True"),
    ],
)
def test_a_record_of_something_else_is_refused(chat: Scenario, change: dict[str, object], said: str) -> None:
    scaler = Kept(chat.limits)
    scaler.seen = []
    load = chat.sample_load("test", 0)
    run(chat, scaler, load, 0)
    record = to_json(scaler.seen[0])
    with pytest.raises(ObservedError, match=said):
        from_json(record | change, chat.limits)
    with pytest.raises(ObservedError, match="missing fields"):
        from_json({}, chat.limits)


def test_a_line_that_was_cut_is_ignored_and_the_next_is_whole(tmp_path: Path) -> None:
    path = tmp_path / "audit.jsonl"
    audit = Audit(path)
    audit.write("decision", 1.0, {"service": "chat", "n": 1})
    audit.close()
    whole = path.read_bytes()
    for cut in range(len(whole)):
        path.write_bytes(whole + whole[:cut])
        audit = Audit(path)
        audit.write("decision", 2.0, {"service": "chat", "n": 2})
        audit.close()
        numbers = [record["n"] for record in records(path)]
        assert numbers in ([1, 2], [1, 1, 2]), cut


def test_files_are_closed_at_their_size_and_the_oldest_goes(tmp_path: Path) -> None:
    path = tmp_path / "audit.jsonl"
    audit = Audit(path, max_bytes=1000, keep=3)
    for n in range(100):
        audit.write("decision", float(n), {"service": "chat", "n": n})
    audit.close()
    files = sorted(found.name for found in tmp_path.iterdir())
    assert files == ["audit.jsonl", "audit.jsonl.1", "audit.jsonl.2", "audit.jsonl.lock"]
    assert all((tmp_path / name).stat().st_size <= 1000 for name in files)
    numbers = [record["n"] for record in records(path)]
    assert numbers == list(range(numbers[0], 100)) and len(numbers) > 20


def test_memory_is_of_one_service_and_of_the_time_asked_for(tmp_path: Path) -> None:
    path = tmp_path / "audit.jsonl"
    audit = Audit(path)
    for n in range(10):
        audit.write("decision", float(n), {"service": "chat", "n": n, "state": {"n": n}})
        audit.write("decision", float(n), {"service": "code", "n": -n, "state": {"n": -n}})
    audit.close()
    found, state = memory(path, "chat", 7.0)
    assert [record["n"] for record in found] == [7, 8, 9] and state == {"n": 9}
    assert memory(tmp_path / "none.jsonl", "chat", 0.0) == ([], None)


def test_what_is_no_record_is_passed_over(tmp_path: Path) -> None:
    path = tmp_path / "audit.jsonl"
    path.write_bytes(b'[1]\n"x"\n{"kind":"decision"}\n\xff\xfe\n{"schema":1,"kind":"decision","n":3}\n\n')
    assert [record["n"] for record in records(path)] == [3]


def test_two_instances_never_write_one_log(tmp_path: Path) -> None:
    path = tmp_path / "audit.jsonl"
    first = Audit(path)
    with pytest.raises(LiveConfigError, match="another instance"):
        Audit(path)
    first.close()
    Audit(path).close()


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
def test_a_full_disk_is_an_error_of_the_disk(tmp_path: Path) -> None:
    path = tmp_path / "audit.jsonl"
    path.symlink_to("/dev/full")
    audit = Audit(path)
    with pytest.raises(OSError, match=os.strerror(28)):
        audit.write("decision", 0.0, {"n": 1})
    audit.close()


def test_numbers_that_json_has_no_word_for_never_reach_the_file(tmp_path: Path) -> None:
    audit = Audit(tmp_path / "audit.jsonl")
    with pytest.raises(ValueError, match="JSON"):
        audit.write("decision", 0.0, {"n": math.nan})
    audit.close()
