"""What becomes of requests, as counters and histograms: a first token, an end, no service. Knows no replicas."""

from __future__ import annotations

from rlscale.sim.histogram import INF_BIN, bin_of
from rlscale.sim.luck import kernel


@kernel
def first_token(i, c, requests, hist):
    """A request has its first token."""
    ttft_s = requests[i].ttft_s
    c.admitted += 1.0
    c.ttft_sum_s += ttft_s
    hist[0, bin_of(ttft_s)] += 1.0


@kernel
def finish(now_s, i, c, requests, hist, spec, log):
    """An answer is complete: latencies, tokens, and whether it met the SLO."""
    job = requests[i]
    tpot_s = (now_s - job.token_s) / (job.output - 1.0) if job.output > 1.0 else 0.0
    e2e_s = now_s - job.arrived_s
    c.finished += 1.0
    c.output_tokens += job.output
    c.total_tokens += job.output + job.prompt
    late = job.ttft_s > spec.ttft_s + job.prompt * spec.ttft_s_per_token
    if job.output > 1.0:
        c.tpot_sum_s += tpot_s
        c.tpot_count += 1.0
        hist[1, bin_of(tpot_s)] += 1.0
        late = late or tpot_s > spec.tpot_s
    hist[2, bin_of(e2e_s)] += 1.0
    if late:
        c.missed += 1.0
    if 0 <= job.number < log.shape[0]:
        log[job.number, 0] = job.ttft_s
        log[job.number, 1] = tpot_s
        log[job.number, 2] = e2e_s


@kernel
def drop(c, hist):
    """A request gives up, or fits nowhere."""
    c.dropped += 1.0
    c.missed += 1.0
    hist[:, INF_BIN] += 1.0


@kernel
def turn_away(count, c, hist):
    """Requests that are not let in."""
    c.arrived += count
    c.dropped += count
    c.missed += count
    hist[:, INF_BIN] += count
