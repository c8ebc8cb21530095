"""Cluster Autoscaler: estimator, expanders, timers and blocks one by one, then in a closed circle."""

from __future__ import annotations

import random

import numpy as np
import pytest

from agents.cluster_autoscaler import ClusterAutoscaler
from agents.cluster_autoscaler_expanders import (
    Option,
    Pod,
    Template,
    choose,
    estimate,
    least_nodes,
    least_waste,
    most_pods,
    preferred_cpu,
    price,
    priority,
)
from agents.cluster_autoscaler_nodes import Backoff, Blocks, Requests, Unneeded, eligible, healthy, utilisation
from rlscale.checks import ToyFleet, drive, limits_of, observation, totals
from rlscale.errors import ScenarioError

NODE = Template(1000, 5000, pods=10)


def test_the_largest_pods_are_packed_first_and_small_ones_fill_the_gaps():
    small, large = Pod(100, 100), Pod(600, 100)
    nodes, placed = estimate([(small, 8), (large, 2)], NODE)
    assert (nodes, placed) == (2, ((large, 2), (small, 8)))


def test_limits_of_nodes_and_of_pods_per_node():
    assert estimate([(Pod(10, 10), 25)], NODE) == (3, ((Pod(10, 10), 25),))
    nodes, placed = estimate([(Pod(500, 1000), 20), (Pod(50, 0), 10)], NODE, max_nodes=5)
    assert nodes == 5 and placed[0][1] == 10 and placed[1][1] == 0
    assert estimate([(Pod(2000, 0), 3), (Pod(100, 0), 1)], NODE)[0] == 1  # what fits nowhere stays unplaced
    assert estimate([(Pod(2000, 0), 3)], NODE)[0] == 0
    assert estimate([(Pod(1, 1, exclusive=True), 3)], NODE)[0] == 3


def option(name: str, nodes: int = 1, pods: int = 1, cpu: float = 1000, **more: object) -> Option:
    template = Template(cpu, 1000, more.pop("gpus", 0), price=more.pop("price", 1.0))
    return Option(name, nodes, (Pod(100, 100, price=1.0),) * pods, template, **more)


def names(options: list[Option]) -> list[str]:
    return [one.group for one in options]


def test_expanders_filter_and_keep_ties():
    assert names(least_waste([option("a"), option("b", cpu=2000), option("c")])) == ["a", "c"]
    assert names(most_pods([option("a", pods=3), option("b", pods=4), option("c", pods=4)])) == ["b", "c"]
    assert names(least_nodes([option("a", 0), option("b", 2), option("c", 1)])) == ["c"]
    assert least_nodes([option("a", 0)]) == []


def test_priority_takes_the_highest_of_a_group_and_drops_the_unlisted():
    groups = [option("big.t2"), option("small.t2"), option("other")]
    assert names(priority({5: [".*t2"], 10: ["big"]})(groups)) == ["big.t2"]
    assert names(priority({5: ["t2$"]})(groups)) == ["big.t2", "small.t2"]
    assert len(priority({5: ["none"]})(groups)) == len(priority({})(groups)) == len(priority({5: ["("]})(groups)) == 3


def test_price_weighs_size_less_for_many_nodes_and_gpus_all_the_same():
    best = price(1000, 0.5)
    assert names(best([option("right", pods=4), option("large", pods=4, cpu=4000)])) == ["right"]
    assert names(best([option("a", 90, 4), option("b", 90, 4, cpu=4000)])) == ["a"]
    assert len(best([option("a", gpus=1), option("b", cpu=9000, gpus=8)])) == 2
    assert names(best([option("new", exists=False), option("old", price=1.5)])) == ["old"]
    assert names(best([option("a", price=None), option("b", price=9.0)])) == ["b"]
    assert [preferred_cpu(count) for count in (2, 3, 6, 7, 20, 60, 61, 200, 201)] == [1, 2, 2, 4, 4, 8, 16, 16, 32]


def test_a_chain_filters_in_turn_and_draws_among_equals():
    options = [option("a", 2, 4), option("b", 1, 4), option("c", 1, 3), option("d", 1, 4)]
    drawn = {choose(options, [most_pods, least_nodes], random.Random(seed)).group for seed in range(20)}
    assert drawn == {"b", "d"}
    assert choose([], [most_pods], random.Random(0)) is None


def test_utilisation_is_of_requests_and_the_larger_of_two():
    pods = [Requests(100, 2000), Requests(100, 0, kind="mirror"), Requests(300, 0, long_terminating=True)]
    assert utilisation(Template(1000, 4000), pods) == 0.5
    assert utilisation(Template(1000, 8000), [Requests(100, 800, kind="daemonset"), Requests(450, 0)], True) == 0.5
    assert utilisation(Template(1000, 4000, gpus=8), [Requests(1000, 4000, gpus=2)]) == 0.25
    assert utilisation(Template(0, 0), pods) == 0.0


