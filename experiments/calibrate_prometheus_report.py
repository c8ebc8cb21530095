"""What a calibration with Prometheus found: values for results.json, Markdown for people."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np

from experiments.calibrate_fit import LAW
from experiments.calibrate_prometheus_answer import Option, table, words
from experiments.calibrate_prometheus_load import Gap, utc
from experiments.calibrate_prometheus_profile import Fitted
from experiments.calibrate_prometheus_ranges import Ranges
from experiments.calibrate_prometheus_scenario import Windows
from rlscale.types import Slo

SHOWN_GAPS = 12


@dataclass(frozen=True, slots=True)
class Found:
    """Everything that is reported."""

    ranges: Ranges
    missing: Sequence[Gap]
    lengths: Sequence[str]
    base_profile: str
    profile: Fitted | None
    base_scenario: str
    slo: Slo
    capacity_per_s: float
    max_replicas: int
    at: Windows
    options: tuple[Option, ...] = ()
    verdicts: tuple[str, ...] = ()
    failures: int = 0
    compared: bool = False

    def with_answer(self, options: Sequence[Option], verdicts: Sequence[str], failures: int) -> Found:
        """The same with the comparison."""
        return replace(self, options=tuple(options), verdicts=tuple(verdicts), failures=failures, compared=True)

    def told(self) -> dict[str, Any]:
        """As plain data."""
        rates = self.ranges.values["arrival_per_s"]
        law = None if self.profile is None else asdict(self.profile.law)
        return {
            "source": self.ranges.source, "start": utc(self.ranges.start_s), "end": utc(self.ranges.end_s),
            "step_s": self.ranges.step_s, "scrape_s": self.ranges.scrape_s, "cells": self.ranges.cells,
            "missing_cells": int(np.isnan(rates).sum()), "gaps": [asdict(gap) for gap in self.missing],
            "mean_per_s": float(np.nanmean(rates)), "peak_per_s": float(np.nanmax(rates)),
            "lengths": list(self.lengths),
            "profile": {"base": self.base_profile, "law": law, "fitted": self._fitted(),
                        "left_out": {} if self.profile is None else self.profile.reasons},
            "scenario": {"base": self.base_scenario, "capacity_per_s": self.capacity_per_s,
                         "max_replicas": self.max_replicas, "slo": asdict(self.slo)},
            "windows": asdict(self.at), "options": [asdict(one) for one in self.options],
            "verdicts": list(self.verdicts), "failures": self.failures,
            "answer": words(self.options, self.slo.attainment) if self.compared else None,
        }  # fmt: skip

    def _fitted(self) -> list[str]:
        if self.profile is None or self.profile.found is None:
            return []
        return [name for name in LAW if name not in self.profile.reasons]


def report(found: Found, command: str) -> str:
    """`report.md`."""
    lines = ["# Calibration with Prometheus", "", f"`{command}`", ""]
    if found.compared:
        lines += [f"**{words(found.options, found.slo.attainment)}**", ""]
    lines += _load(found) + _service(found) + _comparison(found)
    return "\n".join(lines) + "\n"


def _load(found: Found) -> list[str]:
    ranges = found.ranges
    rates = ranges.values["arrival_per_s"]
    missing = int(np.isnan(rates).sum())
    lines = [
        "## Load", "",
        f"{utc(ranges.start_s)} to {utc(ranges.end_s)}, {ranges.cells} cells of {ranges.step_s:g} s, samples "
        f"{ranges.scrape_s:g} s apart. {np.nanmean(rates):.4g} requests per second on average, {np.nanmax(rates):.4g} "
        f"in the busiest cell. `trace.csv` begins at the first cell.", "",
    ]  # fmt: skip
    if missing:
        lines += [f"{missing} cells ({missing / ranges.cells:.2%}) have no rate: marked `missing` in the trace, whose "
                  "readers draw a straight line over them. The gaps:", ""]  # fmt: skip
        longest = sorted(found.missing, key=lambda gap: -gap.cells)[:SHOWN_GAPS]
        lines += [f"- {utc(gap.start_s)}, {gap.cells * ranges.step_s / 60.0:.4g} min" for gap in longest]
        if len(found.missing) > SHOWN_GAPS:
            lines.append(f"- and {len(found.missing) - SHOWN_GAPS} shorter ones, in results.json")
    else:
        lines.append("No gaps.")
    return [*lines, "", "Lengths:", "", *(f"- {note}" for note in found.lengths), ""]


def _service(found: Found) -> list[str]:
    lines = ["## Service", ""]
    done = found.profile
    if done is None:
        lines.append(f"The base scenario's own profile {found.base_profile}; nothing was fitted.")
    elif done.found is None:
        why = next(iter(done.reasons.values()), "no evidence")
        lines.append(f"The law of {found.base_profile}, unchanged: nothing could be fitted, since {why}.")
    else:
        lines += [f"`profile.yaml`: from {done.cells} steady cells with {done.span[0]:.3g} to {done.span[1]:.3g} "
                  f"requests running per replica; {done.residuals}. The rest is that of {found.base_profile}.", "",
                  "| coefficient | microseconds | 90 % | from |", "|---|---|---|---|"]  # fmt: skip
        law = (done.law.c0_s, done.law.c1_s, done.law.c2_s, done.law.c3_s, done.law.c4_s)
        for i, name in enumerate(LAW):
            label = name.removesuffix("_s")
            if name in done.reasons:
                lines.append(f"| {label} | {1e6 * law[i]:.4g} | | {found.base_profile}: {done.reasons[name]} |")
            else:
                low, high = 1e6 * float(done.found.low[i]), 1e6 * float(done.found.high[i])
                lines.append(f"| {label} | {1e6 * law[i]:.4g} | {low:.4g} to {high:.4g} | fitted |")
    tpot = "no limit" if math.isinf(found.slo.tpot_s) else f"{found.slo.tpot_s:g} s"
    limits = f"TTFT {found.slo.ttft_s:g} s, TPOT {tpot}, {found.slo.attainment:.1%} of requests"
    return [*lines, "",
            f"Within the SLO ({limits}) a replica carries {found.capacity_per_s:.4g} requests per second. "
            f"`scenario.yaml` is the cluster of {found.base_scenario} with room for {found.max_replicas} replicas.",
            ""]  # fmt: skip


def _comparison(found: Found) -> list[str]:
    if not found.compared:
        return []
    (a, b), (c, d) = found.at.train_s, found.at.test_s
    lines = ["## What if", "",
             f"Settings were chosen on the first {(b - a) / 3600.0:.4g} h and tested on the {(d - c) / 3600.0:.4g} h "
             "after them, in the fluid engine. Costs are list prices of the scenario's nodes; intervals are over "
             "stretches of this one load, so they say nothing of loads unlike it, nor of errors of the profile.", "",
             *table(found.options), ""]  # fmt: skip
    lines += ["With the settings that turn out best on the test half itself, which nobody knows before:", ""]
    lines += [f"- {text}" for text in found.verdicts]
    if found.failures:
        lines.append(f"{found.failures} cells failed; see comparison/failures.csv.")
    return [*lines, "", "The whole comparison: `comparison/report.html`."]
