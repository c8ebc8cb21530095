"""Tables of measured latencies: the plain schema, and one adapter per published table. Knows no law.

Plain schema, one row per configuration: `prompt_tokens`, `output_tokens`, `batch`, and `tpot_ms` (or `itl_ms`), with
`ttft_ms` where it was measured; `_s` for seconds. `gpu`, `model`, `engine`, `precision` and `gpus` tell groups apart.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from experiments.calibrate_forms import Form, Measurements, take
from rlscale.types import Floats
from rlscale.workloads.faults import fault
from rlscale.workloads.table import Table, content, read_csv

UNITS = {"s": 1.0, "ms": 1e-3}
PLAIN_SIZES = ("prompt_tokens", "output_tokens", "batch")
OPTIONAL = ("gpu", "model", "engine", "precision", "gpus")
NODE_GPUS = {"h100_sxm": "H100-SXM5-80GB", "h100-80gb": "H100-SXM5-80GB", "H100": "H100-SXM5-80GB",
             "a100-80gb": "A100-SXM4-80GB"}  # fmt: skip
BATCH_64 = 64.0  # whose prompts Splitwise reports faster than those of half the batch


@dataclass(frozen=True, slots=True)
class Source:
    """A kind of table: how it is known, how it is read, how it was measured."""

    name: str
    form: Form
    columns: tuple[str, ...]  # by which it is known
    keys: tuple[str, ...]  # columns that make a group
    read: Callable[[Table], Measurements]  # all groups in one
    label: Callable[[Mapping[str, str]], str]  # a group in words


def read_measurements(path: Path) -> tuple[Source, list[Measurements]]:
    """The kind of a table and its groups; raises TraceError naming file, line and column."""
    table = read_csv(path, content(path))
    for name in table.names:
        table.column(name)  # refuses names that are there twice
    source = next((kind for kind in SOURCES if set(kind.columns) <= set(table.names)), PLAIN)
    return source, groups(table, source)


def groups(table: Table, source: Source) -> list[Measurements]:
    """The rows of a table by group, in the order of the file."""
    everything = source.read(table)
    keys = {key: text(table, key) for key in source.keys if key in table.names}
    rows: dict[tuple[str, ...], list[int]] = {}
    for row in range(len(table)):
        rows.setdefault(tuple(column[row] for column in keys.values()), []).append(row)
    found: list[Measurements] = []
    for parts, members in rows.items():
        group = " ".join(parts) if parts else table.path.stem
        label = source.label(dict(zip(keys, parts, strict=True))) or table.path.stem
        same = sum(one.label.partition(" (no. ")[0].lower() == label.lower() for one in found)
        label = f"{label} (no. {same + 1})" if same else label  # a label becomes the name of a file
        gpu, model, gpus = _about(table, members[0])
        found.append(replace(take(everything, np.array(members)), group=group, label=label, gpu=gpu, model=model,
                             gpus=gpus))  # fmt: skip
    return found


def text(table: Table, name: str) -> list[str]:
    """A column as it stands in the file."""
    return [str(cell).strip() for cell in table.column(name).to_pylist()]


def time_s(table: Table, names: Sequence[str], blank: bool = True) -> Floats | None:
    """A column of times under one of `names` with its unit at the end; None where there is none of them."""
    for stem in names:
        known = {f"{stem}_{unit}" for unit in UNITS}
        odd = [name for name in table.names if name.split("_")[0] == stem and name not in known]
        if odd:
            todo = f"rename it to {stem}_s or {stem}_ms"
            raise fault(table.path, f"a column '{odd[0]}'", "a unit at the end of its name", todo, 1, odd[0])
        there = [(f"{stem}_{unit}", factor) for unit, factor in UNITS.items() if f"{stem}_{unit}" in table.names]
        if len(there) > 1:
            raise fault(table.path, f"{there[0][0]} and {there[1][0]}", "one of them", "remove one", 1, there[1][0])
        if there:
            return positive_s(table, *there[0], blank)
    return None


def positive_s(table: Table, name: str, factor: float, blank: bool = True) -> Floats:
    """A column of times above zero, in seconds; blank cells are NaN."""
    values = table.numbers(name, f"a time in {'milliseconds' if factor < 1.0 else 'seconds'}",
                           blank=0.0 if blank else None)  # fmt: skip
    empty = np.array([cell == "" for cell in text(table, name)])
    zero = (values <= 0.0) & ~(empty if blank else np.zeros(len(table), bool))
    if zero.any():
        row = int(np.argmax(zero))
        raise fault(table.path, "0", "a time above 0", "leave what was not measured blank", table.line(row), name)
    return np.where(values > 0.0, factor * values, np.nan)


def _plain(table: Table) -> Measurements:
    tpot, ttft = time_s(table, ("tpot", "itl")), time_s(table, ("ttft",))
    prompt, output, batch = (_above_zero(table, name) for name in PLAIN_SIZES)
    if tpot is None:
        names = ", ".join(table.names)
        todo = "add it; TTFT alone says nothing of decoding"
        raise fault(table.path, f"the columns {names}", "a column 'tpot_ms' or 'tpot_s'", todo, 1, "tpot_ms")
    return Measurements("", prompt, output, batch, ttft if ttft is not None else np.full(len(table), np.nan), tpot)


def _aiconfigurator(table: Table) -> Measurements:
    """Where attention is data-parallel, the batch is that of one rank, and so is the law."""
    prompt, output, batch = (_above_zero(table, name) for name in ("isl", "osl", "batch_size"))
    ttft, tpot = positive_s(table, "silicon_ttft_ms", 1e-3), positive_s(table, "silicon_tpot_ms", 1e-3)
    return Measurements("", prompt, output, batch, ttft, tpot)


def _splitwise(table: Table) -> Measurements:
    """Answers ended before the length asked for: what was made is what the time between first and last token holds."""
    prompt, output, batch = (_above_zero(table, name) for name in ("prompt_tokens", "output_tokens", "batch"))
    ttft, tpot = positive_s(table, "prompt_ms", 1e-3), positive_s(table, "token_ms", 1e-3)
    made = np.fmin(output, 1.0 + (positive_s(table, "e2e_ms", 1e-3) - ttft) / tpot)
    ttft = np.where(batch >= BATCH_64, np.nan, ttft)
    return Measurements("", prompt, output, batch, ttft, tpot, decoded=np.where(np.isfinite(made), made, output))


def _ml_energy(table: Table) -> Measurements:
    """No prompt lengths, no TTFT; the mean time between tokens is Little's law, sequences over tokens per second."""
    batch, output, nominal = (_above_zero(table, n) for n in ("avg_batch_size", "avg_output_len", "max_num_seqs"))
    unknown = np.full(len(table), np.nan)
    mean_s = batch / _above_zero(table, "output_throughput_tokens_per_sec")
    return Measurements("", unknown, output, batch, unknown, mean_s, nominal=nominal)


