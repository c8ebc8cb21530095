"""GCP managed instance groups and Azure autoscale: the documented rules one by one, then in a closed circle."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest

from agents.azure import Autoscale, Azure, Rule, action, calm_count
from agents.gcp import GCP, Mig, needed_size, recommended, whole_instances
from rlscale.checks import ToyFleet, drive, limits_of, observation, totals
from rlscale.errors import ScenarioError


def test_fractions_are_rounded_up_when_adding_and_down_when_removing():
    assert whole_instances(1.5, "add") == 2
    assert whole_instances(1.5, "remove") == 1
    assert needed_size(5, 6.5) == 7
    assert needed_size(5, 3.5) == 4
    assert needed_size(3, 0.1 * 3 / 0.1) == 3  # no instance for a rounding error


def test_the_largest_signal_wins():
    assert recommended([3, 7, 5]) == 7
    with pytest.raises(ScenarioError):
        recommended([])


def test_a_group_keeps_the_largest_size_of_ten_minutes():
    group = Mig()
    assert group.recommend(0, 4, [10]) == 10
    assert group.recommend(599, 10, [2]) == 10
    assert group.recommend(600, 10, [3]) == 3
    assert group.recommend(1300, 3, [1]) == 1


def test_scale_in_control_limits_the_drop_from_the_recent_peak():
    group = Mig(max_in_share=0.2, control_s=1200)
    group.recommend(0, 10, [10])
    assert group.recommend(700, 10, [2]) == 8
    assert group.recommend(1199, 8, [2]) == 8  # the peak of 10 is still in the window
    assert group.recommend(1200, 8, [2]) == 2
    fixed = Mig(max_in=3, control_s=1200)
    fixed.recommend(0, 10, [10])
    assert fixed.recommend(700, 10, [2]) == 7
    assert fixed.recommend(800, 5, [2]) == 5  # a limit on removal adds nothing


def test_modes():
    assert Mig(mode="off").recommend(0, 4, [10]) == 4
    out = Mig(mode="only-scale-out")
    assert out.recommend(0, 4, [10]) == 10
    assert out.recommend(5000, 10, [2]) == 10
    with pytest.raises(ScenarioError, match="mode"):
        Mig(mode="in")


def fleet(**counts: int) -> dict[str, object]:
    named = {"ready": counts["ready"], "ready_at_scrape": counts["ready"], "target": counts["target"]}
    return {name: np.array([count]) for name, count in named.items()}


def test_replicas_in_their_initialisation_period_are_ignored_for_growth():
    def after(t_s: float) -> int:
        scaler = GCP(limits_of(), target=0.5)
        scaler.decide(observation(limits_of(), t_s=0.0, running=160.0, **fleet(ready=4, target=4)))
        seen = observation(limits_of(), t_s=t_s, running=640.0, **fleet(ready=8, target=8))
        return scaler.decide(seen).target[0]

    assert after(60.0) == 8  # a share of 1 over 4 initialised: 8
    assert after(61.0) == 16


def test_a_group_stays_large_for_ten_minutes_after_a_burst():
    limits = limits_of()
    scaler, world = GCP(limits), ToyFleet(limits, 40.0, start_s=0.0)
    drive(scaler, world, 60)
    world.rate_per_s = 100.0
    peak = max(totals(drive(scaler, world, 10)))
    world.rate_per_s = 40.0
    counts = totals(drive(scaler, world, 60))
    assert counts[30] == peak > counts[-1]


@pytest.mark.parametrize(
    ("out", "into", "expected"),
    [([True, False], [False, False], "out"), ([True], [True], "out"), ([False], [True, False], "none"),
     ([False], [True, True], "in"), ([False], [], "none")],
)  # fmt: skip
def test_any_rule_out_all_rules_in(out: list[bool], into: list[bool], expected: str):
    assert action(out, into) == expected


def test_removal_is_skipped_or_smaller_where_it_would_meet_a_rule_out():
    rules = (Rule("out", 80), Rule("in", 61))
    assert calm_count(3, 60, rules, 2) == 3  # 60 x 3 / 2 = 90
    assert calm_count(3, 50, rules, 2) == 2  # 75
    assert calm_count(4, 60, rules, 3) == 3  # 80 is not above 80
    assert calm_count(4, 60, (Rule("out", 80, inclusive=True),), 3) == 4
    assert calm_count(10, 40, rules, 2) == 5  # 40 x 10 / 5 = 80
    assert calm_count(2, 10, rules, 0) == 1
    assert calm_count(2, 0, rules, 0) == 0


def test_the_largest_of_the_firing_rules_out_is_taken_and_then_all_cool_down():
    setting = Autoscale((Rule("out", 50, 1), Rule("out", 70, 3), Rule("in", 20, 1)))
    assert setting.tick(0, 90, 4, (1, 20)) == 7
    assert setting.tick(240, 90, 7, (1, 20)) == 7
    assert setting.tick(300, 90, 7, (1, 20)) == 10
    assert setting.tick(600, 90, 10, (1, 11)) == 11


def test_rules_look_at_the_average_of_ten_minutes():
    setting = Autoscale((Rule("out", 50), Rule("in", 20)))
    counts = [setting.tick(60.0 * k, 40 if k < 10 else 65, 4, (1, 20)) for k in range(20)]
    assert counts.index(5) == 14  # five of ten minutes at 65: 52.5
    assert setting.tick(1200, math.nan, 5, (1, 20)) == 5


def test_a_count_outside_its_bounds_is_never_moved_further_out():
    setting = Autoscale((Rule("out", 50, 5), Rule("in", 20, 5)))
    assert setting.tick(0, 90, 12, (1, 10)) == 12
    assert setting.tick(6000, 0, 2, (3, 10)) == 2


def test_azure_adds_one_per_cooldown():
    world = ToyFleet(limits_of(), 300.0, start_s=0.0)
    counts = totals(drive(Azure(limits_of()), world, 80))
    changes = [15 * k for k in range(1, 80) if counts[k] != counts[k - 1]]
    assert changes and all(later - earlier >= 300 for earlier, later in itertools.pairwise(changes))


@pytest.mark.parametrize(
    "build", [lambda: Azure(limits_of(), in_share=1.0), lambda: Autoscale((Rule("in", 20),)),
              lambda: Autoscale((Rule("out", 20, 0),)), lambda: Azure(limits_of(), target=0.0)]
)  # fmt: skip
def test_impossible_settings_are_refused(build):
    with pytest.raises(ScenarioError):
        build()
