"""Load predictors of NVIDIA Dynamo's planner: the last value, ARIMA, and a Kalman filter with a local linear trend.

After components/src/dynamo/planner/core/load/predictors.py of ai-dynamo/dynamo at 260b6ae9 (Apache-2.0). Order search
and fit of ARIMA are pmdarima's upstream and statsmodels' here, so its numbers differ; Prophet is not offered.
"""

from __future__ import annotations

import importlib
import math
import warnings
from itertools import pairwise
from typing import Any

from rlscale.errors import ScenarioError, nearest

MIN_POINTS = 5
LAST_POINTS = 512  # that an ARIMA forecast looks back
KPSS_5_PCT = 0.463
MAX_ORDER = 5


class ConstantPredictor:
    """The last value. What is not finite counts as 0; zeros are dropped until the first traffic."""

    def __init__(self) -> None:
        self.reset()

    def reset(self) -> None:
        """Forget the load."""
        self.points: list[float] = []
        self._seen_traffic = False

    def reset_idle_skip(self) -> None:
        """Drop leading zeros again, after history was loaded and before live traffic."""
        self._seen_traffic = False

    def state(self) -> dict[str, Any]:
        """What is remembered, as plain values."""
        return {"points": list(self.points), "seen_traffic": self._seen_traffic}

    def restore(self, state: dict[str, Any]) -> None:
        """Continue from a `state()`."""
        self.points, self._seen_traffic = list(state["points"]), bool(state["seen_traffic"])

    def add(self, value: float) -> bool:
        """One observation; False when it was dropped."""
        value = float(value) if math.isfinite(value) else 0.0
        if value == 0 and not self._seen_traffic:
            return False
        self._seen_traffic = self._seen_traffic or value != 0
        self.points.append(value)
        return True

    @property
    def last(self) -> float:
        """The newest value, 0 without any."""
        return self.points[-1] if self.points else 0.0

    def predict(self) -> float:
        """The next value."""
        return self.last


class KalmanPredictor(ConstantPredictor):
    """Level and trend, both random walks. Forecasts once per observation: asked again it repeats itself."""

    def __init__(
        self, q_level: float = 1.0, q_trend: float = 0.1, r: float = 10.0, initial_variance: float = 1000.0
    ) -> None:
        self.q_level, self.q_trend, self.r = max(1e-12, q_level), max(1e-12, q_trend), max(1e-9, r)
        self.initial_variance = initial_variance
        super().__init__()

    def reset(self) -> None:
        """Forget the load."""
        super().reset()
        self._mean = (0.0, 0.0)
        self._cov = (self.initial_variance, 0.0, self.initial_variance)  # level, both, trend
        self._ahead = False  # the mean is already that of the next step

    def state(self) -> dict[str, Any]:
        """The filter's mean and covariance; of the points only the last."""
        filtered = {"mean": list(self._mean), "cov": list(self._cov), "ahead": self._ahead}
        return super().state() | {"points": self.points[-1:]} | filtered

    def restore(self, state: dict[str, Any]) -> None:
        """Continue from a `state()`."""
        super().restore(state)
        level, trend = state["mean"]
        both = state["cov"]
        self._mean, self._cov, self._ahead = (level, trend), (both[0], both[1], both[2]), bool(state["ahead"])

    def add(self, value: float) -> bool:
        """Filter one observation; the first sets the level."""
        if not super().add(value):
            return False
        first, self.points = len(self.points) == 1, self.points[-2:]
        if first:
            self._mean = (self.last, 0.0)
            return True
        if not self._ahead:
            self._step()
        a, b, d = self._cov
        gain = a / (a + self.r), b / (a + self.r)
        error = self.last - self._mean[0]
        self._mean = self._mean[0] + gain[0] * error, self._mean[1] + gain[1] * error
        self._cov = (1 - gain[0]) * a, (1 - gain[0]) * b, d - gain[1] * b
        self._ahead = False
        return True

    def predict(self) -> float:
        """The next value, not below 0."""
        if not self.points:
            return 0.0
        if not self._ahead:
            self._step()
        return max(0.0, self._mean[0])

    def _step(self) -> None:
        a, b, d = self._cov
        self._mean = (self._mean[0] + self._mean[1], self._mean[1])
        self._cov = (a + 2 * b + d + self.q_level, b + d, d + self.q_trend)
        self._ahead = True


