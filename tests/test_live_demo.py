"""The live demo without processes: replicas against the oracle, books of the fleet, accelerated time, the report."""

from __future__ import annotations

import math
import time
from dataclasses import replace
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pytest

from experiments.__main__ import main
from experiments.live_demo.accelerated import MONDAY_S, AcceleratedClock, AcceleratedSource, hurried
from experiments.live_demo.compared import Pair, rows, told_error, verdict
from experiments.live_demo.conductor import Demo
from experiments.live_demo.fleet import Books, FleetLaw, averages, fleet_law
from experiments.live_demo.outcome import Played, live_result
from experiments.live_demo.pages_merged import merged
from experiments.live_demo.recorded import record
from experiments.live_demo.replica import ToyReplica
from experiments.live_demo.report import html, markdown, ranged, results_of
from experiments.live_demo.simulated import scenario_file
from experiments.results import plain
from rlscale.deploy.base import Reading
from rlscale.errors import ScenarioError
from rlscale.scenario import load_scenario
from rlscale.sim.laws import iteration_s
from rlscale.sim.naive import Lifetime, Oracle, Server
from rlscale.sim.world import SimWorld
from rlscale.types import IterationLaw, Load, Requests, TokenLaw

LAW = IterationLaw(0.02, 1e-4, 1e-4, 4e-8, 0.0)
SERVER = Server(partial(iteration_s, LAW), seats=8, kv_capacity_tokens=9000.0, chunk_tokens=512.0)


def some_requests(rng: np.random.Generator, n: int, per_s: float) -> Requests:
    arrival = np.cumsum(rng.exponential(1.0 / per_s, n))
    return Requests(arrival, rng.integers(10, 3000, n).astype(float), rng.integers(1, 200, n).astype(float))


@pytest.mark.parametrize("seed", range(4))
def test_a_toy_replica_answers_when_the_oracle_does_however_late_it_is_looked_at(seed: int) -> None:
    rng = np.random.default_rng(seed)
    requests = some_requests(rng, 150, per_s=1.5 + seed)  # from a quiet replica to one that drops and preempts
    oracle = Oracle(SERVER, [Lifetime()], timeout_s=20.0)
    expected = oracle.run(requests)

    toy = ToyReplica(SERVER, timeout_s=20.0)
    first, finish, gave_up = np.full(150, np.inf), np.full(150, np.inf), set()
    looks = np.sort(rng.uniform(0.0, expected.end_s, 400))

    def note() -> None:
        for event in toy.news():
            if event.what == "gave up":
                gave_up.add(event.job.number)
            else:
                (first if event.what == "first" else finish)[event.job.number] = event.at_s

    arrivals = list(zip(requests.arrival_s, range(150), requests.prompt_tokens, requests.output_tokens, strict=True))
    for look_s in [*looks, math.inf]:
        while arrivals and arrivals[0][0] <= look_s:
            at_s, number, prompt, output = arrivals.pop(0)
            toy.serve(number, at_s, 0.0, prompt, output)
        toy.go_on(look_s)
        note()
    np.testing.assert_array_equal(first - requests.arrival_s, expected.ttft_s)
    np.testing.assert_array_equal(finish - requests.arrival_s, expected.e2e_s)
    assert len(gave_up) == expected.dropped
    assert (toy.waiting, toy.running, toy.memory, toy.next_s) == (0, 0, 0.0, math.inf)


def test_a_draining_replica_sends_away_what_it_had_not_begun_and_finishes_the_rest() -> None:
    toy = ToyReplica(SERVER)
    for number in range(12):
        toy.serve(number, 1.0, 0.0, 1000.0, 50.0)
    moved = toy.drain(1.5)
    begun = 12 - len(moved)
    assert 0 < begun < 12 and toy.waiting == 0 and toy.running == begun
    toy.go_on()
    assert sum(event.what == "finished" for event in toy.news()) == begun


def test_patience_counts_from_when_a_request_was_first_asked() -> None:
    toy = ToyReplica(SERVER, timeout_s=5.0)
    for number in range(9):
        toy.serve(number, 0.0, 0.0, 900.0, 100.0)
    toy.serve(9, 0.0, 4.9, 100.0, 10.0)
    toy.go_on()
    assert [event.job.number for event in toy.news() if event.what == "gave up"] == [9]


BOOKS = FleetLaw(node_s=60.0, cold_s=20.0, warm_s=10.0, drain_s=30.0, idle_s=40.0, usd_per_s=1.0)


