"""Ray metrics of a policy: errors and decisions. Where ray cannot count, nothing is counted."""

from __future__ import annotations

from typing import Any

TAGS = ("application", "deployment")


class Counters:
    """`rlscale_scaler_errors` and `rlscale_decisions`, by application and deployment; decisions also by who decided."""

    def __init__(self, application: str, deployment: str) -> None:
        self._tags = {"application": application, "deployment": deployment}
        self._errors_told = 0
        self._errors, self._decisions = _made()

    def decided(self, by: str) -> None:
        """One more decision."""
        self._add(self._decisions, 1, {"by": by})

    def errors(self, total: int) -> None:
        """So many errors so far."""
        if total > self._errors_told:
            self._add(self._errors, total - self._errors_told, {})
            self._errors_told = total

    def _add(self, counter: Any, count: int, tags: dict[str, str]) -> None:
        if counter is not None:
            counter.inc(count, tags={**self._tags, **tags})


def _made() -> tuple[Any, Any]:
    try:
        from ray.util.metrics import Counter

        return (
            Counter("rlscale_scaler_errors", "Times a scaler could not decide.", TAGS),
            Counter("rlscale_decisions", "Decisions.", (*TAGS, "by")),
        )
    except Exception:  # no ray, or one without metrics
        return None, None
