"""Passed and failed per system, after the tests."""

from __future__ import annotations

from collections import Counter
from typing import Any


def pytest_terminal_summary(terminalreporter: Any) -> None:
    """One line per system that had cases in this run."""
    counts: dict[str, Counter[str]] = {}
    for outcome in ("passed", "failed"):
        for report in terminalreporter.stats.get(outcome, []):
            system = dict(getattr(report, "user_properties", ())).get("conformance")
            if system is not None and report.when == "call":
                counts.setdefault(system, Counter())[outcome] += 1
    if not counts:
        return
    terminalreporter.section("conformance")
    for system, count in sorted(counts.items()):
        terminalreporter.write_line(f"{system:24} {count['passed']:4} passed {count['failed']:4} failed")
    total = sum(counts.values(), Counter())
    terminalreporter.write_line(f"{'all':24} {total['passed']:4} passed {total['failed']:4} failed")
