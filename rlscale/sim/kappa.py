"""What the fluid cannot derive: eight numbers fitted to the oracle on half of the fidelity grid, judged on the rest.

The fluid spreads a pool's sequences evenly and sees counts per sub-step. Between replicas, below a sub-step and in
the lengths of single answers there is variance it does not simulate; these factors scale the terms that stand for
it. `python -m experiments fidelity fit` finds them, `fidelity steady` judges them; figures in results/fidelity/steady/.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Kappa:
    """Factors of the terms; 0 switches a term off."""

    together: float = 2.345  # requests that share the iteration of a first token, over those expected at random
    balance: float = 1.189  # companions per replica below which balancing keeps them on different replicas
    residual: float = 0.863  # share of a mean iteration left when a request arrives, times a uniform number
    behind: float = 1.044  # prompts of the same burst that come in while an answer is written
    work_noise: float = 0.234  # variance of TPOT by prompts that come in between, over the Poisson variance
    kv_noise: float = 1.321  # variance of TPOT by the uneven KV content of replicas
    count_noise: float = 0.79  # variance of TPOT by sequence counts that change within a sub-step
    answer_noise: float = 3.059  # random answer lengths: standard deviation of completions, over the Poisson one


FITTED = Kappa()
