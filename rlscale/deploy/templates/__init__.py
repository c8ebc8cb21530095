"""Which PromQL answers which field, per product: data files, strictly checked, filled with checked values only."""

from __future__ import annotations

import math
import re
import string
from collections.abc import Mapping
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Literal, get_args

from pydantic import Field

from rlscale.deploy.base import LiveConfigError
from rlscale.errors import nearest
from rlscale.strict import Strict
from rlscale.yaml_file import checked, mapping, read_mapping

Scalar = Literal[
    "arrival_per_s", "waiting", "running", "ttft_s", "tpot_s", "attainment", "dropped_per_s", "ttft_p90_s",
    "tpot_p90_s", "prompt_tokens", "answer_tokens", "memory", "replicas",
]  # fmt: skip
SCALARS: tuple[Scalar, ...] = get_args(Scalar)
Histogram = Literal["ttft", "tpot", "prompt_tokens", "answer_tokens"]
LABEL_NAME = re.compile(r"[a-zA-Z_][a-zA-Z0-9_]*")
MAX_BYTES = 200_000  # of a template file
PLACES = "$labels, $window, $window_s, $slo_ttft_s, $slo_tpot_s"


class HistogramEntry(Strict):
    """A histogram by its name, a regular expression without _bucket; of several the first that is there counts."""

    names: list[str] = Field(min_length=1, max_length=8)
    unit: Literal["s", "ms", "us"] = "s"

    @property
    def scale(self) -> float:
        """Seconds per unit; for a histogram of tokens 1."""
        return {"s": 1.0, "ms": 1e-3, "us": 1e-6}[self.unit]


class Template(Strict):
    """A template file. `fresh` selects raw series: the time of their newest sample is the age of a reading."""

    product: str
    fresh: str
    queries: dict[Scalar, str]
    histograms: dict[Histogram, HistogramEntry] = Field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Filling:
    """What takes the places in a template. Labels are name -> value, exactly equal."""

    labels: Mapping[str, str]
    window_s: float
    slo_ttft_s: float = math.inf
    slo_tpot_s: float = math.inf

    def fill(self, text: str, where: str) -> str:
        """PromQL with every place taken; nothing else is replaced. Raises LiveConfigError naming `where`."""
        values = {
            "labels": matchers(self.labels), "window": f"{round(1e3 * self.window_s)}ms",
            "window_s": _number(self.window_s), "slo_ttft_s": _number(self.slo_ttft_s),
            "slo_tpot_s": _number(self.slo_tpot_s),
        }  # fmt: skip
        try:
            return string.Template(text).substitute(values)
        except KeyError as error:
            got = f"unknown place ${error.args[0]}"
        except ValueError:
            got = "a '$' that begins no place; write $$ for a plain one"
        raise LiveConfigError(f"{where}: {got}; known: {PLACES}")

    def buckets(self, name: str, where: str) -> str:
        """Cumulative counts of the window by upper edge."""
        return self.fill(f"sum by (le) (increase({{__name__=~{_quoted(name + '_bucket')},$labels}}[$window]))", where)

    def total(self, name: str, where: str) -> str:
        """Sum of all that was observed in the window."""
        return self._increase(f"{name}_sum", where)

    def number(self, name: str, where: str) -> str:
        """How many were observed in the window."""
        return self._increase(f"{name}_count", where)

    def _increase(self, name: str, where: str) -> str:
        return self.fill(f"sum(increase({{__name__=~{_quoted(name)},$labels}}[$window]))", where)


def names() -> list[str]:
    """Names of the built-in templates."""
    folder = resources.files(__package__)
    return sorted(item.name.removesuffix(".yaml") for item in folder.iterdir() if item.name.endswith(".yaml"))


def load_template(name: str) -> Template:
    """A built-in template by its name, or one of your own by a file ending in .yaml."""
    expected = "a template in YAML: a mapping with product, fresh and queries"
    if name.endswith((".yaml", ".yml")):
        where = name
        text, raw = read_mapping(Path(name), expected, LiveConfigError, MAX_BYTES)
    elif name in names():
        where, text = f"template {name}", (resources.files(__package__) / f"{name}.yaml").read_text("utf-8")
        raw = mapping(text, where, expected, LiveConfigError)
    else:
        hint = nearest(name, names())
        raise LiveConfigError(f"metrics.template: unknown template '{name}'; {hint}; or a file ending in .yaml")
    return checked(Template, raw, where, LiveConfigError, text)


def matchers(labels: Mapping[str, str]) -> str:
    """Label matchers of PromQL, `a="b",c="d"`. Raises LiveConfigError for a name that is none."""
    for name in labels:
        if not LABEL_NAME.fullmatch(name) or name.startswith("__"):
            raise LiveConfigError(f"metrics.labels: got the name {name!r}, expected letters, digits and underscores")
    return ",".join(f"{name}={_quoted(value)}" for name, value in labels.items())


def _quoted(value: str) -> str:
    text = value.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
    return f'"{text}"'


def _number(value: float) -> str:
    return "+Inf" if math.isinf(value) else f"{value:.12g}"
