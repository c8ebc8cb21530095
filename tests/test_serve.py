"""`python -m experiments serve` as a process: started, asked, told to read anew, ended, killed at any moment."""

from __future__ import annotations

import random
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import requests
from recorded import saved, steady_network

from experiments.__main__ import main
from rlscale.actions import Headroom
from rlscale.deploy.audit import records

pytest.importorskip("prometheus_client", reason="needs prometheus-client")
pytest.importorskip("waitress", reason="needs waitress")
pytestmark = pytest.mark.e2e

ROOT = Path(__file__).resolve().parent.parent
CONFIG = """\
service: chat
scenario: chat
scaler: {name: headroom, parameters: {headroom: 1.3}}
shadow: {name: smoothing}
interval_s: 0.2
backend: {kind: dry-run, replicas: [5]}
audit: {path: log/audit.jsonl}
pages: {port: 0}
"""
DEADLINE_S = 90.0
DRY = "{kind: dry-run, replicas: [5]}"
KUBERNETES = "{kind: kubernetes, namespace: llm, targets: [{name: chat}], access: {server: 'URLS'}}"
PROMETHEUS = "metrics: {kind: prometheus, url: URL, template: vllm}"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "live.yaml").write_text(CONFIG)
    return tmp_path


class Served:
    """A serving process, its pages and its log."""

    def __init__(self, folder: Path, *arguments: str) -> None:
        self.folder = folder
        command = [sys.executable, "-m", "experiments", "serve", "--config", str(folder / "live.yaml"), *arguments]
        self.log = (folder / "stderr.txt").open("w+")
        self.process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.DEVNULL, stderr=self.log)

    def text(self) -> str:
        return (self.folder / "stderr.txt").read_text()

    def decisions(self) -> list[dict[str, Any]]:
        return [record for record in records(self.folder / "log" / "audit.jsonl") if record["kind"] == "decision"]

    def url(self) -> str:
        until(lambda: "pages at" in self.text() or self.process.poll() is not None)
        found = re.search(r"pages at (http://[^ ]*)/", self.text())
        assert found, self.text()
        return found.group(1)

    def end(self, number: int = signal.SIGTERM) -> int:
        self.process.send_signal(number)
        return self.process.wait(DEADLINE_S)


def until(true: Callable[[], Any]) -> Any:
    """Wait for something that takes its time; fail at the deadline."""
    end_s = time.monotonic() + DEADLINE_S
    while time.monotonic() < end_s:
        found = true()
        if found:
            return found
        time.sleep(0.02)
    raise AssertionError(f"not within {DEADLINE_S:g} s")


@pytest.fixture
def serve(folder: Path) -> Iterator[Callable[..., Served]]:
    started: list[Served] = []

    def start(*arguments: str) -> Served:
        started.append(Served(folder, *arguments))
        return started[-1]

    yield start
    for served in started:
        served.process.kill()
        served.process.wait()
        served.log.close()


def test_it_serves_reads_anew_and_ends(serve: Callable[..., Served], folder: Path) -> None:
    served = serve()
    url = served.url()
    until(lambda: len(served.decisions()) >= 3)
    assert requests.get(f"{url}/healthz", timeout=10).status_code == 200
    state = requests.get(f"{url}/state", timeout=10).json()
    assert state["scaler"] == "headroom" and state["target"] == [5] and "held" in state["reason"]
    assert 'rlscale_leader{service="chat"} 1.0' in requests.get(f"{url}/metrics", timeout=10).text

    (folder / "live.yaml").write_text(CONFIG.replace("name: headroom", "name: headroom-held"))
    served.process.send_signal(signal.SIGHUP)
    until(lambda: served.decisions()[-1]["scaler"] == "headroom-held")

    for broken, said in [("nonsense: 1\n", "unknown key 'nonsense'"), ("interval_s: 3\n", "interval_s cannot change")]:
        text = CONFIG.replace("interval_s: 0.2\n", "") if "interval" in broken else CONFIG
        (folder / "live.yaml").write_text(text + broken)
        served.process.send_signal(signal.SIGHUP)
        until(lambda said=said: said in served.text())  # type: ignore[misc]
        turns = len(served.decisions())
        until(lambda turns=turns: len(served.decisions()) > turns)  # type: ignore[misc]
    assert served.decisions()[-1]["scaler"] == "headroom-held"

    assert served.end() == 0
    kinds = [record["kind"] for record in records(folder / "log" / "audit.jsonl")]
    assert kinds[0] == "start" and kinds[-1] == "stop" and kinds.count("reload") == 1
    first = served.decisions()[0]
    assert first["shadow"]["scaler"] == "smoothing" and first["service"] == "chat" and first["outcome"] == "ordered"


def test_killed_at_any_moment_it_goes_on_where_it_was(serve: Callable[..., Served], folder: Path) -> None:
    """Kill -9 three times (seed 0); no line is lost but the one being written, time and targets go on."""
    rng = random.Random(0)
    counts, last_t_s = 0, 0.0
    for _ in range(3):
        served = serve("--no-pages", "--quiet")
        until(lambda served=served, counts=counts: len(served.decisions()) >= counts + 3)  # type: ignore[misc]
        time.sleep(rng.random() * 0.4)
        assert served.end(signal.SIGKILL) == -signal.SIGKILL
        found = served.decisions()
        assert len(found) >= counts + 3
        first = found[counts]
        assert counts == 0 or first["t_s"] > last_t_s, "time went back at a restart"
        assert {tuple(record["target"]) for record in found} == {(5,)}, "without metrics nothing changes"
        counts, last_t_s = len(found), found[-1]["t_s"]


