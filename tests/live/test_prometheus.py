"""The real Prometheus: every field of a reading, a restart, a target that goes, and a calibration of recorded days."""

from __future__ import annotations

import json
import math
import shutil
import socket
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from experiments.__main__ import main
from rlscale.deploy.base import MetricsError, Reading
from rlscale.deploy.metrics_config import MetricsConfig, source_of
from rlscale.deploy.prometheus import Prometheus
from rlscale.deploy.templates import Template, names
from rlscale.scenario import load_scenario
from rlscale.sim.profiles import service_profile
from rlscale.types import Slo
from tests.vllm_metrics import openmetrics, simulate

BINARY, TOOL = shutil.which("prometheus"), shutil.which("promtool")
pytestmark = [
    pytest.mark.live,
    pytest.mark.skipif(BINARY is None or TOOL is None, reason="needs prometheus and promtool (apt install prometheus)"),
]
SLO = Slo(ttft_s=1.0, tpot_s=0.05)
PER_S = 5.0  # requests per second that the exporter claims
_NOTHING = Template(product="nothing", fresh="up", queries={"waiting": "vector(1)"})
WAIT_S = 60.0  # for anything that takes a scrape or two


class Exporter(ThreadingHTTPServer):
    """Counters that grow evenly in time, so that every rate is known."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Page)
        self.begun_s = time.time()

    def text(self) -> str:
        done = PER_S * (time.time() - self.begun_s)
        lines = [
            'vllm:num_requests_running{replica="a",pool="h100"} 8',
            'vllm:num_requests_running{replica="b",pool="a100"} 4',
            'vllm:num_requests_waiting{replica="a",pool="h100"} 3',
            'vllm:kv_cache_usage_perc{replica="a",pool="h100"} 0.5',
            'vllm:kv_cache_usage_perc{replica="b",pool="a100"} 0.3',
            f'vllm:request_success_total{{finished_reason="stop"}} {0.9 * done}',
            f'vllm:request_success_total{{finished_reason="abort"}} {0.1 * done}',
            f"vllm:request_prompt_tokens_sum {1000 * done}", f"vllm:request_prompt_tokens_count {done}",
            f"vllm:request_generation_tokens_sum {200 * done}", f"vllm:request_generation_tokens_count {done}",
            f"vllm:time_to_first_token_seconds_sum {0.7 * done}", f"vllm:time_to_first_token_seconds_count {done}",
            f"vllm:inter_token_latency_seconds_sum {0.03 * done}", f"vllm:inter_token_latency_seconds_count {done}",
        ]  # fmt: skip
        for name, shares in (("time_to_first_token", {"0.5": 0.4, "1.0": 0.8, "2.5": 0.95, "+Inf": 1.0}),
                             ("inter_token_latency", {"0.025": 0.5, "0.05": 0.92, "+Inf": 1.0})):  # fmt: skip
            lines += [f'vllm:{name}_seconds_bucket{{le="{le}"}} {share * done}' for le, share in shares.items()]
        return "\n".join(lines) + "\n"


class _Page(BaseHTTPRequestHandler):
    server: Exporter

    def do_GET(self) -> None:
        body = self.server.text().encode()
        self.send_response(200)
        self.send_header("Content-Type", "text/plain; version=0.0.4")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: Any) -> None:
        """Nothing on the terminal."""


@contextmanager
def exporting() -> Iterator[Exporter]:
    with Exporter() as site:
        thread = threading.Thread(target=site.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
        thread.start()
        try:
            yield site
        finally:
            site.shutdown()
            thread.join()


class Server:
    """A Prometheus on a free port with its data in a folder; started and stopped as often as wanted."""

    def __init__(self, folder: Path, target: str | None = None) -> None:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        self.url, self.folder = f"http://127.0.0.1:{self.port}", folder
        jobs = [{"job_name": "toy", "static_configs": [{"targets": [target]}]}] if target else []
        config = {"global": {"scrape_interval": "1s", "scrape_timeout": "1s"}, "scrape_configs": jobs}
        (folder / "prometheus.yml").write_text(yaml.safe_dump(config))
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        command = [
            str(BINARY), f"--config.file={self.folder}/prometheus.yml", f"--storage.tsdb.path={self.folder}/data",
            f"--web.listen-address=127.0.0.1:{self.port}", "--storage.tsdb.retention.time=3650d", "--log.level=error",
        ]  # fmt: skip
        self.process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        probe = Prometheus(self.url, _NOTHING, SLO)
        until(lambda: _answers(probe))
        probe.close()

    def stop(self) -> None:
        if self.process is not None:
            self.process.terminate()
            self.process.wait(30)
        self.process = None


@pytest.fixture
def server_of(tmp_path: Path) -> Iterator[Callable[..., Server]]:
    made: list[Server] = []

    def make(target: str | None = None) -> Server:
        made.append(Server(tmp_path, target))
        return made[-1]

    yield make
    for one in made:
        one.stop()


def until(done: Callable[[], bool]) -> None:
    """Wait for something, at most WAIT_S."""
    deadline_s = time.monotonic() + WAIT_S
    while not done():
        assert time.monotonic() < deadline_s, f"not within {WAIT_S:g} s"
        time.sleep(0.1)


def _answers(probe: Prometheus) -> bool:
    try:
        probe.read()
    except MetricsError as error:
        return "no series" in str(error)
    return True


def reading(source: Prometheus) -> Reading | None:
    try:
        return source.read()
    except MetricsError:
        return None


def test_every_field_a_restart_and_a_target_that_goes(server_of: Callable[..., Server]) -> None:
    """Rates within 10 %: the windows of 10 s hold ten scrapes, whose times jitter."""
    with exporting() as exporter:
        server = server_of(f"127.0.0.1:{exporter.server_port}")
        server.start()
        pools = [{"pool": "h100"}, {"pool": "a100"}]
        source = source_of(MetricsConfig(url=server.url, window_s=10.0, timeout_s=10.0, pools=pools), SLO, 2)
        seen = Reading(0.0)

        def settled() -> bool:
            nonlocal seen
            seen = reading(source) or seen
            return abs(seen.arrival_per_s - PER_S) < 0.1 * PER_S

        until(settled)
        assert time.time() - seen.taken_s < 5.0
        assert (seen.waiting, seen.running) == (3.0, 12.0)
        assert seen.memory == pytest.approx((0.5, 0.3))
        assert seen.running_by_pool == (8.0, 4.0)
        assert seen.dropped_per_s == pytest.approx(0.1 * PER_S, rel=0.15)
        assert seen.ttft_s == pytest.approx(0.7, rel=0.02)
        assert seen.tpot_s == pytest.approx(0.03, rel=0.02)
        assert seen.ttft_p90_s == pytest.approx(1.0 + 1.5 * 10 / 15, rel=0.05)
        assert seen.tpot_p90_s == pytest.approx(0.025 * (1.0 + 40 / 42), rel=0.05)
        assert (seen.prompt_tokens, seen.answer_tokens) == (pytest.approx(1000.0), pytest.approx(200.0))
        assert seen.attainment == pytest.approx((0.8 + 0.92 - 1.0) / 1.1, abs=0.03)  # a tenth more were dropped

        server.stop()
        with pytest.raises(MetricsError, match="connection refused"):
            source.read()
        server.start()
        until(lambda: (found := reading(source)) is not None and found.taken_s > seen.taken_s + 1.0)

    last = reading(source)
    assert last is not None
    until(lambda: (found := reading(source)) is not None and math.isnan(found.running))
    gone = source.read()
    assert abs(gone.taken_s - last.taken_s) < 5.0  # and stays there, so that its age grows
    assert math.isnan(gone.arrival_per_s)
    source.close()


def test_every_template_is_promql(server_of: Callable[..., Server]) -> None:
    server = server_of()
    server.start()
    for name in names():
        with pytest.raises(MetricsError, match="no series of"):
            source_of(MetricsConfig(url=server.url, template=name, labels={"a": 'b"\\'}), SLO, 1).read()
    bad = source_of(MetricsConfig(url=server.url, queries={"running": "sum(oops"}), SLO, 1)
    with pytest.raises(MetricsError, match=r"metrics\.queries\.running: .*bad_data"):
        bad.read()


@pytest.mark.timeout(600)
def test_a_simulated_service_is_found_again(
    server_of: Callable[..., Server], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    """Eight hours, four replicas, half an hour without samples, seed 0. Arrivals within 2 %, the base of the law within
    10 %, the capacity of a replica within 15 % of the truth."""
    monkeypatch.chdir(tmp_path)
    Path("toy.yaml").write_text(TOY)
    truth = load_scenario("toy.yaml")
    exported = simulate(truth, truth.sample_load("train", 0), 4)
    end_s = time.time() // 3600.0 * 3600.0 - 7200.0
    begin_s = end_s - exported.times_s[-1]
    keep = (exported.times_s < 7200.0) | (exported.times_s > 9000.0)
    with Path("om.txt").open("w") as file:
        file.writelines(openmetrics(exported, begin_s, keep))
    subprocess.run([str(TOOL), "tsdb", "create-blocks-from", "openmetrics", "om.txt", "data"], check=True,
                   capture_output=True)  # fmt: skip
    server = server_of()
    server.start()
    end = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(end_s))
    command = ["calibrate", "--prometheus", server.url, "--range", "8h", "--end", end, "--labels", "model_name=toy",
               "--scalers", "headroom,fixed", "--budget", "1", "--workers", "1", "--draws", "20",
               "--out", "out"]  # fmt: skip
    assert main(command) == 0

    told = json.loads(Path("out/results.json").read_text())
    assert told["step_s"] == 60.0
    assert [gap["start_s"] - begin_s for gap in told["gaps"]] == [pytest.approx(7200.0, abs=61.0)]
    assert told["missing_cells"] == pytest.approx(30, abs=3)
    rows = np.genfromtxt("out/trace.csv", delimiter=",", skip_header=1, usecols=(1, 2))
    there = rows[:, 1] == 0
    at = exported.times_s.searchsorted(60.0 * np.arange(len(rows) + 1))
    true = np.diff(exported.arrived[at]) / 60.0
    assert rows[there, 0].sum() == pytest.approx(true[there].sum(), rel=0.02)
    assert np.median(np.abs(rows[there, 0] / true[there] - 1.0)) < 0.05

    law = service_profile("h100-8b").law
    assert told["profile"]["law"]["c0_s"] == pytest.approx(law.c0_s, rel=0.10)
    assert "c3_s" in told["profile"]["left_out"]
    assert told["scenario"]["capacity_per_s"] == pytest.approx(float(truth.limits.capacity_per_s[0]), rel=0.15)
    assert {one["scaler"] for one in told["options"]} == {"headroom", "fixed"}
    assert main(["scenarios", "check", "out/scenario.yaml"]) == 0
    assert "marked `missing`" in capsys.readouterr().out


TOY = """
summary: a toy service, eight hours of a day
slo: {ttft_s: 1.0, ttft_tokens_per_s: 5000, tpot_s: 0.05, attainment: 0.99}
pools:
  - {name: h100, node: h100-x1, profile: h100-8b, min_replicas: 1, max_replicas: 8}
workload: {kind: diurnal, profile: office-chat, rate_per_s: 40.0, tokens: chat, noise_sigma: 0.2}
horizon_s: 28800.0
"""
