"""What the fluid cannot derive: nine numbers fitted to the oracle on half of the fidelity grid, judged on the rest.

The fluid spreads a pool's sequences evenly and sees counts per sub-step. Between replicas, below a sub-step and in
the lengths of single answers there is variance it does not simulate; these factors scale the terms that stand for
it. `python -m experiments fidelity` refits and judges them; the figures are in results/fidelity/.
"""

from __future__ import annotations

CO_ARRIVALS = 1.232  # requests that reach a replica during the same iteration, over the Poisson mean
RESIDUAL = 0.516  # share of a mean iteration left when a request arrives
BURST = 0.178  # companions of a burst ahead in the queue, per unit of (burstiness - 1) / sqrt(R)
BURST_BEHIND = 0.13  # the same companions slow the first tokens of an answer
WORK_NOISE = 0.734  # variance of TPOT by prompts that come in between, over the Poisson variance
BURST_NOISE = 0.299  # its growth with bursts
KV_NOISE = 0.679  # variance of TPOT by the uneven KV content of replicas
COUNT_NOISE = 0.117  # variance of TPOT by uneven sequence counts
ANSWER_NOISE = 2.534  # random answer lengths: standard deviation of completions, over the Poisson one
