"""Everything registered keeps the contract of a scaler, and the contract notices who does not."""

from __future__ import annotations

from dataclasses import replace

import odd_scalers
import pytest

from rlscale import registry
from rlscale.checks import PROPERTIES, ToyFleet, check_scaler, drive, failures, limits_of, totals
from rlscale.decide import Cadence, Cooldown, Window
from rlscale.types import ScalerKind

KINDS: dict[str, ScalerKind] = registry.scan("agents", "SCALERS")
OPEN_LOOP = {"fixed"}  # ignore the load by design
SETTINGS_THAT_LACK: dict[str, tuple[dict[str, float], ...]] = {  # beside those of upstream
    "keda-slo": ({"upper": 0.18},),
    "aibrix-kpa": ({"target": 0.5},),
    "knative": ({"max_scale_up_rate": 1.5},),
}


@pytest.mark.parametrize("pools", [1, 3])
@pytest.mark.parametrize("name", KINDS)
def test_every_scaler_keeps_the_contract(name: str, pools: int):
    check_scaler(KINDS[name], limits_of(pools), reacts=name not in OPEN_LOOP)


@pytest.mark.parametrize("name", [name for name, kind in KINDS.items() if kind.upstream])
def test_upstream_settings_can_be_built_and_keep_the_contract(name: str):
    check_scaler(KINDS[name], limits_of(), reacts=name not in OPEN_LOOP, **KINDS[name].upstream)


def test_a_full_schedule_keeps_the_contract_without_looking_at_the_load():
    check_scaler(KINDS["scheduled"], limits_of(), reacts=False, table=[40.0] * 168)


@pytest.mark.parametrize("name", [name for name, kind in KINDS.items() if kind.knob])
def test_every_value_of_a_knob_can_be_built_and_the_default_is_among_them(name: str):
    kind = KINDS[name]
    assert len(set(kind.knob.values)) >= 8
    assert kind.knob.default in kind.knob.values
    for value in kind.knob.values:
        kind.build(limits_of(), **{kind.knob.name: value})


@pytest.mark.parametrize("name", [name for name, kind in KINDS.items() if kind.knob])
def test_a_knob_runs_from_cheap_to_dear(name: str):
    """Five steady minutes at 60 requests/s: no value asks for fewer replicas than the one before it."""
    kind, fleets = KINDS[name], []
    for value in kind.knob.values:
        fleet = ToyFleet(limits_of(), 60.0, start_s=0.0)
        fleets.append(totals(drive(kind.build(limits_of(), **{kind.knob.name: value}), fleet, 400))[-1])
    assert fleets == sorted(fleets)
    assert fleets[0] < fleets[-1]


@pytest.mark.slow
@pytest.mark.timeout(120)
@pytest.mark.parametrize("name", [name for name, kind in KINDS.items() if kind.knob])
def test_every_value_of_a_knob_keeps_the_contract(name: str):
    kind = KINDS[name]
    for value in kind.knob.values:
        check_scaler(kind, limits_of(), reacts=name not in OPEN_LOOP, **{kind.knob.name: value})


@pytest.mark.parametrize("name", [name for name, kind in KINDS.items() if kind.lacks or kind.lacks_at])
def test_a_scaler_really_lacks_what_it_is_declared_to_lack_and_says_why(name: str):
    """An exemption that is no longer needed goes."""
    kind = KINDS[name]
    assert all(len(why) > 20 for why in (kind.lacks | kind.lacks_at).values())
    assert kind.lacks.keys() <= failures(kind, limits_of(), declared=False).keys()
    broken = set()
    for settings in (kind.upstream or {}, *SETTINGS_THAT_LACK.get(name, ())):
        broken |= failures(kind, limits_of(), declared=False, **settings).keys() if kind.lacks_at else set()
    assert kind.lacks_at.keys() <= broken


def test_a_lacking_property_that_does_not_exist_is_refused():
    with pytest.raises(AssertionError, match="the properties are"):
        check_scaler(replace(odd_scalers.kind_of(odd_scalers.Rule), lacks={"makes coffee": "no machine"}))


def test_the_rule_that_the_odd_scalers_break_keeps_the_contract():
    check_scaler(odd_scalers.kind_of(odd_scalers.Rule))


@pytest.mark.parametrize("rule", odd_scalers.BREAKS, ids=lambda rule: rule.__name__)
def test_a_scaler_that_breaks_a_property_is_named_with_it_and_with_no_other(rule: type[odd_scalers.Rule]):
    broken = failures(odd_scalers.kind_of(rule))
    assert list(broken) == [odd_scalers.BREAKS[rule]]
    message = broken[odd_scalers.BREAKS[rule]]
    assert message.startswith(f"{rule.__name__}(): {odd_scalers.BREAKS[rule]}: ")
    assert "expected" in message and "\n" not in message


def test_every_property_has_a_scaler_that_breaks_it():
    assert set(PROPERTIES) == set(odd_scalers.BREAKS.values())


def test_the_clock_may_be_set_back_under_beats_windows_and_cooldowns():
    beat = Cadence(60.0)
    assert [beat.due(t_s) for t_s in (3600.0, 3630.0, 30.0, 60.0, 90.0)] == [True, False, True, False, True]
    window = Window(60.0)
    assert [window.extreme(t_s, value) for t_s, value in ((3600.0, 5), (30.0, 1), (89.0, 1), (90.0, 1))] == [5, 5, 5, 1]
    cooldown = Cooldown(60.0)
    cooldown.start(3600.0)
    assert [cooldown.over(t_s) for t_s in (3659.0, 30.0, 89.0, 90.0)] == [False, False, False, True]
