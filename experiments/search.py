"""Search of a scaler's settings: what may be chosen, and which settings are tried next. Runs nothing.

Two goals at once, cost and missed share, with Optuna's tree-structured Parzen estimator. Every trial draws from a
sampler seeded by the search's seed and the trial's number, so that a search taken up after a kill asks for the same
settings as one that was never interrupted.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from typing import Any

from rlscale.errors import ScenarioError
from rlscale.registry import scan
from rlscale.types import ScalerKind

Space = Mapping[str, tuple[Any, ...]]
KINDS = ("float", "log", "int", "choice")
EVEN = 0.25  # share of the trials that are spread evenly, by Sobol's sequence


def space_of(name: str, kind: ScalerKind) -> Space:
    """The declared search space of a scaler; one without is searched along its knob."""
    declared = scan("agents", "SEARCH").get(name)
    if declared is not None:
        return dict(declared)
    if kind.knob is None:
        return {}
    low, high = min(kind.knob.values), max(kind.knob.values)
    whole = all(float(value).is_integer() for value in kind.knob.values)
    return {kind.knob.name: ("int", int(low), int(high)) if whole else ("log" if low > 0 else "float", low, high)}


class Search:
    """Ask for settings, tell what they cost and missed."""

    def __init__(self, space: Space, trials: int, seed: int) -> None:
        try:
            import optuna
        except ImportError:
            raise ScenarioError("tuning needs optuna, which is not installed; pip install 'rlscale[tune]'") from None
        optuna.logging.set_verbosity(optuna.logging.WARNING)
        self.space, self.seed, self._optuna = space, seed, optuna
        self.first = max(1, round(EVEN * trials))
        self._study = optuna.create_study(directions=["minimize", "minimize"])
        self._even = self._sobol(self.first)

    def ask(self, held: Mapping[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        """The next trial and its settings, of which those that are `held` are given."""
        optuna, number = self._optuna, len(self._study.trials)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
            even = self._even.pop(0) if self._even else {}
            self._study.enqueue_trial(even | self.inside(held or {}))
            self._study.sampler = optuna.samplers.TPESampler(
                seed=(self.seed * 100_003 + number) % 2**31, n_startup_trials=self.first, multivariate=True
            )
            trial = self._study.ask()
            return trial, {name: self._suggest(trial, name, *spec) for name, spec in self.space.items()}

    def add(self, settings: Mapping[str, Any], cost: float, missed: float) -> None:
        """Learn from a trial that was not asked for; nothing where it leaves a part of the space to the defaults."""
        params = self.inside(settings)
        if len(params) == len(self.space) > 0:
            spaces = {name: self._distribution(*spec) for name, spec in self.space.items()}
            self._study.add_trial(
                self._optuna.trial.create_trial(params=params, distributions=spaces, values=[cost, missed])
            )

    def inside(self, settings: Mapping[str, Any]) -> dict[str, Any]:
        """The given settings that belong to the space, moved into their ranges."""
        found: dict[str, Any] = {}
        for name, (kind, *values) in self.space.items():
            value = settings.get(name)
            if kind == "choice":
                found |= {name: value} if value in values else {}
            elif isinstance(value, int | float) and not isinstance(value, bool):
                at = min(max(value, values[0]), values[1])
                found[name] = round(at) if kind == "int" else float(at)
        return found

    def tell(self, trial: Any, cost: float, missed: float) -> None:
        """What came out: USD/h, and the level of missed requests (the lower the better)."""
        self._study.tell(trial, (cost, missed))

    def _sobol(self, trials: int) -> list[dict[str, Any]]:
        import numpy as np
        from scipy.stats import qmc

        if not self.space:
            return [{}] * trials
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)  # a number of points that is no power of two
            points = qmc.Sobol(len(self.space), rng=np.random.default_rng(self.seed)).random(trials)
        return [
            {name: _at(share, *spec) for share, (name, spec) in zip(point, self.space.items(), strict=True)}
            for point in points
        ]

    def _distribution(self, kind: str, *values: Any) -> Any:
        known = self._optuna.distributions
        if kind == "choice":
            return known.CategoricalDistribution(list(values))
        return known.IntDistribution(*values) if kind == "int" else known.FloatDistribution(*values, log=kind == "log")

    @staticmethod
    def _suggest(trial: Any, name: str, kind: str, *values: Any) -> Any:
        if kind == "choice":
            return trial.suggest_categorical(name, list(values))
        if kind == "int":
            return trial.suggest_int(name, *values)
        return trial.suggest_float(name, *values, log=kind == "log")


def _at(share: float, kind: str, *values: Any) -> Any:
    """The setting at a share, 0 to 1, of its range."""
    if kind not in KINDS:
        raise ScenarioError(f"a search space says '{kind}'; expected one of {', '.join(KINDS)}")
    if kind == "choice":
        return values[min(int(share * len(values)), len(values) - 1)]
    low, high = values
    if kind == "int":
        return min(int(low + share * (high - low + 1)), high)
    return float(low * (high / low) ** share if kind == "log" else low + share * (high - low))
