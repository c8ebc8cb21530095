"""Exported ONNX files as models, run by onnxruntime on one thread. The manifest travels in the file's metadata.

Expects what `python -m experiments export --format onnx` writes: inputs `features` (n, inputs) and one `state_<i>`
(n, hidden) per state of the recurrent layer, outputs `outputs` (n, outputs) and `next_<i>`.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rlscale.artefact import MIB, read_limited
from rlscale.errors import PolicyError
from rlscale.manifest import parse_manifest
from rlscale.network import Array, State

MANIFEST_KEY, DIGEST_KEY = "rlscale.manifest", "rlscale.sha256"
BLANK = b"0" * 64  # stands for the digest while it is computed
OUTSIDE = b"\x0a\x08location"  # a tensor whose numbers lie in another file, as protobuf writes it
MOST_BYTES = 64 * MIB


@dataclass(frozen=True, slots=True, eq=False)
class OnnxModel:
    """A session, and how wide its inputs, outputs and states are."""

    session: Any
    inputs: int
    outputs: int
    states: tuple[int, ...]  # width of each

    def start(self, rows: int) -> State:
        """The state before the first observation."""
        return tuple(np.zeros((rows, wide), np.float32) for wide in self.states)

    def forward(self, features: NDArray[Any], state: State = ()) -> tuple[Array, State]:
        """Outputs and the next state."""
        rows = np.ascontiguousarray(features, np.float32)
        state = state or self.start(len(rows))
        fed = {"features": rows, **{f"state_{i}": own for i, own in enumerate(state)}}
        outputs, *following = self.session.run(None, fed)
        return outputs, tuple(following)


def read_onnx(path: Path) -> tuple[dict[str, Any], OnnxModel]:
    """Manifest and model of an exported file; raises PolicyError for anything altered or of other origin."""
    data = read_limited(path, MOST_BYTES, path.parent)
    if OUTSIDE in data:
        raise PolicyError(f"{path}: keeps weights in another file; export it anew, everything in one")
    session = _session(data, path)
    said = session.get_modelmeta().custom_metadata_map
    if MANIFEST_KEY not in said or DIGEST_KEY not in said:
        raise PolicyError(f"{path}: says nothing of features and actions; expected what "
                          "`python -m experiments export --format onnx` writes")  # fmt: skip
    if with_blank_digest(data, said[DIGEST_KEY]) != said[DIGEST_KEY]:
        raise PolicyError(f"{path}: changed after it was written; copy it again or export it anew")
    manifest = parse_manifest(said[MANIFEST_KEY].encode(), path)
    model = _model(session, path)
    said_of = (len(manifest["features"]), manifest["network"].get("outputs"))
    if (model.inputs, model.outputs) != said_of:
        raise PolicyError(f"{path}: {model.inputs} inputs and {model.outputs} outputs, the manifest says {said_of}; "
                          "export it anew")  # fmt: skip
    return manifest, model


def with_blank_digest(data: bytes, digest: str) -> str:
    """SHA-256 of the file with its own digest blanked out; empty when the digest is not there exactly once."""
    own = digest.encode()
    if len(own) != len(BLANK) or data.count(own) != 1:
        return ""
    return hashlib.sha256(data.replace(own, BLANK)).hexdigest()


def _session(data: bytes, path: Path) -> Any:
    try:
        import onnxruntime
    except ImportError:
        raise PolicyError(f"{path}: needs onnxruntime; pip install 'rlscale[export]'") from None
    options = onnxruntime.SessionOptions()
    # A network of a few thousand weights is slower on more threads.
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.log_severity_level = 4  # what is wrong is said by the error
    try:
        return onnxruntime.InferenceSession(data, options, providers=["CPUExecutionProvider"])
    except Exception as error:  # onnxruntime's errors share no class of their own
        raise PolicyError(f"{path}: not an ONNX model ({str(error).splitlines()[0][:200]}); export it anew") from None


def _model(session: Any, path: Path) -> OnnxModel:
    taken = {item.name: item for item in session.get_inputs()}
    states = tuple(f"state_{i}" for i in range(len(taken) - 1))
    given = [item.name for item in session.get_outputs()]
    wanted = ["outputs", *(name.replace("state", "next") for name in states)]
    widths = [item.shape[-1] for item in [*taken.values(), *session.get_outputs()]]
    if set(taken) != {"features", *states} or given != wanted or not all(isinstance(wide, int) for wide in widths):
        raise PolicyError(f"{path}: inputs {sorted(taken)} and outputs {given}; expected features, state_<i>, outputs "
                          "and next_<i>; export it anew")  # fmt: skip
    outputs = session.get_outputs()[0].shape[-1]
    return OnnxModel(session, taken["features"].shape[-1], outputs, tuple(taken[name].shape[-1] for name in states))
