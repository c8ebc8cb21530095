"""What the page's script draws, as compact JSON: fronts and time lines, thinned so that large studies stay small."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any

import numpy as np
from markupsafe import Markup

from experiments.figures import elapsed, example_title, front_window
from experiments.fronts import level_of
from experiments.palette import SIGNS, Palette
from rlscale.types import Floats

SERIES = ("ready", "pending", "waiting", "missed_per_s")  # per scaler
SHARED = ("need", "requests_per_s")  # the same for every scaler of a load
NUMBERS = 160_000  # of all time lines together: about 0.8 MB
STILL_NUMBERS = 40_000  # the same for the still pictures
STILL_PANELS = 6  # of a load: a still picture shows the cheapest scalers and the learned ones
FEWEST = 60  # points of a time line, however many there are


def embedded(results: Mapping[str, Any], palette: Palette) -> Markup:
    """The data as the text of a <script type="application/json">; nothing in it can close the element."""
    order = {scaler["label"]: i for i, scaler in enumerate(results["scalers"])}
    points = points_for(shown_examples(results), NUMBERS)
    data = {
        "point": POINT,  # what the numbers of a point are
        "scalers": [_scaler(scaler, palette) for scaler in results["scalers"]],
        "loads": [
            {
                "name": load["name"],
                "targets": [[target, _short(level_of(target))] for target in load["targets"]],
                "blocks": load["blocks"],
                "fronts": _fronts(results, load, order),
                "time": _time(results, load["name"], order, points),
            }
            for load in results["loads"]
        ],
    }
    text = json.dumps(data, separators=(",", ":"), allow_nan=False)
    return Markup(text.replace("<", "\\u003c").replace("&", "\\u0026"))


def shown_examples(results: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """Runs that are drawn over time: one per scaler and load, without the product defaults."""
    return [example for example in results["examples"] if example["variant"] != "defaults"]


def still_examples(
    examples: Sequence[Mapping[str, Any]], entries: Sequence[Mapping[str, Any]], points: int
) -> list[dict[str, Any]]:
    """Which runs of a load a still picture shows, thinned: learned policies, and the headline's first entries."""
    place = {entry["scaler"]: (entry["kind"] != "learned", i) for i, entry in enumerate(entries)}
    ranked = sorted(examples, key=lambda example: place.get(example["scaler"], (True, len(place))))
    chosen = {example["scaler"] for example in ranked[:STILL_PANELS]}
    return [
        {**example, "series": thinned(example["series"], points)} for example in examples if example["scaler"] in chosen
    ]


