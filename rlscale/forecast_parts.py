"""What all forecasters are made of: their contract, how a table lists them, and what they may be asked for."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from typing import Protocol, runtime_checkable

from rlscale.errors import ScenarioError
from rlscale.types import Floats


class Forecaster(Protocol):
    """One number in, one number out, once per control interval."""

    def reset(self, history_per_s: Floats, step_s: float) -> None:
        """Forget the previous run, then learn from the rates before this one (oldest first, may be empty)."""
        ...

    def update(self, rate_per_s: float, interval_s: float) -> float:
        """Forecast of the arrival rate one lead time ahead, given the mean rate of the last `interval_s`.

        A rate that was not measured (NaN, infinite) teaches nothing: the last forecast is returned again, and where
        a forecaster keeps a calendar, its clock goes on. NaN means that nothing has been measured yet.
        """
        ...


@runtime_checkable
class Distribution(Protocol):
    """A forecaster that knows how sure it is."""

    def quantiles(self, levels: Sequence[float]) -> list[float]:
        """Quantiles of the rate that will be measured one lead time ahead, 1/s; `levels` rise and lie within (0, 1).

        Never negative, and they never fall; NaN while the forecaster does not know.
        """
        ...


@dataclass(frozen=True, slots=True)
class Parameter:
    """What a number that a user may set can be; both ends are allowed. Its default stands in the class."""

    low: float
    high: float
    meaning: str


@dataclass(frozen=True, slots=True)
class ForecasterKind:
    """A forecaster as the table lists it: `build(lead_s, **parameters)` makes one."""

    build: Callable[..., Forecaster]
    parameters: Mapping[str, Parameter]
    summary: str


def needs(library: str, forecaster: str) -> None:
    """Raise ScenarioError unless a library of the extra `forecast` is there; nothing is imported."""
    if find_spec(library) is None:
        name = {"sklearn": "scikit-learn"}.get(library, library)
        raise ScenarioError(f"forecaster '{forecaster}' needs {name}; install it with: pip install 'rlscale[forecast]'")