def test_two_instances_of_one_service_are_refused(serve: Callable[..., Served]) -> None:
    first = serve("--no-pages")
    until(lambda: len(first.decisions()) >= 1)
    second = subprocess.run([sys.executable, "-m", "experiments", "serve", "--config", str(first.folder / "live.yaml")],
                            cwd=ROOT, capture_output=True, text=True, timeout=DEADLINE_S, check=False)  # fmt: skip
    assert second.returncode == 2 and "another instance writes it" in second.stderr
    turns = len(first.decisions())
    until(lambda: len(first.decisions()) > turns)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (("scenario: chat", "scenario: chatt"), "did you mean 'chat'"),
        (("name: headroom,", "name: hedroom,"), "did you mean 'headroom'"),
        (("headroom: 1.3", "hedroom: 1.3"), "unexpected keyword argument 'hedroom'"),
        (("kind: dry-run, replicas: [5]", "kind: nothing"), "unknown kind 'nothing'"),
        (("pages: {port: 0}", "pages: {port: 0}\nlimits: x.json"), "either 'scenario' or 'limits', got both"),
        (("smoothing", "policy:none"), "none: no such file or folder"),
    ],
)
def test_what_is_wrong_is_one_line_and_orders_nothing(
    folder: Path, change: tuple[str, str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    (folder / "live.yaml").write_text(CONFIG.replace(*change))
    assert main(["serve", "--config", str(folder / "live.yaml"), "--check"]) == 2
    error = capsys.readouterr().err
    assert said in error and "live.yaml" in error and len(error.splitlines()) == 1, error


def test_check_builds_everything_and_leaves_no_record(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["serve", "--config", str(folder / "live.yaml"), "--check"]) == 0
    assert "chat by headroom, every 0.2 s: all there" in capsys.readouterr().out
    assert (folder / "log" / "audit.jsonl").read_bytes() == b""


@pytest.mark.timeout(60)
@pytest.mark.parametrize(
    ("change", "said"),
    [
        (("pages:", f"{PROMETHEUS}\npages:"), "metrics: Prometheus URL: connection refused"),
        ((DRY, "{kind: rest, url: URL/fleet}"), "fleet: GET URL/fleet: connection refused"),
        ((DRY, KUBERNETES), "fleet: get deployments/scale 'chat' in namespace 'llm', URLS: connection refused"),
    ],
)
def test_addresses_that_cannot_be_reached(
    folder: Path, change: tuple[str, str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """`--check` says so in one line; a service that is started holds, says it once, and goes on."""
    with socket.socket() as taken:  # bound and not listening: refused, and nobody else's
        taken.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{taken.getsockname()[1]}"

        def with_url(text: str) -> str:
            return text.replace("URLS", url.replace("http", "https")).replace("URL", url)

        (folder / "live.yaml").write_text(with_url(CONFIG.replace(*change)))
        assert main(["serve", "--config", str(folder / "live.yaml"), "--check"]) == 2
        error = capsys.readouterr().err
        assert "live.yaml" in error and with_url(said) in error and len(error.splitlines()) == 1, error


def test_metrics_that_cannot_be_read_are_said_once(serve: Callable[..., Served], folder: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        metrics = f"metrics: {{kind: prometheus, url: 'http://127.0.0.1:{taken.getsockname()[1]}', template: vllm}}\n"
        (folder / "live.yaml").write_text(CONFIG + metrics)
        served = serve("--no-pages")
        until(lambda: len(served.decisions()) >= 5)
        assert served.text().count("connection refused") == 1
        assert {tuple(record["target"]) for record in served.decisions()} == {(5,)}
        assert served.end() == 0


def test_without_the_simulator_limits_are_asked_for(
    folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """As in the image, which has no numba."""
    monkeypatch.setattr("experiments.serve_limits.find_spec", lambda name: None)
    assert main(["serve", "--config", str(folder / "live.yaml"), "--check"]) == 2
    error = capsys.readouterr().err
    assert "live.yaml: scenario: the capacity of 'chat' cannot be computed where numba is not installed" in error
    assert "give 'limits', the file that `python -m experiments scenarios limits chat` prints" in error


def test_a_policy_brings_its_own_limits(
    serve: Callable[..., Served], folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Neither scenario nor limits in the file; the process that serves loads no compiler."""
    bare = CONFIG.replace("scenario: chat\n", "").replace("interval_s: 0.2\n", "")
    (folder / "live.yaml").write_text(bare)
    assert main(["serve", "--config", str(folder / "live.yaml"), "--check"]) == 2
    assert "expected either 'scenario' or 'limits', got neither" in capsys.readouterr().err

    path = saved(folder / "policy", steady_network(len(Headroom().levels)), Headroom())
    assert main(["serve", "--config", str(folder / "live.yaml"), "--check", "--scaler", f"policy:{path}"]) == 0
    assert "every 15 s" in capsys.readouterr().out
    served = serve("--scaler", f"policy:{path}", "--no-pages")
    until(lambda: len(served.decisions()) >= 1)
    loaded = Path(f"/proc/{served.process.pid}/maps")
    if loaded.exists():
        assert "numpy" in loaded.read_text() and "llvmlite" not in loaded.read_text()
