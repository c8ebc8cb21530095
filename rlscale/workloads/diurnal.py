"""Daily and weekly load: a profile of the hours, weekends, days of different size, slow noise around it all.

The profiles are hourly rates over their mean. Those named after a trace were measured on it (clock of the trace);
the two office shapes are made, and only their peak/mean and peak/valley are those of the Azure 2024 week.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import Annotated, Any, Literal

import numpy as np
from pydantic import BeforeValidator, Field

from rlscale.errors import nearest
from rlscale.types import Floats
from rlscale.workloads.family import DAY_S, Clock, Family, NotNegative, Positive
from rlscale.workloads.noise import ar1, lognormal


@dataclass(frozen=True, slots=True)
class Profile:
    """24 hourly rates over their mean, from 00:00, and the level of a weekend day over a weekday."""

    hours: tuple[float, ...]
    weekend: float = 1.0


# fmt: off
PROFILES = {
    # peak/mean 3.07 and peak/valley 34.5 over the week
    "office-code": Profile((.207, .207, .207, .207, .207, .207, .28, .59, 1.004, 1.45, 1.867, 2.205, 2.424, 2.5, 2.424,
                            2.205, 1.867, 1.45, 1.004, .59, .28, .207, .207, .207), 0.35),
    # peak/mean 1.67 and peak/valley 3.6 over the week
    "office-chat": Profile((.574, .574, .574, .574, .574, .574, .76, .986, 1.161, 1.301, 1.41, 1.488, 1.535, 1.551,
                            1.535, 1.488, 1.41, 1.301, 1.161, .986, .76, .574, .574, .574), 0.75),
    "burstgpt": Profile((.96, .91, .59, .53, .38, .35, .20, .16, .18, .43, .90, 1.32, 1.79, 1.54, 1.84, 1.43, 1.51,
                         1.39, 1.21, 1.61, 1.39, 1.20, 1.16, 1.05)),
    "servegen-m-small": Profile((.83, .70, .75, .70, .71, .73, .77, .87, 1.00, 1.13, 1.11, 1.08, 1.04, 1.06, 1.04,
                                 1.03, 1.07, 1.06, .99, 1.21, 1.43, 1.38, 1.25, 1.05)),
    "servegen-deepseek-r1": Profile((1.21, 1.39, 2.03, 1.79, 1.06, .91, .75, .58, .60, .66, .81, .83, .45, .54, .68,
                                     .70, .88, .55, .75, .59, 1.24, 1.62, 2.19, 1.18)),
    "servegen-mm-image": Profile((.59, .89, 1.12, .87, .97, .94, .87, .92, .87, 1.11, 1.33, 1.25, 1.08, 1.10, 1.26,
                                  1.30, 1.35, 1.06, .89, .92, 1.02, .89, .83, .60)),
    # July 1995; weekend level measured over days 1 to 27
    "nasa": Profile((.78, .67, .57, .47, .40, .40, .44, .68, 1.05, 1.25, 1.31, 1.44, 1.53, 1.53, 1.58, 1.56, 1.52,
                     1.26, 1.02, .92, .90, .93, .91, .89), 0.58),
    # image requests; the hours of the night, below a tenth of the mean, are silent
    "gentd26": Profile((1.83, 2.6, .54, .97, 3.19, 3.3, 3.22, 3.54, .96, .84, .79, .52, .27, .36, 0., 0., 0., 0., 0.,
                        0., 0., 0., 0., .52)),
    "flat": Profile((1.0,) * 24),
}
# fmt: on


def _profile_choice(value: Any) -> Any:
    if isinstance(value, str) and value not in PROFILES:
        raise ValueError(f"unknown profile '{value}'; {nearest(value, PROFILES)}")
    if not isinstance(value, str) and (not isinstance(value, list | tuple) or len(value) != 24):
        raise ValueError("expected the name of a profile or 24 hourly rates")
    if not isinstance(value, str) and not any(value):
        raise ValueError("all 24 hourly rates are zero; expected at least one above")
    return value


ProfileChoice = Annotated[str | tuple[NotNegative, ...], BeforeValidator(_profile_choice)]


class Diurnal(Family):
    """Rate = mean x hour profile x weekend x size of the day x slow lognormal noise.

    Defaults: the residual noise of the ServeGen services (standard deviation of the log rate 0.25, autocorrelation
    of ten-minute means 0.88). `day_sigma` 1.2 gives the rare huge days of BurstGPT.
    """

    kind: Literal["diurnal"] = "diurnal"
    profile: ProfileChoice = Field("office-chat", description="a named profile, or 24 hourly rates from 00:00")
    weekend: NotNegative | None = Field(None, description="level of Saturday and Sunday over a weekday; the profile's")
    day_sigma: NotNegative = Field(0.0, description="standard deviation of the log of a day's size")
    noise_sigma: NotNegative = Field(0.25, description="standard deviation of the log of the slow noise")
    noise_s: Positive = Field(3300.0, description="correlation time of the slow noise, seconds")

    def shape(self, rng: np.random.Generator, clock: Clock) -> Floats:
        """Product of the five factors, each of mean 1."""
        hours, weekend = self._profile()
        level = weekly(hours, weekend, clock.week_s + clock.mid_s)
        if self.day_sigma > 0:
            level = level * day_sizes(rng, clock.week_s + clock.mid_s, self.day_sigma)
        if self.noise_sigma > 0:
            level = level * lognormal(ar1(rng, clock.mid_s, self.noise_s)[:, 0], self.noise_sigma)
        return level

    def _profile(self) -> tuple[tuple[float, ...], float]:
        known = PROFILES[self.profile] if isinstance(self.profile, str) else Profile(self.profile)
        return known.hours, known.weekend if self.weekend is None else self.weekend


def day_sizes(rng: np.random.Generator, week_s: Floats, sigma: float) -> Floats:
    """Lognormal size of the day, mean 1, at rising times counted from Monday 00:00; days are independent."""
    day = np.floor_divide(week_s, DAY_S).astype(np.int64)
    first = int(day[0])
    return lognormal(rng.standard_normal(int(day[-1]) - first + 1), sigma)[day - first]


def weekly(hours: tuple[float, ...], weekend: float, week_s: Floats) -> Floats:
    """Profile and weekend at times counted from Monday 00:00; mean over a week 1."""
    hour = np.mod(week_s, DAY_S) / 3600.0
    nodes = _nodes(hours)
    level = np.interp(hour, np.arange(-0.5, 25.0), np.concatenate([nodes[-1:], nodes, nodes[:1]]))
    saturday = np.mod(np.floor_divide(week_s, DAY_S), 7.0) >= 5.0
    return np.asarray(level * np.where(saturday, weekend, 1.0) * 7.0 / (5.0 + 2.0 * weekend))


@lru_cache(maxsize=32)
def _nodes(hours: tuple[float, ...]) -> Floats:
    """Rates at the middle of the hours whose straight-line interpolation has the given hourly means.

    The mean of a line through neighbouring nodes is (before + 6 here + after) / 8; without this the peak hour of
    deepseek-r1 would be 7 % too low.
    """
    mean = np.array(hours) / np.mean(hours)
    average = 0.75 * np.eye(24) + 0.125 * (np.roll(np.eye(24), 1, axis=1) + np.roll(np.eye(24), -1, axis=1))
    nodes = np.maximum(np.linalg.solve(average, mean), 0.0)
    return np.asarray(nodes / nodes.mean())


WORKLOADS = {"diurnal": Diurnal}
