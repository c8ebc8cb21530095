"""Profiles that NVIDIA Dynamo's old SLA planner interpolates: one sweep of prefill over ISL, one of decode.

After components/planner/src/dynamo/planner/utils/perf_interpolation.py of ai-dynamo/dynamo (Apache-2.0). SciPy is
loaded when a profile is made.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

GRID = 100


class PrefillProfile:
    """TTFT (ms) and tokens per second and GPU by ISL, cubic, held constant beyond the profiled range."""

    def __init__(self, isl: Sequence[float], ttft_ms: Sequence[float], throughput_per_gpu: Sequence[float]) -> None:
        from scipy.interpolate import interp1d

        order = np.argsort(isl)
        x = np.asarray(isl, dtype=np.float64)[order]
        self._low, self._high = float(x[0]), float(x[-1])
        self._ttft = interp1d(x, np.asarray(ttft_ms, dtype=np.float64)[order], kind="cubic")
        self._throughput = interp1d(x, np.asarray(throughput_per_gpu, dtype=np.float64)[order], kind="cubic")

    def ttft_ms(self, isl: float) -> float:
        """TTFT of a prompt of `isl` tokens on an idle engine."""
        return float(self._ttft(self._within(isl)))

    def throughput_per_gpu(self, isl: float) -> float:
        """Prompt tokens per second and GPU."""
        return float(self._throughput(self._within(isl)))

    def _within(self, isl: float) -> float:
        return min(max(isl, self._low), self._high)


class DecodeProfile:
    """ITL (ms) and tokens per second and GPU over KV usage (0 to 1) and context length (tokens), on a grid of 100 by
    100 cells, cubic, holes filled by the nearest sample."""

    def __init__(
        self,
        kv_usage: Sequence[float],
        context_tokens: Sequence[float],
        itl_ms: Sequence[float],
        throughput_per_gpu: Sequence[float],
        max_kv_tokens: float,
    ) -> None:
        from scipy.interpolate import griddata

        points = np.column_stack([kv_usage, context_tokens])
        self.max_kv_tokens = max_kv_tokens
        self._kv = np.linspace(0.0, 1.0, GRID)
        self._context = np.linspace(0.0, float(np.max(context_tokens)), GRID)
        kv, context = np.meshgrid(self._kv, self._context)
        self._itl, self._throughput = (
            np.where(np.isnan(cubic), griddata(points, np.asarray(z), (kv, context), method="nearest"), cubic)
            for z in (itl_ms, throughput_per_gpu)
            for cubic in (griddata(points, np.asarray(z), (kv, context), method="cubic"),)
        )

    def itl_ms(self, concurrency: float, context_tokens: float) -> float:
        """ITL with so many sequences of so many tokens on an engine."""
        usage = concurrency * context_tokens / self.max_kv_tokens
        return float(self._itl[self._row(context_tokens), self._cell(usage, 1.0)])

    def best_throughput_per_gpu(self, itl_ms: float, context_tokens: float) -> float:
        """Tokens per second and GPU at the highest KV usage whose ITL is within the target, that of the lowest usage
        if none is."""
        row = self._row(context_tokens)
        for column in range(GRID - 1, -1, -1):
            if self._itl[row, column] <= itl_ms:
                return float(self._throughput[row, column])
        return float(self._throughput[row, 0])

    def _row(self, context_tokens: float) -> int:
        return self._cell(context_tokens, float(self._context[-1]))

    @staticmethod
    def _cell(value: float, top: float) -> int:
        return min(max(round(value / top * (GRID - 1)), 0), GRID - 1)
