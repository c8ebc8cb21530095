"""What a comparison runs, resolved: loads, and scalers with the values they are swept over. Plain values."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal

Scaling = Literal["superpose", "amplify", "recorded"]  # recorded: as it is
ANY = ""  # policies for every scenario


@dataclass(frozen=True, slots=True)
class TraceCase:
    """One trace in one scaling."""

    path: str
    format: str
    mode: Scaling
    mean_need: float
    windows_days: tuple[tuple[str, int, int], ...] = ()
    tokens: str = "own"


@dataclass(frozen=True, slots=True)
class LoadCase:
    """One source of load that every scaler meets."""

    name: str
    scenario: str
    trace: TraceCase | None = None
    block_s: float | None = None


@dataclass(frozen=True, slots=True)
class ScalerCase:
    """One row of the comparison. A rule has one member; a learned policy one folder per training seed.

    `policies` holds the folders by scenario, those under ANY for every load.
    """

    label: str
    name: str
    knob: str | None
    values: tuple[float, ...]
    params: dict[str, Any] = field(default_factory=dict)
    policies: dict[str, tuple[str, ...]] = field(default_factory=dict)
    upstream: dict[str, Any] | None = None
    summary: str = ""
    tuned: dict[str, tuple[dict[str, Any], ...]] = field(default_factory=dict)  # by load; swept instead of `values`
    probed: dict[str, tuple[dict[str, Any], ...]] = field(default_factory=dict)  # the same, on test loads only

    @property
    def learned(self) -> bool:
        """Whether training seeds stand behind the row."""
        return bool(self.policies)

    @property
    def members(self) -> int:
        """Training seeds, 1 for a rule."""
        return max([1, *(len(folders) for folders in self.policies.values())])

    def policy(self, scenario: str, member: int) -> str:
        """The folder of a training seed for loads of a scenario."""
        return self.policies.get(scenario, self.policies.get(ANY, ()))[member]
