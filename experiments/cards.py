"""Cards of the built-in scenarios: what each tests, its SLO, fleet, need and reference. Made of the files alone."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rlscale.scenario import REFERENCE_FILE, Scenario, load_scenario
from rlscale.types import ClusterSpec, Load, Pool

HEAD = """# Scenarios

Made by `python -m experiments scenarios cards`; reference figures by `python -m experiments scenarios reference`. The
reference is the cheapest constant fleet that reaches the target attainment on three training loads; what one replica is
worth is the attainment with one fewer and one more.
"""


def write_cards(folder: Path) -> str:
    """The whole page for the scenario files of a folder."""
    stored: dict[str, Any] = json.loads((folder / REFERENCE_FILE).read_text())
    scenarios = [load_scenario(path, check_reference=False) for path in sorted(folder.glob("*.yaml"))]
    rows = [_row(scenario, stored.get(scenario.name, {})) for scenario in scenarios]
    cards = [card(scenario, stored.get(scenario.name, {})) for scenario in scenarios]
    table = ["| scenario | parts | mean need | reference, USD/h | attainment |", "|---|---|---|---|---|", *rows]
    return "\n".join([HEAD, *table, "", *cards])


def card(scenario: Scenario, entry: Mapping[str, Any]) -> str:
    """What a scenario is about, on half a page."""
    spec = scenario.cluster
    lines = [f"## {scenario.name}", "", f"{scenario.summary[0].upper()}{scenario.summary[1:]}.", ""]
    remark = _remark(scenario)
    lines += [remark, ""] if remark else []
    lines += [f"- **SLO**: {slo(spec)}."]
    lines += [f"- **Pool `{pool.name}`**: {fleet(pool)}." for pool in spec.pools]
    used = ", ".join(parts(scenario)) or "none beside the basics"
    lines += [f"- **Load**: {load(scenario)}.", f"- **Parts**: {used}."]
    if entry:
        lines += [f"- **Need**: {entry['mean_need']:.1f} replicas on average (l_SLO "
                  f"{', '.join(f'{value:.3g}' for value in entry['capacity_per_s'])} requests/s).",
                  f"- **Reference**: {entry['replicas']} replicas, {hourly(scenario, entry):.2f} USD/h, "
                  f"{entry['attainment']:.2%} of requests within the SLO.",
                  f"- **One replica** fewer: {entry['attainment_one_less']:.2%}; one more: "
                  f"{entry['attainment_one_more']:.2%}."]  # fmt: skip
    return "\n".join(lines) + "\n"


def hourly(scenario: Scenario, entry: Mapping[str, Any]) -> float:
    """Reference cost in USD per hour."""
    return float(entry["usd_per_interval"]) * 3600.0 / scenario.cluster.interval_s


def slo(spec: ClusterSpec) -> str:
    """In words."""
    prompt = f" + prompt / {spec.slo.ttft_tokens_per_s:g} tokens/s" if math.isfinite(spec.slo.ttft_tokens_per_s) else ""
    tpot = f", TPOT ≤ {1e3 * spec.slo.tpot_s:g} ms" if math.isfinite(spec.slo.tpot_s) else ""
    return f"TTFT ≤ {spec.slo.ttft_s:g} s{prompt}{tpot} for {spec.slo.attainment:.0%} of the requests"


def fleet(pool: Pool) -> str:
    """Nodes, model, limits and price of a pool."""
    node = pool.node
    usd = node.usd_per_s(pool.spot) * 3600.0
    words = [f"{pool.min_replicas} to {pool.max_replicas} replicas of {pool.profile.name} on {node.name} nodes at "
             f"{usd:.2f} USD/h{' (spot)' if pool.spot else ''}, {pool.slots_per_node} per node"]  # fmt: skip
    if pool.role != "both":
        words.append(f"{pool.role} only")
    if pool.zone != "a":
        words.append(f"zone {pool.zone}")
    if pool.standby != "none":
        words.append(f"{pool.standby_replicas} of at most {pool.max_standby} replicas {pool.standby} in standby")
    if pool.family:
        words.append(f"family {pool.family}")
    return ", ".join(words)


def load(scenario: Scenario) -> str:
    """Kinds of load, from the outside in, and the length of an episode."""
    kinds, spec = [], dict(scenario.workload)
    while True:
        kinds.append(str(spec["kind"]) + (f" ({spec['profile']})" if "profile" in spec else ""))
        if not isinstance(spec.get("base"), Mapping):
            break
        spec = dict(spec["base"])
    return f"{' of '.join(kinds)}, {scenario.horizon_s / 3600.0:g} h"


def parts(scenario: Scenario) -> list[str]:
    """What is switched on beside the basics."""
    spec = scenario.cluster
    plain, kinds = ClusterSpec(spec.pools, spec.slo), load(scenario)
    found = [name for name in ("shortage", "spot", "failures", "actuator", "energy", "admission")
             if getattr(spec, name) != getattr(plain, name)]  # fmt: skip
    found += ["node buying law"] if spec.node_delay_after_add_s else []
    found += ["start-up in stages"] if any(pool.profile.cold_stages for pool in spec.pools) else []
    found += ["standby"] if any(pool.standby != "none" for pool in spec.pools) else []
    found += ["families"] if any(pool.family for pool in spec.pools) else []
    found += ["partitions"] if any(pool.profile.gpu_share < 1.0 for pool in spec.pools) else []
    found += ["prefill and decode pools"] if spec.has_roles else ["several pools"] if len(spec.pools) > 1 else []
    return found + [kind for kind in ("sessions", "deferrable") if kind in kinds]


def _remark(scenario: Scenario) -> str:
    """The comment at the top of the file."""
    assert scenario.path is not None
    lines = []
    for line in scenario.path.read_text().splitlines():
        if not line.startswith("#"):
            break
        lines.append(line.lstrip("# "))
    return " ".join(lines)


def _row(scenario: Scenario, entry: Mapping[str, Any]) -> str:
    found = ", ".join(parts(scenario)) or "—"
    if not entry:
        return f"| [{scenario.name}](#{scenario.name}) | {found} | | | |"
    return (f"| [{scenario.name}](#{scenario.name}) | {found} | {entry['mean_need']:.1f} | "
            f"{hourly(scenario, entry):.2f} | {entry['attainment']:.2%} |")  # fmt: skip


def mean_need(loads: Sequence[Load], scenario: Scenario) -> float:
    """Replicas of the cheapest pool that the loads ask for on average."""
    from rlscale.loop import need_series

    needs = [need_series(own, scenario.cluster, scenario.limits).mean() for own in loads]
    return float(sum(needs) / len(needs))