def points_for(examples: Sequence[Mapping[str, Any]], numbers: int) -> int:
    """How many points each time line may have so that all of them together hold `numbers` numbers."""
    return max(FEWEST, numbers // max(1, len(SERIES) * len(examples)))


def thinned(series: Mapping[str, Sequence[float]], points: int) -> dict[str, Floats]:
    """Series of at most `points` points: of each stretch its smallest and its largest value, in the order they came.

    Means would hide the short shortage that a figure is looked at for.
    """
    arrays = {name: np.asarray(values, np.float64) for name, values in series.items()}
    count = len(arrays["t_s"])
    if count <= points:
        return arrays
    edges = np.linspace(0, count, points // 2 + 1).astype(int)
    middle = (edges[:-1] + edges[1:]) // 2
    times = np.stack([arrays["t_s"][edges[:-1]], arrays["t_s"][middle]], axis=1).ravel()
    return {"t_s": times} | {name: _extremes(values, edges) for name, values in arrays.items() if name != "t_s"}


def _extremes(values: Floats, edges: np.ndarray) -> Floats:
    kept = []
    for first, last in pairwise(edges):
        piece = values[first:last]
        kept += [piece[i] for i in sorted((int(piece.argmin()), int(piece.argmax())))]
    return np.array(kept)


def _scaler(scaler: Mapping[str, Any], palette: Palette) -> dict[str, Any]:
    label = scaler["label"]
    return {
        "label": label, "kind": scaler["kind"], "knob": scaler["knob"], "members": scaler["members"],
        "hue": palette.hue(label), "sign": SIGNS[palette.marker(label)], "dash": palette.dash(label),
        "width": palette.line(label)["linewidth"],
    }  # fmt: skip


POINT = ("s", "kind", "seed", "knob", "usd", "share", "level", "n", "on", "low", "high")


def _fronts(results: Mapping[str, Any], load: Mapping[str, Any], order: Mapping[str, int]) -> dict[str, Any]:
    """Swept points, and what is marked apart from them: frozen knobs of the load's own target, product defaults."""
    mine = [f for f in results["fronts"] if f["load"] == load["name"] and f["split"] == "test"]
    own = load["targets"][0]
    rows = [
        row
        for row in results["rows"]
        if row["load"] == load["name"]
        and row["split"] == "test"
        and (row["variant"] == "defaults" or (row["variant"] == "frozen" and row["target"] == own))
    ]
    frozen = {
        entry["scaler"]: (entry["frozen"] or {}).get("attainment_interval")
        for entry in results["headline"]
        if entry["load"] == load["name"] and entry["target"] == own
    }
    points = [
        [order[front["scaler"]], "swept", *_point(point, point["level"]), int(point["on_front"]),
         *_ends(point.get("attainment_interval"))]
        for front in mine
        for point in front["points"]
    ]  # fmt: skip
    marks = [
        [order[row["scaler"]], row["variant"], *_point(row, _level(row)), 0,
         *_ends(frozen.get(row["scaler"]) if row["variant"] == "frozen" else None)]
        for row in rows
    ]  # fmt: skip
    return {"window": [_short(v, 5) for v in front_window(mine)], "points": points + marks}


def _point(of: Mapping[str, Any], level: float) -> list[Any]:
    knob = None if of["knob"] is None else _short(of["knob"], 6)
    usd, share = _short(of["usd_per_h"], 7), round(of["attainment"], 9)
    return [of["member"], knob, usd, share, _short(level, 6), round(of["requests"])]


def _ends(interval: Mapping[str, float] | None) -> list[float]:
    return [] if interval is None else [round(interval["low"], 9), round(interval["high"], 9)]


def _level(row: Mapping[str, Any]) -> float:
    """The level of a row; without a miss, that of half a miss, as for the fronts."""
    return -math.log10(max(1.0 - row["attainment"], 0.5 / max(row["requests"], 1.0)))


def _time(results: Mapping[str, Any], load: str, order: Mapping[str, int], points: int) -> dict[str, Any] | None:
    """One panel per scaler. Times, need and demand are said once, as every scaler met the same load."""
    mine = [example for example in shown_examples(results) if example["load"] == load]
    if not mine:
        return None
    series = [thinned(example["series"], points) for example in mine]
    first = series[0]
    since, unit_s = elapsed(first)
    shared = {"t": _numbers(since), **{name: _numbers(first[name]) for name in SHARED}}
    panels = []
    for example, one in zip(mine, series, strict=True):
        panel = {"s": order[example["scaler"]], "title": example_title(example)}
        panel |= {name: _numbers(one[name]) for name in SERIES}
        same = {name: np.array_equal(one[name], first[name]) for name in ("t_s", *SHARED)}
        panel |= {"t": _numbers((one["t_s"] - first["t_s"][0]) / unit_s)} if not same["t_s"] else {}
        panel |= {name: _numbers(one[name]) for name in SHARED if not same[name]}
        panels.append(panel)
    unit = "hours" if unit_s == 3600.0 else "minutes"
    return {"unit": unit, "thinned": len(first["t_s"]) < len(mine[0]["series"]["t_s"]), **shared, "panels": panels}


def _numbers(values: Floats) -> list[float]:
    return [_short(value) for value in values.tolist()]


def _short(value: float, digits: int = 4) -> float:
    """As many digits as a figure needs; whole numbers without a point."""
    rounded = float(f"{value:.{digits}g}")
    return int(rounded) if rounded.is_integer() else rounded
