"""Forward passes on plain Python numbers: dense layers behind a recurrent layer or none, and trees."""

from __future__ import annotations

import base64
import math
import sys
from array import array
from typing import Any

from experiments.exported.arrays import single
from experiments.exported.data import SPEC, WEIGHTS

CLIP = 10.0  # standardised inputs stay within this many standard deviations
STATES = {"mlp": 0, "gru": 1, "lstm": 2}
Numbers = list[float]


class Network:
    """Sums are of double precision, and what a layer gives is rounded to single precision: the outputs are those of
    numpy's single precision to its own rounding."""

    def __init__(self) -> None:
        kind = SPEC["kind"]
        self._tensors = {name: decoded(text, shape) for name, (text, shape) in WEIGHTS.items()}
        self._hidden = len(self._tensors["rnn.weight_hh"][0]) if STATES[kind] else 0
        self._depth = sum(name.endswith(".weight") and name[:-7].isdigit() for name in self._tensors)
        self._tanh = SPEC["activation"] == "tanh"
        self.reset()

    def reset(self) -> None:
        """Forget the state."""
        self._state = [[0.0] * self._hidden for _ in range(STATES[SPEC["kind"]])]

    def forward(self, x: Numbers) -> Numbers:
        """Outputs; the state moves on."""
        tensors = self._tensors
        if "normalise.mean" in tensors:
            x = single(a - b for a, b in zip(x, tensors["normalise.mean"]))
            x = [min(max(a, -CLIP), CLIP) for a in single(a / b for a, b in zip(x, tensors["normalise.std"]))]
        if self._hidden:
            x = self._recur(x)
        for i in range(self._depth):
            x = dense(x, tensors[f"{i}.weight"], tensors[f"{i}.bias"])
            if i + 1 < self._depth:
                x = single(map(math.tanh, x)) if self._tanh else [max(a, 0.0) for a in x]
        return x

    def _recur(self, x: Numbers) -> Numbers:
        n, tensors, old = self._hidden, self._tensors, self._state
        ours = dense(x, tensors["rnn.weight_ih"], tensors["rnn.bias_ih"])
        past = dense(old[0], tensors["rnn.weight_hh"], tensors["rnn.bias_hh"])
        if SPEC["kind"] == "gru":
            reset, update = ([sigmoid(a + b) for a, b in zip(ours[k : k + n], past[k : k + n])] for k in (0, n))
            new = [math.tanh(a + r * b) for a, r, b in zip(ours[2 * n :], reset, past[2 * n :])]
            self._state = [single((1.0 - u) * a + u * h for u, a, h in zip(update, new, old[0]))]
            return self._state[0]
        gates = [a + b for a, b in zip(ours, past)]
        enter, forget, cell, leave = (gates[k * n : (k + 1) * n] for k in range(4))
        memory = single(sigmoid(f) * m + sigmoid(e) * math.tanh(c) for f, m, e, c in zip(forget, old[1], enter, cell))
        self._state = [single(sigmoid(a) * math.tanh(m) for a, m in zip(leave, memory)), memory]
        return self._state[0]


class Tree:
    """Questions of features, without memory."""

    def reset(self) -> None:
        """There is nothing to forget."""

    def forward(self, x: Numbers) -> Numbers:
        """The values of the leaf."""
        node, nodes = 0, SPEC["nodes"]
        while nodes["feature"][node] >= 0:
            smaller = x[nodes["feature"][node]] <= nodes["threshold"][node]
            node = nodes["left" if smaller else "right"][node]
        values: Numbers = nodes["values"][node]
        return values


def dense(x: Numbers, weight: list[Numbers], bias: Numbers) -> Numbers:
    """(high,) for weights (high, low)."""
    return single(sum(map(float.__mul__, row, x)) + c for row, c in zip(weight, bias))


def sigmoid(x: float) -> float:
    """Without overflow."""
    return 0.5 * (1.0 + math.tanh(0.5 * x))


def decoded(text: str, shape: list[int]) -> Any:
    """Single precision, little-endian, in base64, as floats or rows of floats."""
    values = array("f")
    values.frombytes(base64.b64decode(text))
    if sys.byteorder == "big":
        values.byteswap()
    flat = values.tolist()
    return flat if len(shape) == 1 else [flat[i : i + shape[1]] for i in range(0, len(flat), shape[1])]