def _ml_energy_median(table: Table) -> Measurements:
    """The same rows with the median time between tokens, which leaves out most iterations with a prompt in them."""
    return replace(_ml_energy(table), tpot_s=positive_s(table, "median_itl_ms", 1e-3))


def _above_zero(table: Table, name: str) -> Floats:
    values = table.numbers(name, "a number above 0")
    if (values <= 0.0).any():
        row = int(np.argmax(values <= 0.0))
        raise fault(table.path, f"{values[row]:g}", "a number above 0", "correct or remove the row",
                    table.line(row), name)  # fmt: skip
    return values


def _about(table: Table, row: int) -> tuple[str, str, int]:
    """GPU, model and GPUs per replica of a row, as far as the table names them."""

    def cell(*names: str) -> str:
        return next((text(table, name)[row] for name in names if name in table.names), "")

    gpu, model = cell("gpu", "system", "hardware", "gpu_model"), cell("model", "model_path", "model_id")
    name = next((name for name in ("gpus", "num_gpus", "tp_size", "tensor_parallel") if name in table.names), "")
    gpus = table.numbers(name, "a number of GPUs", minimum=1.0)[row] if name else 1.0
    return NODE_GPUS.get(gpu, gpu) or "any", model or "unknown", round(float(gpus))


def _words(parts: Mapping[str, str]) -> str:
    return ", ".join(part for part in parts.values() if part)


def _words_of_aic(parts: Mapping[str, str]) -> str:
    sizes = [f"{name}{float(parts[key]):g}" for name, key in (("TP", "tp_size"), ("DP", "attention_dp_size"),
             ("MoE-TP", "moe_tp_size"), ("EP", "moe_ep_size")) if parts[key] not in ("", "1.0")]  # fmt: skip
    model = parts["model_path"].split("/")[-1]
    gpu = parts["system"].split("_")[0].upper()
    engine = f"{parts['backend']} {parts['backend_version']}".strip()
    return ", ".join(part for part in (gpu, engine, model, parts["precision"], *(sizes or ["TP1"])) if part)


def _words_of_splitwise(parts: Mapping[str, str]) -> str:
    return f"{parts['hardware']}, {parts['model']}, TP{parts['tensor_parallel']}"


def _words_of_ml_energy(parts: Mapping[str, str]) -> str:
    sizes = [f"{name}{parts[key]}" for name, key in (("TP", "tensor_parallel"), ("EP", "expert_parallel"),
             ("DP", "data_parallel")) if parts[key] != "1"]  # fmt: skip
    model = parts["model_id"].split("/")[-1]
    gpus = f"{parts['num_gpus']} x {parts['gpu_model']}"
    return ", ".join((gpus, model, parts["weight_precision"], *sizes, parts["task"]))


PLAIN = Source("plain table", "closed-loop", PLAIN_SIZES, OPTIONAL, _plain, _words)
AIC = Source("AIConfigurator", "closed-loop", ("silicon_ttft_ms", "silicon_tpot_ms"),
             ("system", "backend", "backend_version", "model_path", "precision", "tp_size", "pp_size",
              "attention_dp_size", "moe_tp_size", "moe_ep_size"), _aiconfigurator, _words_of_aic)  # fmt: skip
SPLITWISE = Source("Splitwise", "static", ("hardware", "prompt_ms", "token_ms", "e2e_ms"),
                   ("model", "hardware", "tensor_parallel"), _splitwise, _words_of_splitwise)  # fmt: skip
_OF_ML_ENERGY = ("task", "model_id", "gpu_model", "num_gpus", "tensor_parallel", "expert_parallel", "data_parallel",
                 "weight_precision")  # fmt: skip
ML_ENERGY = Source("ML.ENERGY", "closed-loop", ("median_itl_ms", "avg_batch_size"), _OF_ML_ENERGY, _ml_energy,
                   _words_of_ml_energy)  # fmt: skip
ML_ENERGY_MEDIAN = replace(ML_ENERGY, name="ML.ENERGY, median ITL", read=_ml_energy_median)
SOURCES = (AIC, SPLITWISE, ML_ENERGY)
