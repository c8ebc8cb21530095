"""Forward pass of a trained network in numpy: standardise, one recurrent layer or none, dense layers. No torch.

Tensors are named as torch names them, so that weights travel unchanged: `normalise.mean`, `normalise.std`,
`rnn.weight_ih`, `rnn.weight_hh`, `rnn.bias_ih`, `rnn.bias_hh` (gates stacked), `0.weight`, `0.bias`, `1.weight`, ...
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rlscale.errors import PolicyError

Array = NDArray[np.float32]
State = tuple[Array, ...]  # of the recurrent layer, (rows, hidden) each
GATES = {"mlp": 0, "gru": 3, "lstm": 4}  # kinds of network, and gates of their recurrent layer
CLIP = 10.0  # standardised inputs stay within this many standard deviations


def _relu(x: Array) -> Array:
    return np.maximum(x, np.float32(0.0))


ACTIVATIONS: dict[str, Callable[[Array], Array]] = {"tanh": np.tanh, "relu": _relu}


@dataclass(frozen=True)
class Network:
    """A network with its weights. `forward` takes (rows, inputs) and gives (rows, outputs) and the next state.

    Raises PolicyError when tensors are missing, superfluous, of another shape than their neighbours ask for, or hold
    NaN or infinity.
    """

    tensors: Mapping[str, Array]
    inputs: int
    outputs: int
    kind: str = "mlp"
    activation: str = "tanh"
    _layers: tuple[tuple[Array, Array], ...] = field(init=False)

    def __post_init__(self) -> None:
        if self.kind not in GATES:
            raise PolicyError(f"network '{self.kind}'; expected one of {', '.join(GATES)}")
        if self.activation not in ACTIVATIONS:
            raise PolicyError(f"activation '{self.activation}'; expected one of {', '.join(ACTIVATIONS)}")
        bad = sorted(name for name, value in self.tensors.items() if not np.isfinite(value).all())
        if bad:
            raise PolicyError(f"{', '.join(bad)} hold NaN or infinity; train anew")
        wanted = dict(self._shapes())
        for name, shape in wanted.items():
            got = self.tensors[name].shape if name in self.tensors else None
            if got != shape:
                raise PolicyError(f"tensor {name} has shape {got}, expected {shape}; copy the folder again")
        extra = sorted(set(self.tensors) - set(wanted))
        if extra:
            raise PolicyError(f"unexpected tensors {', '.join(extra)}; copy the folder again")
        dense = [
            (np.ascontiguousarray(self.tensors[f"{i}.weight"].T), self.tensors[f"{i}.bias"])
            for i in range(self._depth())
        ]
        object.__setattr__(self, "_layers", tuple(dense))

    @property
    def recurrent(self) -> bool:
        """Whether the network remembers."""
        return GATES[self.kind] > 0

    def start(self, rows: int) -> State:
        """The state before the first observation."""
        if not self.recurrent:
            return ()
        hidden = self.tensors["rnn.weight_hh"].shape[1]
        zero = np.zeros((rows, hidden), np.float32)
        return (zero, zero) if self.kind == "lstm" else (zero,)

    def forward(self, features: NDArray[Any], state: State = ()) -> tuple[Array, State]:
        """Outputs and the next state."""
        x: Array = np.asarray(features, dtype=np.float32)
        if "normalise.mean" in self.tensors:
            shifted = (x - self.tensors["normalise.mean"]) / self.tensors["normalise.std"]
            x = np.clip(shifted, np.float32(-CLIP), np.float32(CLIP))
        if self.recurrent:
            state = self._recur(x, state or self.start(len(x)))
            x = state[0]
        act = ACTIVATIONS[self.activation]
        for i, (weight, bias) in enumerate(self._layers):
            x = x @ weight + bias
            if i + 1 < len(self._layers):
                x = act(x)
        return x, state

    def _recur(self, x: Array, state: State) -> State:
        """One step of torch's GRU or LSTM cell."""
        t = self.tensors
        ours = np.split(x @ t["rnn.weight_ih"].T + t["rnn.bias_ih"], GATES[self.kind], axis=1)
        past = np.split(state[0] @ t["rnn.weight_hh"].T + t["rnn.bias_hh"], GATES[self.kind], axis=1)
        if self.kind == "gru":
            reset, update = _sigmoid(ours[0] + past[0]), _sigmoid(ours[1] + past[1])
            new = np.tanh(ours[2] + reset * past[2])
            return ((np.float32(1.0) - update) * new + update * state[0],)
        enter, forget, cell, leave = (a + b for a, b in zip(ours, past, strict=True))
        memory = _sigmoid(forget) * state[1] + _sigmoid(enter) * np.tanh(cell)
        return _sigmoid(leave) * np.tanh(memory), memory

    def _depth(self) -> int:
        return sum(name.endswith(".weight") and name[:-7].isdigit() for name in self.tensors)

    def _shapes(self) -> list[tuple[str, tuple[int, ...]]]:
        """Every tensor that must be there, with its shape."""
        shapes: list[tuple[str, tuple[int, ...]]] = []
        wide = self.inputs
        if any(name.startswith("normalise.") for name in self.tensors):
            shapes += [("normalise.mean", (wide,)), ("normalise.std", (wide,))]
        if self.recurrent:
            stack = len(self.tensors.get("rnn.bias_hh", ()))
            hidden = stack // GATES[self.kind]
            shapes += [("rnn.weight_ih", (stack, wide)), ("rnn.weight_hh", (stack, hidden))]
            shapes += [("rnn.bias_ih", (stack,)), ("rnn.bias_hh", (GATES[self.kind] * hidden,))]
            wide = hidden
        depth = max(1, self._depth())
        for i in range(depth):
            high = self.outputs if i + 1 == depth else len(self.tensors.get(f"{i}.bias", ()))
            shapes += [(f"{i}.weight", (high, wide)), (f"{i}.bias", (high,))]
            wide = high
        return shapes


def _sigmoid(x: Array) -> Array:
    """Without overflow for large negative x."""
    return np.asarray(np.float32(0.5) * (np.float32(1.0) + np.tanh(np.float32(0.5) * x)))
