"""What an exported file holds of one policy; an export puts the values in place of these."""

from __future__ import annotations

from typing import Any

SPEC: dict[str, Any] = {}
WEIGHTS: dict[str, Any] = {}
