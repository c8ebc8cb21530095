"""A service for Ray Serve that takes half a second per request, two at a time, and counts them."""

from __future__ import annotations

import asyncio

from rlscale.deploy.ray_stats import RayStats

SERVICE_S, SEATS = 0.5, 2


class Model(RayStats):
    """One replica."""

    def __init__(self) -> None:
        self.slo_ttft_s = 1.0

    async def __call__(self) -> str:
        with self.counted() as asked:
            await asyncio.sleep(SERVICE_S / 2)
            asked.first_token()
            await asyncio.sleep(SERVICE_S / 2)
            asked.answered(prompt_tokens=100, answer_tokens=10)
        return "done"
