"""Faults in the parts of a scenario file: one error each, with file, line, field, what was got and what to do."""

from __future__ import annotations

from pathlib import Path

import pytest

from rlscale.errors import RlscaleError
from rlscale.scenario import load_scenario

PLAIN = """summary: a scenario with one fault in it
slo: {ttft_s: 1.0, ttft_tokens_per_s: 5000, tpot_s: 0.05}
pools:
  - {name: h100, node: h100-x1, profile: h100-8b, max_replicas: 10}
  - {name: cheap, node: h100-x1, profile: h100-8b, max_replicas: 10, spot: true, zone: east/b}
workload: {kind: steady, rate_per_s: 50.0}
horizon_s: 3600
"""
POOL = "  - {name: cheap, node: h100-x1, profile: h100-8b, max_replicas: 10, spot: true, zone: east/b}\n"


def fault(folder: Path, text: str) -> str:
    path = folder / "faulty.yaml"
    path.write_text(text)
    with pytest.raises(RlscaleError) as caught:
        load_scenario(path)
    message = str(caught.value)
    assert message.startswith(str(path)) or "series.csv" in message
    return message


def test_the_plain_file_has_no_fault(tmp_path: Path) -> None:
    path = tmp_path / "plain.yaml"
    path.write_text(PLAIN)
    assert len(load_scenario(path).cluster.pools) == 2


@pytest.mark.parametrize(
    ("added", "said"),
    [
        ("failures: {replica_per_h: 1.5}\n", ["line 8", "failures.replica_per_h", "1.5", "less than or equal to 1"]),
        ("failures: {node_per_h: -0.1}\n", ["failures.node_per_h", "-0.1", "greater than or equal to 0"]),
        ("failures: {nodes_per_h: 0.1}\n", ["failures.nodes_per_h", "node_per_h"]),
        ("failures: {running: ignored}\n", ["failures.running", "ignored", "'lost' or 'requeued'"]),
        ("shortage: {share: 1.0}\n", ["shortage.share", "1.0", "less than 1"]),
        ("spot: {correlation: 0.1, correlation_far: 0.3}\n", ["correlation_far=0.3 is above correlation=0.1"]),
        ("actuator: {tolerance: 1.5}\n", ["actuator.tolerance", "1.5", "less than 1"]),
        ("energy: {grids: {a: {carbon_g_per_kwh: [300, -1]}}}\n", ["carbon_g_per_kwh", "hour 1", "-1", "0 or more"]),
        ("energy: {grids: {a: {usd_per_kwh: [.inf]}}}\n", ["usd_per_kwh"]),
        ("energy: {grids: {moon: {carbon_g_per_kwh: [300]}}}\n", ["zone 'moon' has no pool", "a, east/b"]),
        ("energy: {pue: 0.9}\n", ["energy.pue", "0.9", "greater than or equal to 1"]),
        ("admission: {policy: ignore}\n", ["admission.policy", "ignore", "'queue', 'reject' or 'degrade'"]),
        ("admission: {policy: reject, max_waiting: 0}\n", ["admission.max_waiting", "greater than 0"]),
        ("reward: {usd_per_kg_carbon: -1}\n", ["reward.usd_per_kg_carbon", "greater than or equal to 0"]),
    ],
)
def test_a_part_that_cannot_be_is_refused(tmp_path: Path, added: str, said: list[str]) -> None:
    message = fault(tmp_path, PLAIN + added)
    for words in said:
        assert words in message, message


@pytest.mark.parametrize(
    ("pool", "said"),
    [
        ("{name: p, node: a10g-x1, profile: a10g-8b, max_replicas: 4, standby: sleeping, max_standby: 2}",
         ["a10g-x1", "cannot stand by sleeping", "it can do stopped"]),
        ("{name: p, node: h100-x8, profile: h100-70b-tp4, max_replicas: 4, standby: stopped, max_standby: 2}",
         ["h100-x8", "cannot stand by stopped", "it can do sleeping"]),
        ("{name: p, node: h100-x1, profile: h100-8b, max_replicas: 4, spot: true, standby: stopped, max_standby: 2}",
         ["is a spot pool", "use 'sleeping'"]),
        ("{name: p, node: h100-x1, profile: h100-8b, max_replicas: 4, max_standby: 2}",
         ["max_standby=2 without a kind of standby", "stopped or sleeping"]),
        ("{name: p, node: h100-x1, profile: h100-8b, max_replicas: 4, standby: sleeping, standby_replicas: 3}",
         ["standby_replicas=3 is above max_standby=0"]),
        ("{name: p, node: h100-x1, profile: h100-8b, max_replicas: 4, partition: 1g.10gb}",
         ["1g.10gb", "10 GiB", "16.1 GB of weights", "does not fit", "larger partition"]),
        ("{name: p, node: h100-x1, profile: h100-8b, max_replicas: 4, partition: 3g.40}", ["3g.40", "3g.40gb"]),
        ("{name: p, node: h100-x8, profile: h100-70b-tp4, max_replicas: 4, partition: 3g.40gb}",
         ["cannot be put on a partition", "one GPU per replica"]),
        ("{name: p, node: h100-x1, profile: h100-8b, max_replicas: 4, cold_start: []}", ["0 stages", "1 to 4"]),
    ],
)  # fmt: skip
def test_a_pool_that_cannot_be_is_refused(tmp_path: Path, pool: str, said: list[str]) -> None:
    message = fault(tmp_path, PLAIN.replace(POOL, f"  - {pool}\n"))
    for words in said:
        assert words in message, message


def test_spot_without_a_spot_pool_is_refused(tmp_path: Path) -> None:
    message = fault(tmp_path, PLAIN.replace(POOL, "") + "spot: {}\n")
    assert "no pool is a spot pool" in message


@pytest.mark.parametrize(
    ("rows", "said"),
    [
        ([(0, 1), (600, 0), (1200, 1)], ["1800 s of availability", "at least the horizon of 3600 s", "line 4"]),
        ([(0, 1), (600, 0), (1300, 1), (1900, 1), (3600, 1)], ["a step of 700 s", "equal steps", "line 4"]),
        ([(0, 1), (1800, -1), (3600, 1)], ["-1", "'east/b'", "line 3"]),
        ([(0, 1)], ["1 rows", "times that rise"]),
    ],
)
def test_a_spot_series_that_cannot_be_is_refused(
    tmp_path: Path, rows: list[tuple[float, float]], said: list[str]
) -> None:
    (tmp_path / "series.csv").write_text("t_s,east/b\n" + "".join(f"{t},{value}\n" for t, value in rows))
    message = fault(tmp_path, PLAIN + "spot: {series: series.csv}\n")
    for words in said:
        assert words in message, message


def test_a_spot_series_needs_a_column_for_every_spot_zone(tmp_path: Path) -> None:
    (tmp_path / "series.csv").write_text("t_s,east/a\n0,1\n1800,1\n3600,1\n")
    assert "'east/b'" in fault(tmp_path, PLAIN + "spot: {series: series.csv}\n")


def test_a_spot_series_that_fits_is_what_the_cluster_meets(tmp_path: Path) -> None:
    (tmp_path / "series.csv").write_text("t_s,east/b\n" + "".join(f"{600 * i},{i % 2}\n" for i in range(12)))
    path = tmp_path / "fine.yaml"
    path.write_text(PLAIN + "spot: {series: series.csv}\n")
    market = load_scenario(path).cluster.spot
    assert market is not None
    assert market.series_step_s == 600.0
    assert dict(market.series)["east/b"] == tuple(float(i % 2) for i in range(12))
