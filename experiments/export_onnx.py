"""A policy as one ONNX file: the forward pass of `rlscale.network` in ONNX's operators, weights and manifest inside.

Any runtime of opset 17 or later runs it; rows are a dynamic axis. A recurrent network takes its state as inputs
`state_<i>` and gives the next one as outputs `next_<i>`. Features and the action map stay with the caller.
"""

from __future__ import annotations

import hashlib
import json
from typing import Any

import numpy as np

from experiments.export_source import Source
from rlscale.errors import PolicyError
from rlscale.manifest import described_policy
from rlscale.network import CLIP, GATES, Network
from rlscale.policy_folder import ONNX, network_entry
from rlscale.policy_onnx import BLANK, DIGEST_KEY, MANIFEST_KEY

OPSET, IR_VERSION = 17, 8
STATES = {"mlp": 0, "gru": 1, "lstm": 2}


def files(source: Source) -> dict[str, bytes]:
    """The exported file by its name."""
    network = source.network
    digests = {"weights": weights_digest(network)}
    manifest = described_policy(source.actions, network.inputs, source.manifest["pools"], source.manifest["interval_s"],
                                network_entry(network), digests, source.about())  # fmt: skip
    return {ONNX: onnx_bytes(network, manifest)}


def weights_digest(network: Network) -> str:
    """SHA-256 over names and values of all tensors."""
    digest = hashlib.sha256()
    for name in sorted(network.tensors):
        digest.update(name.encode() + b"\0" + np.ascontiguousarray(network.tensors[name], "<f4").tobytes())
    return digest.hexdigest()


def onnx_bytes(network: Network, manifest: dict[str, Any]) -> bytes:
    """The file: checked by onnx, with its own digest in the metadata."""
    try:
        import onnx
    except ImportError:
        raise PolicyError("writing ONNX needs the packages of the extra: pip install 'rlscale[export]'") from None
    model = _Graph(network).model()
    for key, value in ((MANIFEST_KEY, json.dumps(manifest)), (DIGEST_KEY, BLANK.decode())):
        model.metadata_props.add(key=key, value=value)
    onnx.checker.check_model(model, full_check=True)
    data: bytes = model.SerializeToString(deterministic=True)
    assert data.count(BLANK) == 1, "the digest's place is not unique"
    return data.replace(BLANK, hashlib.sha256(data).hexdigest().encode())


class _Graph:
    """Nodes and constants in the order in which `Network.forward` computes them."""

    def __init__(self, network: Network) -> None:
        from onnx import helper, numpy_helper

        self.network, self.helper, self.numpy = network, helper, numpy_helper
        self.nodes: list[Any] = []
        self.constants: dict[str, Any] = {}

    def model(self) -> Any:
        """The whole model."""
        from onnx import TensorProto

        def rows(name: str, wide: int) -> Any:
            return self.helper.make_tensor_value_info(name, TensorProto.FLOAT, ["rows", wide])

        network, x, states = self.network, "features", STATES[self.network.kind]
        hidden = network.tensors["rnn.weight_hh"].shape[1] if states else 0
        if "normalise.mean" in network.tensors:
            x = self.add("Div", self.add("Sub", x, "normalise.mean"), "normalise.std")
            x = self.add("Clip", x, self.constant("low", -CLIP), self.constant("high", CLIP))
        if states:
            x = self.gru(x) if network.kind == "gru" else self.lstm(x)
        layers = [name[:-7] for name in network.tensors if name.endswith(".weight") and name[:-7].isdigit()]
        for i in range(len(layers)):
            last = i + 1 == len(layers)
            x = self.dense(x, f"{i}.weight", f"{i}.bias", "outputs" if last else "")
            if not last:
                x = self.add("Tanh" if network.activation == "tanh" else "Relu", x)
        taken = [rows("features", network.inputs), *(rows(f"state_{i}", hidden) for i in range(states))]
        given = [rows("outputs", network.outputs), *(rows(f"next_{i}", hidden) for i in range(states))]
        tensors = [self.numpy.from_array(value, name) for name, value in self.constants.items()]
        graph = self.helper.make_graph(self.nodes, "policy", taken, given, tensors)
        opset = [self.helper.make_opsetid("", OPSET)]
        return self.helper.make_model(graph, opset_imports=opset, ir_version=IR_VERSION, producer_name="rlscale")

    def gru(self, x: str) -> str:
        """The next state."""
        ours = self.gates(x, "ih")
        past = self.gates("state_0", "hh")
        reset, update = (self.add("Sigmoid", self.add("Add", ours[k], past[k])) for k in (0, 1))
        new = self.add("Tanh", self.add("Add", ours[2], self.add("Mul", reset, past[2])))
        rest = self.add("Sub", self.constant("one", 1.0), update)
        return self.add("Add", self.add("Mul", rest, new), self.add("Mul", update, "state_0"), name="next_0")

    def lstm(self, x: str) -> str:
        """The next state; the next memory is `next_1`."""
        both = zip(self.gates(x, "ih"), self.gates("state_0", "hh"), strict=True)
        enter, forget, cell, leave = (self.add("Add", a, b) for a, b in both)
        kept = self.add("Mul", self.add("Sigmoid", forget), "state_1")
        fresh = self.add("Mul", self.add("Sigmoid", enter), self.add("Tanh", cell))
        memory = self.add("Add", kept, fresh, name="next_1")
        return self.add("Mul", self.add("Sigmoid", leave), self.add("Tanh", memory), name="next_0")

    def gates(self, x: str, side: str) -> list[str]:
        """What goes into every gate, of the inputs or of the state."""
        stacked = self.dense(x, f"rnn.weight_{side}", f"rnn.bias_{side}")
        count = GATES[self.network.kind]
        each = len(self.network.tensors[f"rnn.bias_{side}"]) // count
        self.constants["split"] = np.full(count, each, np.int64)
        names = [f"{side}_{k}" for k in range(count)]
        self.nodes.append(self.helper.make_node("Split", [stacked, "split"], names, axis=1))
        return names

    def dense(self, x: str, weight: str, bias: str, name: str = "") -> str:
        """x @ weight.T + bias."""
        for tensor in (weight, bias):
            self.constants[tensor] = np.ascontiguousarray(self.network.tensors[tensor], np.float32)
        return self.add("Gemm", x, weight, bias, name=name, transB=1)

    def add(self, operator: str, *inputs: str, name: str = "", **attributes: Any) -> str:
        """A node, and the name of what it gives."""
        for tensor in set(inputs) & set(self.network.tensors):
            self.constants[tensor] = np.ascontiguousarray(self.network.tensors[tensor], np.float32)
        name = name or f"{operator.lower()}_{len(self.nodes)}"
        self.nodes.append(self.helper.make_node(operator, list(inputs), [name], **attributes))
        return name

    def constant(self, name: str, value: float) -> str:
        """A number."""
        self.constants[name] = np.array(value, np.float32)
        return name
