"""Tests with real servers are run by `make test-live`, which installs what they need, and skipped elsewhere."""

from __future__ import annotations

import os

import pytest

REASON = "needs real servers; `make test-live` installs and runs them (RLSCALE_LIVE=1)"


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    if os.environ.get("RLSCALE_LIVE", "0") in ("", "0"):
        for item in items:
            if item.get_closest_marker("live") is not None:
                item.add_marker(pytest.mark.skip(reason=REASON))
