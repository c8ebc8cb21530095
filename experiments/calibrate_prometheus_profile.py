"""A service profile from recorded means: latencies against the batch, as far as the data tell the law.

What they do not tell is taken from a named profile, and what it contributes is subtracted before the rest is fitted.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from importlib import resources
from typing import Any

import numpy as np
import yaml

from experiments.calibrate_fit import LAW, Fit, Rows, fit, independent, with_uncertainty
from experiments.calibrate_forms import Measurements, rows_of
from experiments.calibrate_prometheus_load import spread2
from experiments.calibrate_prometheus_ranges import Ranges
from rlscale.sim import profiles
from rlscale.sim.profiles import service_profile
from rlscale.types import Floats, IterationLaw

ORDER = ("c0_s", "c2_s", "c1_s", "c3_s", "c4_s")
BINS = 24  # of the batch, equally many cells in each
PROMPT_BINS = 3  # of the mean prompt within a bin of the batch
LEAST_IN_BIN = 5
LEAST_SPAN = 1.5  # largest over smallest batch; with less, base and slope cannot be told apart
UNSURE = 0.5  # standard error over value beyond which a coefficient is taken from the base profile
LEAST_PROMPTS = 1.3  # largest over smallest mean prompt; with less, TTFT is all offset
QUEUED = 0.5  # requests waiting per replica above which a TTFT is a wait and not a prompt
ONE = {"value": 1.0, "source": "none: fitted end to end"}


@dataclass(frozen=True, slots=True)
class Fitted:
    """A law, which of its coefficients were fitted, why the others were not, and how well it fits."""

    law: IterationLaw
    found: Fit | None
    reasons: dict[str, str] = field(default_factory=dict)  # of coefficients taken from the base profile
    cells: int = 0
    span: tuple[float, float] = (math.nan, math.nan)  # of the batch
    residuals: str = ""


def fitted(ranges: Ranges, base: str, seed: int, draws: int) -> Fitted:
    """The law that the range tells, on top of the built-in profile `base`."""
    known = service_profile(base).law
    seen, cells = _measurements(ranges)
    span = (float(seen.batch.min()), float(seen.batch.max())) if len(seen) else (math.nan, math.nan)

    def none(why: str) -> Fitted:
        return Fitted(known, None, dict.fromkeys(LAW, why), cells, span)

    if not len(seen):
        return none("no cell has a TPOT, running requests and lengths")
    if span[1] < LEAST_SPAN * span[0]:
        return none(f"the batch spans {span[0]:.3g} to {span[1]:.3g} only: base and slope cannot be told apart")
    rows = _moments(rows_of(seen, "closed-loop"), seen, ranges)
    base_value = np.array([known.c0_s, known.c1_s, known.c2_s, known.c3_s, known.c4_s])
    fixed = {name: "the cells do not vary enough to tell it apart" for name in LAW if name not in _apart(rows)}
    while True:
        left = _without(rows, base_value, fixed)
        if left is None:
            return none(f"what {base} says of {', '.join(fixed)} is more than was measured")
        needed = sum(independent(left)) + 1
        if len(fixed) == len(LAW) or len(left) < needed:
            return none(f"{len(left)} rows are too few for the {needed - 1} numbers they are to tell"
                        if len(fixed) < len(LAW) else "no coefficient has evidence of its own")  # fmt: skip
        found = with_uncertainty(left, fit(left), seed, draws)
        unsure = {name: f"standard error {found.std_error[i]:.2g} s of {found.value[i]:.2g} s"
                  for i, name in enumerate(LAW) if name not in fixed
                  and not found.std_error[i] <= UNSURE * found.value[i]}  # fmt: skip
        if not unsure:
            break
        # One at a time, the most complex first: the others become surer without it.
        last = list(unsure)[-1]
        fixed[last] = unsure[last]
    value = np.where([name in fixed for name in LAW], base_value, found.value[: len(LAW)])
    off = np.abs(found.predict_s(left) / left.measured_s - 1.0)
    return Fitted(IterationLaw(*(float(v) for v in value)), found, fixed, cells, span,
                  f"median error {np.median(off):.1%}, 95 % within {np.quantile(off, 0.95):.1%}")  # fmt: skip


def profile_text(name: str, base: str, done: Fitted, source: str) -> str:
    """The profile as YAML: that of `base` with the fitted law in it."""
    file = resources.files(profiles) / "services" / f"{base}.yaml"
    text: dict[str, Any] = yaml.safe_load(file.read_text())
    values = dict(zip(LAW, (done.law.c0_s, done.law.c1_s, done.law.c2_s, done.law.c3_s, done.law.c4_s), strict=True))
    text |= {"name": name, "calibration": dict.fromkeys(("decode_base", "decode_slope", "prefill"), ONE)}
    text["kernel"] = {
        f"{coefficient.removesuffix('_s')}_ms": _entry(i, coefficient, values, done, base, source)
        for i, coefficient in enumerate(LAW)
    }
    if done.found is not None:
        text["valid"] = {"batch": [float(f"{edge:.6g}") for edge in done.span]}
    head = f"# {name}: that of {base}, with the coefficients that {source} tells.\n"
    return head + yaml.dump(text, sort_keys=False, default_flow_style=None, width=140, allow_unicode=True)


def _entry(i: int, name: str, values: Mapping[str, float], done: Fitted, base: str, source: str) -> dict[str, Any]:
    entry: dict[str, Any] = {"value": float(f"{1e3 * values[name]:.6g}")}
    if name in done.reasons or done.found is None:
        return entry | {"source": f"as {base}; not told by {source}: {done.reasons[name]}", "estimate": True}
    error, low, high = (1e3 * float(part[i]) for part in (done.found.std_error, done.found.low, done.found.high))
    return entry | {"source": f"fitted to {source}, {done.cells} cells", "std_error": float(f"{error:.6g}"),
                    "interval90": [float(f"{low:.6g}"), float(f"{high:.6g}")]}  # fmt: skip


def _apart(rows: Rows) -> list[str]:
    """Coefficients that the rows can tell apart, those first that make most of an iteration: base, then prompts."""
    order = [LAW.index(name) for name in ORDER]
    free = independent(replace(rows, base=rows.base[:, order]))
    return [name for name, own in zip(ORDER, free, strict=False) if own]


def _moments(rows: Rows, seen: Measurements, ranges: Ranges) -> Rows:
    """Means of squares instead of squares of means, where the lengths have a histogram.

    Prompts cost c4*n^2; an answer of m tokens holds m/2 of them on average, and is met m times as often.
    """
    held = {name: ranges.histograms.get(name) for name in ("prompt_tokens", "answer_tokens")}
    squared, longer = (1.0 if one is None else spread2(one) for one in held.values())
    base = rows.base.copy()
    base[:, 4] *= squared
    answers = np.append(seen.output, seen.output[np.isfinite(seen.ttft_s)])
    base[:, 3] += base[:, 1] * 0.5 * answers * (longer - 1.0)
    return replace(rows, base=base)


def _without(rows: Rows, base: Floats, fixed: Mapping[str, str]) -> Rows | None:
    """The rows less what the fixed coefficients make of them; None when that leaves nothing of some."""
    mask = np.array([name in fixed for name in rows.names])
    left = rows.measured_s - rows.base[:, mask] @ base[mask]
    if (left <= 0.05 * rows.measured_s).any():
        return None
    return replace(rows, base=np.where(mask, 0.0, rows.base), burst=np.where(mask, 0.0, rows.burst), measured_s=left)


def _measurements(ranges: Ranges) -> tuple[Measurements, int]:
    """Medians of the steady cells by batch per replica and mean prompt; and how many cells there were."""
    v = ranges.values
    batch = v["running"] / v["replicas"]
    same = np.append(False, np.diff(v["replicas"]) == 0.0)
    good = (batch > 0.0) & same & (v["tpot_s"] > 0.0) & (v["prompt_tokens"] > 0.0) & (v["answer_tokens"] > 1.0)
    good &= ~(v["dropped_per_s"] > 0.0)
    ttft = np.where(v["waiting"] <= QUEUED * v["replicas"], v["ttft_s"], np.nan)
    ttft = np.where(ttft > 0.0, ttft, np.nan)
    at = np.flatnonzero(good)
    groups = []
    for part in np.array_split(at[np.argsort(batch[at], kind="stable")], BINS):
        groups += np.array_split(part[np.argsort(v["prompt_tokens"][part], kind="stable")], PROMPT_BINS)
    groups = [group for group in groups if len(group) >= LEAST_IN_BIN]

    def median(values: Floats) -> Floats:
        return np.array([_median(values[group]) for group in groups])

    if len(groups) == 0 or np.ptp(np.log(median(v["prompt_tokens"]))) < math.log(LEAST_PROMPTS):
        ttft = np.full(len(ttft), math.nan)
    seen = Measurements("prometheus", median(v["prompt_tokens"]), median(v["answer_tokens"]), median(batch),
                        median(ttft), median(v["tpot_s"]), label="prometheus")  # fmt: skip
    return seen, len(at)


def _median(values: Floats) -> float:
    there = values[np.isfinite(values)]
    return float(np.median(there)) if len(there) else math.nan