class ArimaPredictor(ConstantPredictor):
    """ARIMA whose order is found once, at the fifth point or the first that differs; later points update its parameters
    by a few iterations. Fewer points: the last value. Constant data: that value. An order (0, d, 0) is tried again on
    log(1 + y). What cannot be fitted forecasts the last value."""

    def __init__(self) -> None:
        _statsmodels()
        super().__init__()

    def reset(self) -> None:
        """Forget the load and the order."""
        super().reset()
        self._order: tuple[int, int, int] | None = None
        self._parameters: list[float] = []
        self._log = False
        self._new = 0  # points since the last fit

    def state(self) -> dict[str, Any]:
        """Points, order and parameters."""
        order = None if self._order is None else list(self._order)
        fitted = {"order": order, "parameters": list(self._parameters), "log": self._log, "new": self._new}
        return super().state() | fitted

    def restore(self, state: dict[str, Any]) -> None:
        """Continue from a `state()`."""
        super().restore(state)
        p, d, q = state["order"] or (0, 0, 0)
        self._order = (p, d, q) if state["order"] else None
        self._parameters, self._log, self._new = list(state["parameters"]), bool(state["log"]), int(state["new"])

    def add(self, value: float) -> bool:
        """One observation, not below 0."""
        kept = super().add(value)
        if kept:
            self.points[-1] = max(0.0, self.points[-1])
            self._new += 1
        return kept

    def predict(self) -> float:
        """The next value, not below 0."""
        if len(self.points) < MIN_POINTS:
            return self.last
        if len(set(self.points)) == 1:
            return self.points[0]
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of non-convergence: the outcome is judged by its AIC
            try:
                forecast = self._forecast()
            except (ValueError, ArithmeticError, IndexError):  # LinAlgError is a ValueError
                return self.last
        return max(0.0, forecast) if math.isfinite(forecast) else self.last

    def _values(self) -> list[float]:
        points = self.points[-LAST_POINTS:]
        return [math.log1p(value) for value in points] if self._log else points

    def _find(self) -> None:
        order, parameters = best_arima(self._values())
        if order[0] == order[2] == 0:
            self._log = True
            order, parameters = best_arima(self._values())
        self._order, self._parameters, self._new = order, parameters, 0

    def _forecast(self) -> float:
        if self._order is None:
            self._find()
        assert self._order is not None
        model = _model(self._values(), self._order)
        if self._new:
            few = {"maxiter": max(5, self._new // 10)}
            self._parameters = [float(value) for value in model.fit(self._parameters, method_kwargs=few).params]
            self._new = 0
        fitted = model.filter(self._parameters)
        forecast = float(fitted.forecast(1)[0])
        return math.expm1(forecast) if self._log else forecast


def best_arima(values: list[float]) -> tuple[tuple[int, int, int], list[float]]:
    """Order (p, d, q) and parameters of least AIC, by a stepwise search from (2, d, 2), (0, d, 0), (1, d, 0) and
    (0, d, 1); d by KPSS tests of level stationarity at 5 %. Raises ValueError when no order can be fitted."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of non-convergence: the outcome is judged by its AIC
        return _stepwise(values)


def _stepwise(values: list[float]) -> tuple[tuple[int, int, int], list[float]]:
    d = _differences(values)
    tried: dict[tuple[int, int], tuple[float, list[float]]] = {}

    def aic(p: int, q: int) -> float:
        if (p, q) not in tried:
            tried[p, q] = _fit(values, (p, d, q))
        return tried[p, q][0]

    best = min(((2, 2), (0, 0), (1, 0), (0, 1)), key=lambda order: aic(*order))
    while True:
        near = [(best[0] + i, best[1] + j) for i in (-1, 0, 1) for j in (-1, 0, 1)]
        near = [(p, q) for p, q in near if p >= 0 and q >= 0 and p + q <= MAX_ORDER]
        following = min(near, key=lambda order: (aic(*order), order != best))
        if following == best:
            break
        best = following
    score, parameters = tried[best]
    if not math.isfinite(score):
        raise ValueError("no order of ARIMA fits")
    return (best[0], d, best[1]), parameters


def _differences(values: list[float]) -> int:
    kpss = importlib.import_module("statsmodels.tsa.stattools").kpss
    for d in range(2):
        if len(set(values)) == 1 or len(values) < MIN_POINTS - 1 or float(kpss(values, "c", "auto")[0]) < KPSS_5_PCT:
            return d
        values = [later - earlier for earlier, later in pairwise(values)]
    return 2 if len(set(values)) > 1 else 1


def _fit(values: list[float], order: tuple[int, int, int]) -> tuple[float, list[float]]:
    if sum(order) + 2 > len(values):
        return math.inf, []
    try:
        fitted = _model(values, order).fit(method_kwargs={"maxiter": 50})
    except (ValueError, ArithmeticError, IndexError):
        return math.inf, []
    score = float(fitted.aic)
    return score if math.isfinite(score) else math.inf, [float(value) for value in fitted.params]


def _model(values: list[float], order: tuple[int, int, int]) -> Any:
    return _statsmodels().ARIMA(values, order=order, trend="c" if order[1] == 0 else "n")


def _statsmodels() -> Any:
    try:
        return importlib.import_module("statsmodels.tsa.arima.model")
    except ImportError:
        raise ScenarioError(
            "load_predictor 'arima' needs statsmodels, which is not there; install it or take 'constant' or 'kalman'"
        ) from None


PREDICTORS: dict[str, type[ConstantPredictor]] = {
    "constant": ConstantPredictor,
    "arima": ArimaPredictor,
    "kalman": KalmanPredictor,
}


def predictor(name: str) -> ConstantPredictor:
    """A predictor by upstream's name."""
    if name not in PREDICTORS:
        raise ScenarioError(f"unknown load_predictor '{name}'; {nearest(name, PREDICTORS)}")
    return PREDICTORS[name]()
