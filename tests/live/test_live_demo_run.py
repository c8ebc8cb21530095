"""The live demo for real: processes, HTTP, metrics, kills in the middle, and nothing left behind."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("aiohttp", reason="needs aiohttp: pip install 'rlscale[demo]'")
pytest.importorskip("prometheus_client", reason="needs prometheus-client: pip install 'rlscale[live]'")

from experiments.live_demo import prometheus

pytestmark = [pytest.mark.live, pytest.mark.timeout(560)]  # the simulator may have to be compiled first
MARK = "RLSCALE_LIVE_DEMO_TEST"
ROOT = Path(__file__).resolve().parents[2]
END_S = 30.0


class Demo:
    """The command as a user starts it, in an environment that its processes can be found by."""

    def __init__(self, out: Path) -> None:
        self.out, self.mark = out, f"{os.getpid()}-{time.monotonic_ns()}"
        self.process: subprocess.Popen[str] | None = None

    def start(self, *args: str) -> subprocess.Popen[str]:
        environment = {**os.environ, MARK: self.mark, "PYTHONPATH": str(ROOT)}
        self.process = subprocess.Popen(
            [sys.executable, "-m", "experiments", "live-demo", *args], cwd=ROOT, env=environment, text=True,
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, start_new_session=True,
        )  # fmt: skip
        return self.process

    def says(self, words: str) -> None:
        """Until it has said something."""
        assert self.process is not None and self.process.stdout is not None
        heard = []
        for line in self.process.stdout:
            heard.append(line)
            if words in line:
                return
        raise AssertionError("".join(heard))

    def left(self) -> list[str]:
        """Its processes that are still there."""
        found = []
        for folder in Path("/proc").glob("[0-9]*"):
            try:
                if f"{MARK}={self.mark}".encode() in (folder / "environ").read_bytes().split(b"\0"):
                    found.append((folder / "cmdline").read_text().replace("\0", " "))
            except OSError:
                continue
        return found

    def all_gone(self) -> None:
        """Nothing is left behind, soon."""
        until_s = time.monotonic() + END_S
        while left := self.left():
            assert time.monotonic() < until_s, left
            time.sleep(0.05)


@pytest.fixture
def demo(tmp_path: Path) -> Iterator[Demo]:
    made = Demo(tmp_path / "out")
    yield made
    if made.process is not None:
        if made.process.poll() is None:
            made.process.kill()
        made.process.communicate()
    made.all_gone()


@pytest.mark.parametrize("metrics", ["scrape", "prometheus"])
def test_a_replica_and_the_loop_are_killed_and_everything_goes_on(demo: Demo, metrics: str) -> None:
    if metrics == "prometheus" and prometheus.installed() is None:
        pytest.skip("needs prometheus on the PATH")
    process = demo.start("--scalers", "headroom", "--minutes", "8", "--speed", "8", "--metrics", metrics, "--out",
                         str(demo.out), "--kill", "replica@100,loop@200")  # fmt: skip
    said, _ = process.communicate(timeout=540)
    assert process.returncode == 0, said
    results = json.loads((demo.out / "results.json").read_text())
    [run] = results["runs"]
    [played] = run["played"]
    assert played["plumbing"]["replicas_died"] == 1 and played["plumbing"]["loop_restarts"] == 1
    rows = {row["measure"]: row for row in results["rows"]}
    # What ran on the replica when it died is lost, and nothing else.
    assert rows["attainment"]["live"] > 0.5 and rows["lost"]["live"] < 0.06 * results["live_demo"]["requests"]
    decisions = [json.loads(line) for line in (demo.out / "headroom" / "audit.jsonl").read_text().splitlines()]
    starts = [i for i, record in enumerate(decisions) if record["kind"] == "start"]
    assert len(starts) == 2  # the second one goes on in the same log, with the clock of the first
    times = [record["t_s"] for record in decisions if record["kind"] == "decision"]
    assert times == sorted(times) and times[-1] > 420.0
    assert {record["outcome"] for record in decisions if record["kind"] == "decision"} == {"ordered"}
    assert "<svg" in (demo.out / "report.html").read_text() and (demo.out / "report.md").exists()


def test_ctrl_c_ends_everything(demo: Demo) -> None:
    process = demo.start("--scalers", "hpa", "--minutes", "10", "--speed", "2", "--out", str(demo.out))
    demo.says("hpa: 0:0")
    assert len(demo.left()) > 5
    process.send_signal(signal.SIGINT)
    said, _ = process.communicate(timeout=END_S)
    assert process.returncode == 130 and "interrupted" in said
    demo.all_gone()


def test_nothing_outlives_a_demo_that_was_killed(demo: Demo) -> None:
    process = demo.start("--scalers", "hpa", "--minutes", "10", "--speed", "2", "--out", str(demo.out))
    demo.says("hpa: 0:0")
    process.kill()
    process.communicate(timeout=END_S)
    demo.all_gone()


def test_the_service_alone_serves_and_takes_orders(demo: Demo) -> None:
    from experiments.live_demo.children import bound_socket

    sock = bound_socket("127.0.0.1", 0, listens=False)
    port = sock.getsockname()[1]
    sock.close()
    process = demo.start("--serve-only", "--speed", "10", "--port", str(port))
    demo.says("times as fast")
    fleet = asked(f"http://127.0.0.1:{port + 1}/fleet")
    assert fleet["ready"] == fleet["target"]
    ordered = asked(f"http://127.0.0.1:{port + 1}/fleet", {"target": [fleet["ready"][0] + 1]})
    assert ordered["pending"] == [1]
    until_s = time.monotonic() + 60.0
    while asked(f"http://127.0.0.1:{port + 1}/fleet")["pending"] != [0]:
        assert time.monotonic() < until_s
        time.sleep(0.1)
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=5) as answer:
        page = answer.read().decode()
    assert page.count("vllm:num_requests_running{") == fleet["ready"][0] + 1
    process.send_signal(signal.SIGTERM)
    assert process.communicate(timeout=END_S)[0] == ""  # requests that are under way are no reason to say anything
    assert process.returncode == 0
    demo.all_gone()


def asked(url: str, put: dict[str, Any] | None = None) -> dict[str, Any]:
    body = None if put is None else json.dumps(put).encode()
    request = urllib.request.Request(url, body, method="GET" if put is None else "PUT")
    with urllib.request.urlopen(request, timeout=5) as answer:
        found: dict[str, Any] = json.load(answer)
    return found