def test_half_used_is_eligible():
    assert eligible(0.5) and not eligible(0.5000001)


def test_the_timer_runs_ten_minutes_and_starts_anew_when_a_node_is_needed_once():
    timer = Unneeded()
    timer.update(0, ["a", "b"])
    timer.update(300, ["a"])
    timer.update(301, ["a", "b"])
    assert not timer.over(599, "a") and timer.over(600, "a") and not timer.over(900, "b") and timer.over(901, "b")
    assert not timer.over(1199, "a", ready=False) and timer.over(1200, "a", ready=False)
    assert not timer.over(5000, "c")


def test_removal_is_blocked_after_growth_failure_and_removal():
    for what, wait_s in (("add", 600), ("failure", 180), ("delete", 10)):
        blocks = Blocks()
        assert not blocks.blocking(0)
        blocks.happened(what, 100)
        assert blocks.blocking(100 + wait_s - 1) == what and not blocks.blocking(100 + wait_s)


def test_a_failing_group_is_left_alone_for_longer_each_time():
    backoff = Backoff()
    backoff.fail("a", 0)
    backoff.fail("a", 200)
    assert backoff.waiting("a", 299) and not backoff.waiting("a", 300) and not backoff.waiting("b", 0)
    lengths, t_s = [], 300
    for _ in range(4):
        backoff.fail("a", t_s)
        length = next(s for s in range(1, 4000) if not backoff.waiting("a", t_s + s))
        lengths.append(length)
        t_s += length
    assert lengths == [600, 1200, 1800, 1800]
    backoff.fail("a", t_s + 10_800)
    assert not backoff.waiting("a", t_s + 10_800 + 300)


def test_a_cluster_is_unhealthy_with_many_unready_nodes_only():
    assert healthy(4, 3) and healthy(100, 45) and not healthy(100, 46) and not healthy(8, 4) and healthy(9, 4)


def seen(limits, t_s: float, running: float, ready: list[int], target: list[int], late: list[int] | None = None):
    pending = np.array(target) - np.array(ready)
    by_age = np.zeros((len(ready), 7), np.int64)
    by_age[:, -1] = late or 0
    counts = {"ready": np.array(ready), "ready_at_scrape": np.array(ready), "target": np.array(target)}
    return observation(limits, t_s=t_s, running=running, pending=pending, pending_by_age=by_age, **counts)


def test_upcoming_nodes_are_counted_and_not_removed():
    limits = limits_of()
    scaler = ClusterAutoscaler(limits, target=0.5)
    assert scaler.decide(seen(limits, 0, 160, [2], [2])).target == (4,)
    for k in range(1, 100):
        assert scaler.decide(seen(limits, 15 * k, 160, [2], [4])).target == (4,)
    for k in range(100, 200):
        assert scaler.decide(seen(limits, 15 * k, 16, [2], [4])).target in ((4,), (3,))


def test_the_cheapest_group_grows_first_and_a_failing_one_is_left_alone():
    limits = limits_of(3)
    scaler = ClusterAutoscaler(limits, target=0.5)
    assert scaler.decide(seen(limits, 0, 160, [2, 0, 0], [2, 0, 0])).target == (4, 0, 0)
    decision = scaler.decide(seen(limits, 15, 320, [2, 0, 0], [4, 0, 0], late=[2, 0, 0]))
    assert decision.target[0] == 4 and decision.target[1] > 0


def test_an_idle_replica_leaves_after_ten_minutes_and_at_most_ten_at_once():
    limits = limits_of()
    scaler, counts = ClusterAutoscaler(limits, after_add_s=0.0), []
    target = [30]
    for k in range(60):
        target = list(scaler.decide(seen(limits, 15.0 * k, 80, target, target)).target)
        counts.append(target[0])
    assert counts[39] == 30 and counts[40:43] == [20, 10, 2]


def test_after_growth_removal_waits_although_the_timer_is_over():
    limits = limits_of()
    scaler, fleet = ClusterAutoscaler(limits, unneeded_s=60.0), ToyFleet(limits, 40.0, start_s=0.0)
    drive(scaler, fleet, 100)
    fleet.rate_per_s = 100.0
    peak = totals(drive(scaler, fleet, 4))[-1]
    fleet.rate_per_s = 30.0
    counts = totals(drive(scaler, fleet, 80))
    assert counts[30] == peak > counts[-1]


def test_an_unknown_expander_is_refused():
    with pytest.raises(ScenarioError, match="least-wast"):
        ClusterAutoscaler(limits_of(), expander="least-wast")
    ClusterAutoscaler(limits_of(), expander="most-pods, least-waste, random")