def test_the_books_follow_a_replica_from_its_order_to_the_end_of_its_node() -> None:
    books = Books(BOOKS, 4, can_serve=lambda _: True)
    books.begin(1, 0.0)
    books.order(2, 10.0)
    assert books.fleet().pending == (1,) and books.cost_usd(10.0) == 10.0
    books.advance(69.0)
    assert books.slots("ordered") == [1] and books.cost_usd(69.0) == 69.0  # nothing is billed before the node is up
    books.advance(89.0)
    assert books.slots("loading") == [1] and books.cost_usd(89.0) == 89.0 + 19.0
    books.advance(90.0)
    assert books.slots("ready") == [0, 1]
    books.order(1, 100.0)
    assert books.slots("draining") == [1] and books.fleet().target == (1,)
    books.gone(1, 110.0)  # finished its requests before the 30 s were over
    assert books.slots("idle") == [1]
    books.order(2, 120.0)
    assert books.slots("loading") == [1]  # on the node that is still there
    books.advance(130.0)
    assert books.slots("ready") == [0, 1]  # which has run the service before
    books.order(1, 140.0)
    books.advance(500.0)
    assert books.slots("absent") == [1, 2, 3]
    assert books.cost_usd(500.0) == 500.0 + (140.0 + 30.0 + 40.0 - 70.0)
    assert books.churn == 4 and books.started == 2


def test_cancelling_takes_the_youngest_that_is_not_ready_and_costs_nothing() -> None:
    books = Books(BOOKS, 4)
    books.begin(1, 0.0)
    books.order(2, 0.0)
    books.order(3, 30.0)
    books.order(2, 40.0)
    assert books.slots("ordered") == [1] and books.cost_usd(40.0) == 40.0


def test_a_replica_that_dies_is_replaced_on_its_node() -> None:
    books = Books(BOOKS, 4)
    books.begin(2, 0.0)
    books.gone(0, 5.0)
    assert (books.slots("ready"), books.slots("loading"), books.failed) == ([1], [0], 1)


def test_a_replica_is_not_ready_before_its_process_is_up() -> None:
    up: set[int] = set()
    books = Books(BOOKS, 3, up.__contains__)
    books.begin(0, 0.0)
    books.order(1, 0.0)
    books.advance(85.0)
    assert books.slots("loading") == [0]
    up.add(0)
    books.advance(86.0)
    assert books.slots("ready") == [0] and books.late == 1


def test_means_of_the_fleet_are_over_time() -> None:
    log = [(0.0, 2, 0, 0, 2), (5.0, 3, 0, 0, 3), (12.0, 1, 0, 0, 3)]
    found = averages(log, np.array([0.0, 10.0, 20.0]))
    assert found["ready"].tolist() == [2.5, (2 * 3 + 8 * 1) / 10.0] and found["billed"].tolist() == [2.5, 3.0]


def test_the_books_cost_what_the_simulator_says_for_the_same_orders() -> None:
    scenario = load_scenario(scenario_file())
    spec, law = scenario.cluster, TokenLaw((0.0, 1.0), (10.0, 10.0), (0.0, 1.0), (1.0, 1.0))
    orders = [3, 5, 8, 8, 8, 8, 9, 6, 6, 4, 4, 7, 7, 7, 7, 7, 7, 2, 2, 2, 2, 2, 2, 2, 3, 3, 3, 3, 3, 3]
    empty = Load("empty", 1.0, np.zeros(len(orders) * 15, np.float32), "counts", (law,))
    world, books = SimWorld(spec, [empty], [0], np.array([[3]])), Books(fleet_law(spec), 20)
    books.begin(3, 0.0)
    for i, target in enumerate(orders):
        now_s = i * spec.interval_s
        world.apply(np.array([[target]]))
        books.order(target, now_s)
        for slot in books.slots("draining"):  # nobody to finish
            books.gone(slot, now_s)
        world.wait()
        books.advance(now_s + spec.interval_s - 1e-6)
        assert int(world.pool[0, 0]["ready"]) == books.fleet().ready[0], i
    # The simulator looks once a second.
    assert books.cost_usd(len(orders) * 15.0) == pytest.approx(float(world.cost_usd()[0]), rel=0.005)


def test_a_scenario_that_the_toy_cannot_play_is_refused() -> None:
    spec = load_scenario(scenario_file()).cluster
    with pytest.raises(ScenarioError, match="one pool"):
        fleet_law(replace(spec, pools=spec.pools * 2))


