"""Failures that go on are said when they begin, change, every ten minutes, and when they are over."""

from __future__ import annotations

from rlscale.deploy.told import REMIND_S, Told


def test_the_same_failure_is_said_once_and_again_after_ten_minutes() -> None:
    told = Told()
    said = [told.failed("metrics", "refused", 15.0 * i) for i in range(int(REMIND_S / 15.0) + 2)]
    assert [i for i, one in enumerate(said) if one] == [0, int(REMIND_S / 15.0)]
    assert told.failed("metrics", "late", 601.0)
    assert told.failed("order", "late", 601.0)


def test_the_end_is_told_with_how_often_it_had_failed() -> None:
    told = Told()
    for i in range(3):
        told.failed("metrics", "refused", float(i))
        assert told.over() == []
    assert told.over() == [("metrics", 3)]
    assert told.over() == []
    assert told.failed("metrics", "refused", 4.0)
