"""Physics that every engine shares: iteration time, KV memory, what one request costs. Knows no queue and no time."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from rlscale.types import Floats, IterationLaw, Role, ServiceProfile, TokenLaw

KV_SHARE = 0.90  # of the GPU memory that an engine may use (vLLM's default gpu_memory_utilization)


@dataclass(frozen=True, slots=True)
class Chunk:
    """Prompt tokens of one sequence in one iteration."""

    done: float  # prompt tokens processed before
    tokens: float  # in this iteration
    prompt: float  # the whole prompt


def iteration_s(law: IterationLaw, sequences: int, chunks: Sequence[Chunk], decode_kv_tokens: float) -> float:
    """Duration of one engine iteration, seconds (see `IterationLaw`)."""
    prompt_tokens = 0.0
    square = 0.0
    for chunk in chunks:
        end = chunk.done + chunk.tokens
        prompt_tokens += chunk.tokens
        square += end * end - chunk.done * chunk.done
    return law.c0_s + law.c1_s * sequences + law.c2_s * prompt_tokens + law.c3_s * decode_kv_tokens + law.c4_s * square


def kv_capacity_tokens(
    gpu_memory_gib: float, gpus: int, weights_gb: float, reserve_gb_per_gpu: float, bytes_per_token: float
) -> float:
    """Tokens of KV cache that fit beside the weights."""
    usable = KV_SHARE * gpu_memory_gib * 2**30 * gpus - weights_gb * 1e9 - reserve_gb_per_gpu * 1e9 * gpus
    return float(int(usable / bytes_per_token))


@dataclass(frozen=True, slots=True)
class Demand:
    """What one request of a load asks of one replica: the symbols of the fluid equations.

    ni, no mean prompt and output tokens; k resident tokens per running sequence; c' marginal time of a sequence in
    a decode pass; w, w2 mean and mean square of the prompt work in seconds; seats S; wC the time of a full chunk;
    over, share of requests that can never fit into the KV memory.
    """

    ni: float
    no: float
    k: float
    c0: float
    c: float  # c'
    w: float
    w2: float
    seats: float
    chunk_s: float  # wC
    over: float
    first: float = 0.0  # tokens of an answer that were made elsewhere
    prompt_s: float = 0.0  # of a replica that only does prompts: mean time of one in full chunks
    alone_s: float = 0.0  # and by itself
    prompt_cv2: float = 0.0  # squared coefficient of variation of the latter

    def decode_s(self, b: float) -> float:
        """d(b): one decode pass with b sequences."""
        return self.c0 + self.c * b


# Midpoints of equal-probability cells: 512 keep the mean of a heavy tail within 0.3 % of its integral.
_U = (np.arange(512) + 0.5) / 512


def demand(profile: ServiceProfile, tokens: TokenLaw) -> Demand:
    """Moments of a token law on a profile; requests that are too long are left out and counted in `over`."""
    law = profile.law
    n, m = tokens.prompt_at(_U), tokens.output_at(_U)
    over = _share_over(n, m, profile.longest_tokens)
    fits = n + m.min() <= profile.longest_tokens
    if fits.any():
        n = n[fits]
    ni, no = float(n.mean()), float(m.mean())
    work = law.c2_s * n + law.c4_s * n * n
    w, w2 = float(work.mean()), float((work * work).mean())
    k = ni + float((m * m).mean()) / (2.0 * no)
    chunk = profile.chunk_tokens
    chunk_s = law.c2_s * chunk + law.c4_s * chunk * ni
    seats = float(max(1, int(min(profile.max_seats, profile.kv_capacity_tokens / k))))
    if not profile.batching:
        w2 = w * w * (1.0 + profile.service_cv2)
    return Demand(ni, no, k, law.c0_s, law.c1_s + law.c3_s * k, w, w2, seats, chunk_s, over)


def demand_of(role: Role, profile: ServiceProfile, tokens: TokenLaw) -> Demand:
    """The same of a replica that does one part of the requests: prompts alone, or the tokens after the first."""
    d, law = demand(profile, tokens), profile.law
    if role == "both":
        return d
    if role == "prefill":
        n = np.minimum(tokens.prompt_at(_U), profile.longest_tokens)
        alone = law.c2_s * n + law.c4_s * n * n + np.ceil(n / profile.chunk_tokens) * law.c0_s + law.c1_s
        return replace(
            d, no=1.0, k=d.ni, c=law.c1_s, prompt_s=d.w + d.ni / profile.chunk_tokens * law.c0_s + law.c1_s,
            alone_s=float(alone.mean()), prompt_cv2=float(alone.var() / alone.mean() ** 2),
        )  # fmt: skip
    m = tokens.output_at(_U)
    further = max(1e-9, float(m.mean()) - 1.0)
    k = d.ni + float((m * (m - 1.0)).mean()) / (2.0 * further)
    seats = float(max(1, int(min(profile.max_seats, profile.kv_capacity_tokens / k))))
    return replace(d, no=further, k=k, c=law.c1_s + law.c3_s * k, w=0.0, w2=0.0, seats=seats, chunk_s=0.0, first=1.0)


def _share_over(n: Floats, m: Floats, capacity: float) -> float:
    """Share of requests whose prompt and answer together are more than that."""
    return float((n[:, None] + m[None, :] > capacity).mean())