def test_an_accelerated_clock_runs_that_many_times_faster() -> None:
    clock = AcceleratedClock(100.0)
    assert (clock.steady_s(), clock.unix_s()) == (0.0, MONDAY_S)
    clock.began_s = time.monotonic() - 1.0
    assert clock.wait(5.0)
    assert 105.0 <= clock.steady_s() < 1000.0
    assert clock.simulated_unix_s(time.time()) == pytest.approx(clock.unix_s(), abs=50.0)
    clock.stop()
    assert not clock.wait(5.0)


def test_a_faster_world_is_read_in_simulated_seconds() -> None:
    clock = AcceleratedClock(10.0, time.monotonic() - 60.0)
    told = Reading(time.time() - 2.0, arrival_per_s=50.0, waiting=3.0, ttft_s=0.1, tpot_s=math.nan, dropped_per_s=10.0)
    source = SimpleNamespace(read=lambda: told, close=lambda: None)
    seen = AcceleratedSource(source, clock).read()
    assert (seen.arrival_per_s, seen.waiting, seen.ttft_s, seen.dropped_per_s) == (5.0, 3.0, 1.0, 1.0)
    assert math.isnan(seen.tpot_s)
    assert clock.unix_s() - seen.taken_s == pytest.approx(20.0, abs=5.0)
    limits = load_scenario(scenario_file()).limits
    assert hurried(limits, 10.0).slo.ttft_s == limits.slo.ttft_s / 10.0


def test_pages_of_replicas_become_one_page() -> None:
    parser = pytest.importorskip("prometheus_client.parser", reason="needs prometheus-client")
    page = '# HELP vllm:a text\n# TYPE vllm:a gauge\nvllm:a{model_name="m"} 1.0\n# HELP b text\n# TYPE b gauge\nb 2.0\n'
    one = merged([(1, page), (2, page), (3, "")])
    families = {family.name: family for family in parser.text_string_to_metric_families(one)}
    assert [sample.labels for sample in families["vllm:a"].samples] == [
        {"replica": "1", "model_name": "m"}, {"replica": "2", "model_name": "m"},
    ]  # fmt: skip
    assert [sample.value for sample in families["b"].samples] == [2.0, 2.0]


def played_of(requests: Requests, ttft_s: float, unserved: int, duration_s: float) -> Played:
    """A live run in which all requests but the first few were served alike."""
    n = len(requests)
    outcome = np.where(np.arange(n) < unserved, "gave-up", "served")
    first = np.where(outcome == "served", requests.arrival_s + ttft_s, np.inf)
    columns: dict[str, Any] = {
        "arrival_s": requests.arrival_s, "prompt_tokens": requests.prompt_tokens, "outcome": outcome,
        "output_tokens": requests.output_tokens, "sent_s": requests.arrival_s + 0.01, "first_s": first,
        "end_s": first + 0.05 * (requests.output_tokens - 1.0),
    }  # fmt: skip
    seen = {"waiting": 2.0, "age_s": 3.0, "arrival_per_s": None}
    times_s = np.arange(15.0, duration_s, 15.0)
    decisions = [{"at_s": at_s, "t_s": at_s, "observation": seen, "target": [3]} for at_s in times_s]
    return Played("hpa", "hpa", columns, [(0.0, 3, 0, 0, 3)], duration_s * 3, 0, 0, 0, 0, decisions, 0, 1.0)


@pytest.mark.parametrize(("speed", "scrape_s", "covered_s"), [(1, 15 / 7, 15.0), (10, 1.5 / 7, 15.0),
                                                              (20, 0.15, 15.0), (200, 0.15, 90.0)])  # fmt: skip
def test_scrapes_divide_an_interval_and_a_reading_covers_one(speed: float, scrape_s: float, covered_s: float) -> None:
    demo = Demo(load_scenario(scenario_file(), check_reference=False), cast(Any, None), speed, "scrape")
    assert demo.scrape_s == pytest.approx(scrape_s)
    assert demo.window_s * speed == pytest.approx(covered_s)  # of simulated time; three scrapes at the highest speed
    assert demo.lag_s == pytest.approx(0.5 * speed * scrape_s)


@pytest.mark.parametrize(("given", "said"), [
    ("--runs 0", "--runs 0; expected 1 to 100"), ("--speed 0.5", "--speed 0.5; expected 1 to 200"),
    ("--scalers hpa,hpa", "expected different names"), ("--minutes 90", "--minutes 90; expected up to 72"),
    ("--kill gateway@9", "expected replica@SECONDS or loop@SECONDS"),
])  # fmt: skip
def test_a_demo_that_cannot_be_played_is_refused(
    given: str, said: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["live-demo", *given.split(), "--out", str(tmp_path / "new")]) == 2
    assert said in capsys.readouterr().err
    assert not (tmp_path / "new").exists()


