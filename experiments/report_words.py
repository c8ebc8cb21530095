"""The report's words and numbers: how costs, shares and times are written, what a policy's result is called.

Knows no page and no figure.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from experiments.analysis import MINUS, NBSP

DASH = "\N{EN DASH}"
NO_INTERVAL = "no interval over loads"
STATUS = {"never": "never reached", "above": "always above", "failed": "failed"}

SENTENCES = {
    "never reaches it": "never reaches the target on {}",
    "always above it": "is above the target even at its cheapest on {}",
    "failed": "failed on {}",
    "alone to reach it": "alone reaches the target on {}",
    "dearer, no interval": "is dearer on {}, without an interval over loads",
    "cheaper, no interval": "is cheaper on {}, without an interval over loads",
    "loses": "loses on {}",
    "cannot be told apart": "cannot be told apart on {}",
}


class Outcome(NamedTuple):
    """What became of a learned policy at one target: a word, and whether that is good, bad or open."""

    word: str
    tone: str


def outcome(entry: Mapping[str, Any], best_exists: bool) -> Outcome:
    """The result of a learned policy against the best rule; dearer is bad also where no interval can be given."""
    if entry["status"] != "reached":
        return Outcome(*{"never": ("never reaches it", "bad"), "above": ("always above it", "open")}.get(
            entry["status"], ("failed", "bad")))  # fmt: skip
    if not best_exists or entry["versus_best"] is None:
        return Outcome("alone to reach it", "good")
    interval, change = entry["versus_best"]["interval"], entry["versus_best"]["difference"]
    if interval is None:
        return Outcome("dearer, no interval", "bad") if change > 0 else Outcome("cheaper, no interval", "open")
    low, high = interval["low"], interval["high"]
    if low is not None and low > 0:
        return Outcome("loses", "bad")
    if high is not None and high < 0:
        return Outcome("wins", "good")
    return Outcome("cannot be told apart", "open")


def bottom_line(results: Mapping[str, Any]) -> str:
    """The whole comparison in a sentence or two, every load at its own target; of a single load, its verdict."""
    own = {load["name"]: load["targets"][0] for load in results["loads"]}
    if len(own) == 1:
        return next((v["text"] for v in results["verdicts"] if v["target"] == own.get(v["load"])), "")
    here: dict[str, list[Mapping[str, Any]]] = {name: [] for name in own}
    for entry in results["headline"]:
        if entry["target"] == own[entry["load"]]:
            here[entry["load"]].append(entry)
    learned = [scaler["label"] for scaler in results["scalers"] if scaler["kind"] == "learned"]
    said = [_one_policy(label, [entries for entries in here.values() if entries]) for label in learned]
    return " ".join([*filter(None, said), _cheapest(list(here.values()))])


def _one_policy(label: str, loads: Sequence[Sequence[Mapping[str, Any]]]) -> str:
    found: dict[str, list[float | None]] = {}
    for entries in loads:
        best_exists = any(entry["best_rule"] for entry in entries)
        for entry in entries:
            if entry["scaler"] == label:
                change = (entry["versus_best"] or {}).get("difference")
                found.setdefault(outcome(entry, best_exists).word, []).append(change)
    if not found:
        return ""
    wins = found.pop("wins", [])
    told = f"{label} beats the best rule on {len(wins) or 'none'} of {len(loads)} loads{_changes(wins)}"
    rest = [SENTENCES[word].format(f"{len(n)}{_changes(n)}") for word, n in found.items()]
    return f"{told}{': it ' if not wins else '; it '}{', '.join(rest)}." if rest else f"{told}."


def _changes(changes: Sequence[float | None]) -> str:
    """From the smallest to the largest difference in cost, in brackets."""
    known = sorted(change for change in changes if change is not None)
    if not known:
        return ""
    ends = list(dict.fromkeys((signed(known[0]), signed(known[-1]))))
    return f" ({' to '.join(ends)})"


def _cheapest(loads: Sequence[Sequence[Mapping[str, Any]]]) -> str:
    first = Counter(entries[0]["scaler"] for entries in loads if entries and entries[0]["status"] == "reached")
    nobody = len(loads) - sum(first.values())
    told = [f"{name} on {n}" for name, n in first.most_common()] + ([f"nobody on {nobody}"] if nobody else [])
    return f"Cheapest at each load's own target: {', '.join(told)}."


def usd(value: float | None) -> str:
    """USD per hour with cents, whole dollars above a thousand."""
    if value is None or not math.isfinite(value):
        return DASH
    return f"{value:,.0f}" if value >= 1000 else f"{value:.2f}"


def share(value: float | None) -> str:
    """A share near 1, with two digits of what is missing: 99.03 %, 99.912 %."""
    if value is None or not math.isfinite(value):
        return DASH
    missing = 100.0 * (1.0 - value)
    if missing < 1e-3:
        return f"> 99.999{NBSP}%"
    return f"{100.0 * value:.{max(2, 1 - math.floor(math.log10(missing)))}f}{NBSP}%"


def signed(value: float | None) -> str:
    """A relative difference in percent; beyond ten-fold it says so."""
    if value is None:
        return DASH
    return f"> +900{NBSP}%" if value > 9 else f"{100.0 * value:+.1f}{NBSP}%".replace("-", MINUS)


def count(value: float | None) -> str:
    """A count with thousands separated, millions shortened."""
    if value is None:
        return DASH
    return f"{value / 1e6:,.1f} M" if value >= 1e6 else f"{value:,.0f}"


def short(value: float | None) -> str:
    """Three significant digits."""
    if value is None or not math.isfinite(value):
        return DASH
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"


def rate(value: float | None) -> str:
    """Something per hour, with the same digits down a column."""
    return DASH if value is None else f"{value:.1f}"


def gpus(value: float | None) -> str:
    """A mean number of GPUs."""
    return DASH if value is None else f"{value:.2f}"


def seconds(value: float | None) -> str:
    """A latency with its unit; infinite where requests were dropped."""
    if value is None or not math.isfinite(value):
        return "∞"
    return f"{1e3 * value:.3g} ms" if value < 1.0 else f"{value:.3g} s"


def span(interval: Mapping[str, float | None] | None, form: str = "usd") -> str:
    """An interval, its unit said once; an end beyond every resample is infinite."""
    if interval is None:
        return ""
    show = {"usd": usd, "signed": signed, "share": share}[form]
    low, high = interval["low"], interval["high"]
    if low is None:
        return "not reached in most resamples"
    first, last = show(low), "∞" if high is None or math.isinf(high) else show(high)
    if first == last:
        return first
    return f"{first.removesuffix(f'{NBSP}%')} {'to' if form == 'signed' else DASH} {last}"
