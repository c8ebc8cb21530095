"""A policy as one Python file that needs nothing but the standard library: weights, features and action map.

The file is put together from `experiments/exported`, and its features are the very lines of `rlscale.features`: the
kernels' source, run on plain arrays.
"""

from __future__ import annotations

import ast
import base64
import inspect
import json
import pprint
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, TypeGuard

import numpy as np

from experiments.export_source import Source
from rlscale import allocation, features, sides, turns, types
from rlscale.features import FEATURES
from rlscale.limits_file import limits_text
from rlscale.manifest import SEAL
from rlscale.types import PENDING_AGES_S

FILE = "exported_policy.py"
PARTS = Path(__file__).parent / "exported"
KERNELS = (turns.circle, sides.carried, sides.busier, features._turn, features._begin, features._push,
           allocation._allocate)  # fmt: skip
CONSTANTS: dict[str, Any] = {
    "METRICS": features.METRICS, "WINDOWS_S": features.WINDOWS_S, "HISTORY_S": features.HISTORY_S,
    "LEAD_UNIT_S": features.LEAD_UNIT_S, "CARBON_UNIT": features.CARBON_UNIT, "DAY_S": types.DAY_S,
    "WEEK_S": types.WEEK_S, "_SIN": turns._SIN, "_COS": turns._COS, "_ROUNDING": allocation._ROUNDING,
}  # fmt: skip
HEAD = '''"""A trained autoscaling policy as one file: standard library only, Python 3.11 or newer.

    policy = Policy()
    policy.warm_up([120.0, 125.0], 60.0)   # optional: arrivals per second before now, oldest first, and their spacing
    targets = policy.decide(observation)   # replicas per pool; once per control interval, in order

`observation` is a mapping of the fields in NEEDED, and those of OPTIONAL that there are. Metrics that are not known are
NaN or None, never 0: the policy then holds. `Scaler` is the same for rlscale: `--scaler MODULE:Scaler`, with the folder
of this file on PYTHONPATH. Run as a program, it answers a JSON observation per line with targets per line.

Written by `python -m experiments export`; SPEC says of what policy.
"""

from __future__ import annotations

'''


def files(source: Source) -> dict[str, bytes]:
    """The exported file by its name."""
    tensors = source.network.tensors
    weights = {name: (_base64(value), list(value.shape)) for name, value in tensors.items()}
    model = {"kind": source.network.kind, "activation": source.network.activation}
    return {FILE: written(source, model, weights).encode()}


def written(source: Source, model: Mapping[str, Any], weights: Mapping[str, tuple[str, list[int]]]) -> str:
    """The text of a file that decides with this model."""
    manifest = source.manifest
    limits = json.loads(limits_text(source.known, source.scenario.name, source.scenario.hash))
    spec = {
        **model, "inputs": len(manifest["features"]), "actions": json.loads(json.dumps(manifest["actions"])),
        "pools": manifest["pools"], "interval_s": manifest["interval_s"], "limits": limits,
        "features": [name for name, *_ in FEATURES], "lowest": [float(low) for *_, low, _ in FEATURES],
        "highest": [float(high) for *_, high in FEATURES], "ages": len(PENDING_AGES_S) + 1,
        "from": {"manifest_sha256": manifest[SEAL], "scenario": manifest.get("scenario")},
    }  # fmt: skip
    data = f"SPEC: dict[str, Any] = {pprint.pformat(spec, width=116, compact=True, sort_dicts=False)}\n\n"
    rows = [f"    {name!r}: ({_lines(text)}, {shape}),\n" for name, (text, shape) in weights.items()]
    data += "WEIGHTS: dict[str, Any] = {\n" + "".join(rows) + "}\n"
    texts = [(PARTS / f"{name}.py").read_text() for name in ("arrays", "models", "cluster", "moves", "policy")]
    bodies = [data, body(texts[0]), kernels(), *(body(text) for text in texts[1:])]
    tail = 'if __name__ == "__main__":\n    main()\n'
    return (
        HEAD
        + "\n".join(standard_imports(texts))
        + "\n\n"
        + "\n\n".join(part.strip("\n") + "\n" for part in [*bodies, tail])
    )


def body(text: str) -> str:
    """A module without its docstring and imports."""
    lines, tree = text.splitlines(), ast.parse(text)
    for node in tree.body:
        docstring = isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)
        if docstring or isinstance(node, ast.Import | ast.ImportFrom):
            for i in range(node.lineno - 1, node.end_lineno or node.lineno):
                lines[i] = ""
    title = (ast.get_docstring(tree) or "").splitlines()[0]
    return f"# {title}\n" + "\n".join(lines).strip("\n")


def standard_imports(texts: Iterable[str]) -> list[str]:
    """Lines that import what the modules take from the standard library."""
    plain: set[str] = set()
    taken: dict[str, set[str]] = {}
    for node in (node for text in texts for node in ast.parse(text).body):
        if isinstance(node, ast.Import):
            plain |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and str(node.module).split(".")[0] not in OURS:
            taken.setdefault(str(node.module), set()).update(alias.name for alias in node.names)
    named = [f"from {module} import {', '.join(sorted(names))}" for module, names in sorted(taken.items())]
    return [*(f"import {name}" for name in sorted(plain)), *named]


OURS = ("__future__", "experiments", "rlscale")


def kernels() -> str:
    """Their source as it is here, and the constants that it reads."""
    parts = ["# The kernels of rlscale, line by line: rates of the last hour, features, allocation to pools."]
    parts.append("\n".join(f"{name} = {value!r}" for name, value in CONSTANTS.items()))
    for kernel in KERNELS:
        text = inspect.getsource(getattr(kernel, "py_func", kernel))
        parts.append("\n" + with_ratios(text.removeprefix("@kernel\n")))
    return "\n".join(parts)


def with_ratios(text: str) -> str:
    """Divisions by what may be 0 as calls of `ratio`: numpy and compiled kernels give infinity there, Python raises."""
    while True:
        found = [node for node in ast.walk(ast.parse(text)) if _may_fail(node)]
        inner = next((node for node in found if sum(map(_may_fail, ast.walk(node))) == 1), None)
        if inner is None:
            return text
        left, right = (ast.get_source_segment(text, side) for side in (inner.left, inner.right))
        whole = ast.get_source_segment(text, inner)
        assert whole is not None
        lines = text.splitlines(keepends=True)
        start = sum(map(len, lines[: inner.lineno - 1])) + inner.col_offset
        text = f"{text[:start]}ratio({left}, {right}){text[start + len(whole) :]}"


def _may_fail(node: ast.AST) -> TypeGuard[ast.BinOp]:
    if not (isinstance(node, ast.BinOp) and isinstance(node.op, ast.Div)):
        return False
    return not (isinstance(node.right, ast.Constant) or (isinstance(node.right, ast.Name) and node.right.id.isupper()))


def _base64(values: Any) -> str:
    """Exact: little-endian single precision."""
    return base64.b64encode(np.ascontiguousarray(values, "<f4").tobytes()).decode()


def _lines(text: str, width: int = 100) -> str:
    """A long string as adjacent literals."""
    pieces = [text[i : i + width] for i in range(0, len(text), width)] or [""]
    return "\n        ".join(["", *(f'"{piece}"' for piece in pieces)]) + "\n    "
