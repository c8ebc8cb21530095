"""Failures that go on, said when they begin, when they change, every ten minutes, and when they are over."""

from __future__ import annotations

from dataclasses import dataclass, field

REMIND_S = 600.0


@dataclass
class _Lasting:
    text: str
    said_s: float
    count: int = 1
    fresh: bool = True  # in this turn


@dataclass
class Told:
    """What the log has been told of failures, by where they happen. Times are those of a steady clock, in seconds."""

    _lasting: dict[str, _Lasting] = field(default_factory=dict)

    def failed(self, where: str, text: str, now_s: float) -> bool:
        """Whether this failure is to be said."""
        before = self._lasting.get(where)
        if before is None or before.text != text or now_s - before.said_s >= REMIND_S:
            self._lasting[where] = _Lasting(text, now_s, 1 if before is None else before.count + 1)
            return True
        before.count, before.fresh = before.count + 1, True
        return False

    def over(self) -> list[tuple[str, int]]:
        """To be asked once a turn: what has not failed in it any more, and how often it had."""
        ended = [(where, one.count) for where, one in self._lasting.items() if not one.fresh]
        self._lasting = {where: one for where, one in self._lasting.items() if one.fresh}
        for one in self._lasting.values():
            one.fresh = False
        return ended