def test_what_the_loop_was_told_is_held_against_what_the_clients_asked_for() -> None:
    arrival_s = np.arange(0.05, 300.0, 0.1)  # ten per second until 100 s, twenty from then on
    arrival_s = np.sort(np.concatenate([arrival_s, arrival_s[arrival_s > 100.0] + 0.03]))
    lag_s, window_s = 2.5, 15.0

    def told(at_s: float) -> float:
        """The rate of the window behind `at_s`, right but for 6 % too much and too little by turns."""
        second = np.clip(at_s - lag_s - 100.0, 0.0, window_s) / window_s
        return (10.0 + 10.0 * second) * (1.06 if at_s % 30.0 else 0.94)

    requests = Requests(arrival_s, np.full(len(arrival_s), 100.0), np.full(len(arrival_s), 10.0))
    played = played_of(requests, 1.0, 0, 300.0)
    decisions = [{**record, "observation": {"arrival_per_s": told(record["at_s"])}} for record in played.decisions]
    played = replace(played, decisions=decisions)
    assert told_error([played, played], lag_s, window_s) == pytest.approx(0.06, abs=0.002)
    assert told_error([played], lag_s + window_s, window_s) > 0.1  # the rise falls into another window
    assert told_error([replace(played, decisions=[])], lag_s, window_s) == 0.0
    assert told_error([played_of(requests, 1.0, 0, 300.0)], lag_s, window_s) == 0.0  # it was told nothing


def test_a_live_run_becomes_the_same_result_as_a_simulated_one_and_a_report() -> None:
    scenario = replace(load_scenario(scenario_file()), horizon_s=300.0)
    recorded = record(scenario, seed=1)
    n = len(recorded.requests)
    assert n == recorded.load.values.sum() and recorded.initial >= 2
    good, bad = (live_result(played, recorded, scenario, 1) for played in (
        played_of(recorded.requests, 1.0, 0, 300.0), played_of(recorded.requests, 1.3, 3, 300.0)))  # fmt: skip
    assert good.summary()["attainment"] == 1.0
    assert good.summary()["ttft_p50_s"] == pytest.approx(1.0, rel=0.04)
    assert good.summary()["tpot_mean_s"] == pytest.approx(0.05)
    assert good.summary()["cost_usd"] == good.series["cost_usd"].sum() == 900.0
    assert bad.summary()["attainment"] == pytest.approx((n - 3) / n)
    assert bad.summary()["dropped"] == 3.0 and bad.summary()["ttft_p99_s"] > 1.0

    played = played_of(recorded.requests, 1.3, 3, 300.0)
    pair = Pair(good, [], [bad], [played], 0.0)
    found = {row["measure"]: row for row in rows(pair)}
    assert found["cost_usd"]["within"] and not found["ttft_mean_s"]["within"] and found["churn"]["within"] is None
    assert found["ttft_mean_s"]["error"] == pytest.approx(0.3)
    assert "outside: TTFT mean of hpa" in verdict(list(found.values()))

    several = Pair(good, [bad], [bad, good, good], [played] * 3, 0.05)
    mean = {row["measure"]: row for row in rows(several)}["ttft_mean_s"]
    assert (mean["simulated"], mean["live"]) == pytest.approx((1.0, 1.1))  # perturbed simulations are in the span alone
    assert (mean["live_least"], mean["simulated_most"]) == pytest.approx((1.0, 1.3)) and mean["within"]
    assert ranged(mean, "live") == "1.1 s (1 to 1.3 s)"

    demo: Any = SimpleNamespace(scenario=scenario, recorded=recorded, speed=20.0, metrics="scrape", scrape_s=0.25,
                                window_s=1.0, lag_s=2.5, faults=())  # fmt: skip
    results = plain(results_of(demo, [several], datetime.now(UTC), 1))
    page = html(results)
    assert "3 live runs (their mean)" in page and '<span class="ci">1 to 1.3 s</span>' in page
    assert verdict([mean], 3).endswith("the largest difference is 10.0 % (30.0 % in a single run).")
    assert "arrival rates by 5.0 % with hpa" in markdown(results)
    results = plain(results_of(demo, [pair], datetime.now(UTC), 1))
    page = html(results)
    assert page.count("<svg") >= 3 and "It says nothing about how well the law describes a GPU" in page
    assert "| TTFT mean | 1 s | 1.3 s | +30.0 % | OUTSIDE |" in markdown(results)
