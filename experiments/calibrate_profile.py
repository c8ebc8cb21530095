"""A fitted law as a service profile in YAML: every number with its source, its standard error and what it is worth."""

from __future__ import annotations

import re
from collections.abc import Mapping
from importlib import resources
from typing import Any

import yaml

from experiments.calibrate_fit import LAW, TTFT, Fit, Rows
from rlscale.sim import profiles

FITTED_FROM = "fitted to {source}, {rows} {of}"
ONE = {"value": 1.0, "source": "none: fitted end to end"}
LIKE = "h100-8b"  # whose start-ups and chunk a profile gets that nothing is known of


def slug(name: str) -> str:
    """A file name of letters, digits, dots and dashes."""
    return re.sub(r"[^a-z0-9.]+", "-", name.lower()).strip("-.") or "profile"


def left_out(found: Fit, rows: Rows, span: Mapping[str, tuple[float, float]]) -> dict[str, str]:
    """Coefficients that the data cannot tell, each with the reason and what was done."""
    reasons = {}
    batches, prompts = span["batch"], span.get("prompt_tokens")
    for name in LAW:
        if name in found.fitted:
            continue
        if name == "c1_s" and batches[0] == batches[1]:
            why = f"one batch size only ({batches[0]:g}): merged into c0; valid at this batch alone"
        elif name in ("c2_s", "c3_s", "c4_s") and prompts is None:
            why = "no prompt lengths: prompts and contexts are merged into c1; valid for this load's lengths alone"
        elif name == "c3_s":
            why = "contexts do not vary apart from the batch: merged into c1; valid near this context alone"
        elif name == "c4_s" and prompts is not None and prompts[0] == prompts[1]:
            why = f"one prompt length only ({prompts[0]:g} tokens): merged into c2; valid near this length alone"
        elif name == "c2_s" and not (rows.kind == TTFT).any():
            why = "no TTFT, and prompts do not vary apart from the batch: merged into c1; prompts are free of charge"
        else:
            why = "the rows do not vary enough to tell it from those before it: fixed at zero"
        reasons[name] = why
    return reasons


def as_yaml(name: str, about: Mapping[str, Any], found: Fit, reasons: Mapping[str, str],
            span: Mapping[str, tuple[float, float]], like: str | None) -> str:  # fmt: skip
    """The text of a profile file. `about`: model, gpu, gpus, source, rows and of what, held (tokens), seats.

    What latencies do not tell (memory, start-ups) is that of the built-in profile `like`; without one, memory and
    seats are what the measurements held, and start-ups an estimate.
    """
    source = FITTED_FROM.format(**about)
    kernel = {f"{coefficient.removesuffix('_s')}_ms": _coefficient(i, coefficient, found, reasons, source)
              for i, coefficient in enumerate(LAW)}  # fmt: skip
    held = f"{about['held']:.0f} tokens were held at once while measuring: a lower bound"
    own = {
        "kv_capacity_tokens": {"value": float(round(about["held"])), "source": held, "estimate": True},
        "max_seats": {"value": float(about["seats"]), "source": "largest batch that was measured", "estimate": True},
    }
    text = {
        "name": name, "model": about["model"], "gpu": about["gpu"], "gpus_per_replica": about["gpus"], "batching": True,
        "calibration": dict.fromkeys(("decode_base", "decode_slope", "prefill"), ONE),
        "kernel": kernel, **_rest(like, own), "valid": {key: list(value) for key, value in span.items()},
    }  # fmt: skip
    lines = [f"# {name}: t = c0 + c1*B + c2*P + c3*K + c4*sum[(x+p)^2 - x^2], {source}."]
    lines += [f"# {coefficient.removesuffix('_s')}: {reason}." for coefficient, reason in reasons.items()]
    if found.overhead_s > 0.0 or found.burst_share > 0.0:
        lines.append(f"# Not part of the law: the benchmark's TTFT holds {1e3 * found.overhead_s:.1f} ms outside of "
                     f"iterations, and {found.burst_share:.1%} of the other prompts in flight come first.")  # fmt: skip
    body = yaml.dump(text, Dumper=_Plain, sort_keys=False, default_flow_style=None, width=140, allow_unicode=True)
    return "\n".join(lines) + "\n" + body


class _Plain(yaml.SafeDumper):
    """No anchors: a reader of the file should not have to know them."""

    def ignore_aliases(self, data: Any) -> bool:
        return True


def _coefficient(i: int, name: str, found: Fit, reasons: Mapping[str, str], source: str) -> dict[str, Any]:
    if name in reasons:
        return {"value": 0.0, "source": f"not told by the data: {reasons[name]}", "estimate": True}
    entry: dict[str, Any] = {"value": _short(1e3 * found.value[i]), "source": source}
    if len(found.std_error):
        entry["std_error"] = _short(1e3 * found.std_error[i])
        entry["interval90"] = [_short(1e3 * found.low[i]), _short(1e3 * found.high[i])]
    return entry


def _rest(like: str | None, own: dict[str, Any]) -> dict[str, Any]:
    """What latencies do not tell, from a built-in profile."""
    profiles.service_profile(like or LIKE)  # an unknown name is told with the nearest
    file = resources.files(profiles) / "services" / f"{like or LIKE}.yaml"
    there = yaml.safe_load(file.read_text())
    memory = ("kv_capacity_tokens", "weights_gb", "kv_bytes_per_token", "cpus_per_replica", "memory_gib_per_replica",
              "max_seats")  # fmt: skip
    if like is not None:
        own = {key: there[key] for key in memory if key in there}
    starts = {key: {part: {**number, "source": f"as {like or LIKE}: {number['source']}", "estimate": True}
                    for part, number in there[key].items()} for key in ("cold_start", "warm_start")}  # fmt: skip
    return {**own, "chunk_tokens": {**there["chunk_tokens"], "estimate": True}, **starts}


def _short(value: float) -> float:
    """Six digits: more than any benchmark holds."""
    return float(f"{value:.6g}")
