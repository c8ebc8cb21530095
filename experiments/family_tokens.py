"""Token laws against the published lengths: drawn, measured, compared."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Literal

import numpy as np

from rlscale.types import Requests
from rlscale.workloads.build import build
from rlscale.workloads.requests import draw_requests

TOLERANCE = 0.10
RATE_PER_S = 50.0
Side = Literal["prompt", "output", "prompt + output"]


@dataclass(frozen=True)
class LengthCheck:
    """One published length of one law."""

    law: str
    source: str
    side: Side
    figure: Literal["mean", "p50", "p95", "p99"]
    published: float


def _row(law: str, source: str, side: Side, *figures: float | None) -> Iterator[LengthCheck]:
    for name, published in zip(("mean", "p50", "p95", "p99"), figures, strict=True):
        if published is not None:
            yield LengthCheck(law, source, side, name, published)  # type: ignore[arg-type]


def _checks() -> Iterator[LengthCheck]:
    both: tuple[tuple[str, str, tuple[float, ...], tuple[float, ...]], ...] = (
        ("code", "Azure 2023 code", (2048, 1469, 7303, 7436), (27.9, 13, 90, 251)),
        ("chat", "Azure 2023 chat", (1155, 1020, 4083, 4142), (211, 129, 451, 601)),
        ("burstgpt", "BurstGPT 1", (374, 74, 1697, 3023), (122, 14, 510, 757)),
        ("long-context", "Mooncake conversation", (12_035, 6909, 39_551, 85_400), (343, 350, 698, 1119)),
        ("servegen-small", "ServeGen m-small", (156, 40, 685, 1535), (32, 3, 104, 214)),
        ("api", "ServeGen m-large", (987, 672, 2404, 4961), (174, 54, 566, 1109)),
        ("reasoning", "ServeGen deepseek-r1", (1390, 261, 7158, 23_472), (1563, 736, 5984, 13_818)),
    )
    for law, source, prompt, output in both:
        yield from _row(law, source, "prompt", *prompt)
        yield from _row(law, source, "output", *output)
    for law, source, mean_total, quantiles in (
        ("code-2024", "Azure 2024 code", 2534.0, (8.0, 79.0, 271.0)),
        ("chat-2024", "Azure 2024 chat", 1737.0, (41.0, 455.0, 694.0)),
    ):
        yield from _row(law, source, "prompt + output", mean_total, None, None, None)
        yield from _row(law, source, "output", None, *quantiles)
    # Milliseconds of GPU time in the place of the prompt.
    yield from _row("gentd26", "GenTD26, ms of GPU time", "prompt", 26_700, 22_000, 62_000, 87_000)


CHECKS = list(_checks())


@lru_cache(maxsize=1)
def requests_of(law: str, seed: int) -> Requests:
    """An hour of requests, about 180 000."""
    load = build({"kind": "steady", "rate_per_s": RATE_PER_S, "tokens": law}, "families").sample(
        np.random.default_rng(seed), 3600.0, 1.0
    )
    return draw_requests(load, np.random.default_rng(seed))


def measure(check: LengthCheck, seed: int) -> dict[str, Any]:
    """One row of the table."""
    drawn = requests_of(check.law, seed)
    sides = {"prompt": drawn.prompt_tokens, "output": drawn.output_tokens,
             "prompt + output": drawn.prompt_tokens + drawn.output_tokens}  # fmt: skip
    tokens = sides[check.side]
    found = float(tokens.mean() if check.figure == "mean" else np.quantile(tokens, float(check.figure[1:]) / 100.0))
    ratio = found / check.published
    return {"law": check.law, "source": check.source, "figure": f"{check.side}, {check.figure}",
            "requests": len(tokens), "generated": found, "published": check.published, "ratio": ratio,
            "tolerance": TOLERANCE, "within": abs(ratio - 1.0) <= TOLERANCE}  # fmt: skip
