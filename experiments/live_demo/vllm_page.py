"""The metrics page of a toy replica, with the names and histograms of vLLM. Wall seconds, as any service would say."""

from __future__ import annotations

import math
from typing import Any

# Upper edges of vLLM's histograms, seconds.
TTFT_S = (0.001, 0.005, 0.01, 0.02, 0.04, 0.06, 0.08, 0.1, 0.25, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0, 20.0, 40.0, 80.0)
TPOT_S = (0.01, 0.025, 0.05, 0.075, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5, 0.75, 1.0, 2.5)
E2E_S = (0.3, 0.5, 0.8, 1.0, 1.5, 2.0, 2.5, 5.0, 10.0, 15.0, 20.0, 30.0, 40.0, 50.0, 60.0, 120.0)
TOKENS = (1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 2000, 5000, 10_000, 20_000, 50_000, 100_000)
REASONS = ("stop", "abort")


class VllmPage:
    """Counts of one replica. `speed` simulated seconds pass in a second of wall time: histograms get as fine as those
    of a service that is not accelerated."""

    def __init__(self, model: str, speed: float) -> None:
        import prometheus_client as prom

        self._prom, self.registry = prom, prom.CollectorRegistry()
        labels = (model,)

        def made(kind: Any, name: str, text: str, **more: Any) -> Any:
            return kind(f"vllm:{name}", text, ["model_name"], registry=self.registry, **more).labels(*labels)

        def histogram(name: str, text: str, edges: tuple[float, ...], by: float) -> Any:
            return made(prom.Histogram, name, text, buckets=[edge / by for edge in edges] + [math.inf])

        self.waiting = made(prom.Gauge, "num_requests_waiting", "requests in the queue")
        self.running = made(prom.Gauge, "num_requests_running", "requests being served")
        self.memory = made(prom.Gauge, "kv_cache_usage_perc", "share of KV memory in use, 0 to 1")
        self.ttft = histogram("time_to_first_token_seconds", "time to first token", TTFT_S, speed)
        self.tpot = histogram("request_time_per_output_token_seconds", "time per output token", TPOT_S, speed)
        self.e2e = histogram("e2e_request_latency_seconds", "whole request", E2E_S, speed)
        self.prompt = histogram("request_prompt_tokens", "prompt tokens per request", TOKENS, 1.0)
        self.output = histogram("request_generation_tokens", "output tokens per request", TOKENS, 1.0)
        ended = prom.Counter("vllm:request_success", "requests that ended", ["model_name", "finished_reason"],
                             registry=self.registry)  # fmt: skip
        self._ended = {reason: ended.labels(model, reason) for reason in REASONS}

    def finished(self, prompt: float, output: float, first_s: float, whole_s: float) -> None:
        """A request was answered; wall seconds since it came."""
        self.e2e.observe(whole_s)
        self.prompt.observe(prompt)
        self.output.observe(output)
        if output > 1:
            self.tpot.observe((whole_s - first_s) / (output - 1.0))
        self._ended["stop"].inc()

    def gave_up(self) -> None:
        """A request was never served."""
        self._ended["abort"].inc()

    def text(self) -> bytes:
        """The page."""
        return bytes(self._prom.generate_latest(self.registry))
