"""What serving costs: a process from its start to its first decision, its memory, decisions, and a day of faults.

The process is the one a user starts, with a policy of 64 x 64 units and a limits file. The day runs in this process on
a simulated cluster, as fast as it can.
"""

from __future__ import annotations

import logging
import os
import signal
import subprocess
import sys
import tempfile
import time
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np

from envs import get_scenario
from experiments.simulated_service import Faults, SimulatedService
from rlscale.actions import LEVELS, Headroom
from rlscale.circle import begin
from rlscale.deploy.audit import Audit, records
from rlscale.deploy.exporter import Exporter
from rlscale.deploy.guard import Guarded
from rlscale.deploy.live import Current, Live
from rlscale.deploy.shield_config import ShieldsConfig
from rlscale.deploy.world import LiveWorld, Place
from rlscale.errors import ResultError
from rlscale.features import NAMES
from rlscale.limits_file import limits_text
from rlscale.network import Network
from rlscale.policy_folder import load_policy, save_policy
from rlscale.scalers import build_scaler
from rlscale.scenario import Scenario

HIDDEN = 64
FAULTS = Faults(metrics=0.05, backend=0.02, jump=1.0 / 240)
STARTS, QUICK_STARTS = 5, 1
DEADLINE_S = 60.0
GOAL_MB, GOAL_START_S = 80.0, 2.0
CONFIG = """\
service: chat
limits: limits.json
interval_s: 0.1
scaler: {name: "policy:policy"}
pages: {port: 0}
"""
# Nobody listens there: what counts is what the parts take, not what they are told.
PARTS = {
    "dry-run": "backend: {kind: dry-run}\n",
    "prometheus, keda": "metrics: {kind: prometheus, url: 'http://127.0.0.1:9', template: vllm}\n"
    "backend: {kind: keda, port: 0, fleet_from: assumed, assumed_replicas: [2], assumed_delay_s: 0.0}\n",
}


def measure(quick: bool) -> dict[str, Any]:
    """Everything but the machine."""
    chat = get_scenario("chat")
    logging.getLogger("rlscale").setLevel(logging.CRITICAL)  # of hundreds of faults that are meant
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        _policy(folder / "policy")
        (folder / "limits.json").write_text(limits_text(chat.limits, "chat"))
        common = CONFIG.replace("policy:policy", f"policy:{folder / 'policy'}")
        starts = {}
        for parts, more in PARTS.items():
            if "keda" in parts and find_spec("grpc") is None:
                continue
            (folder / "live.yaml").write_text(common + more)
            starts[parts] = [_started(folder) for _ in range(QUICK_STARTS if quick else STARTS)]
        day = _day(replace(chat, horizon_s=3600.0) if quick else chat, folder)
    return {
        "format": 2,
        "quick": quick,
        "starts": starts,
        "day": day,
        "goals": {"mb": GOAL_MB, "start_s": GOAL_START_S},
    }


def tell(found: dict[str, Any]) -> None:
    """The figures in words."""
    day = found["day"]
    for parts, starts in found["starts"].items():
        seconds, resident = [one["first_decision_s"] for one in starts], [one["resident_mb"] for one in starts]
        print(f"{parts}: first decision {min(seconds):.2f} s after start (median {np.median(seconds):.2f}; goal "
              f"{GOAL_START_S:g}), {max(resident):.0f} MB resident (goal {GOAL_MB:g})")  # fmt: skip
    print(f"{day['hours']:g} simulated hours with faults in {day['wall_s']:.1f} s: {day['decisions']} decisions, "
          f"{day['missed_intervals']} intervals missed, {day['failures']} failures, {day['grown_mb']:.1f} MB grown, "
          f"attainment {day['attainment']:.4f}")  # fmt: skip
    print(f"a decision takes {day['p50_us']:.0f} us, p99 {day['p99_us']:.0f} us, behind all shields")


def _policy(folder: Path) -> None:
    """As large as those that are trained; its weights are random (seed 0)."""
    rng = np.random.default_rng(0)
    sizes = [(len(NAMES), HIDDEN), (HIDDEN, HIDDEN), (HIDDEN, len(LEVELS))]
    tensors: dict[str, Any] = {}
    for i, (low, high) in enumerate(sizes):
        tensors[f"{i}.weight"] = (rng.normal(size=(high, low)) / np.sqrt(low)).astype(np.float32)
        tensors[f"{i}.bias"] = np.zeros(high, np.float32)
    save_policy(folder, Network(tensors, len(NAMES), len(LEVELS)), Headroom(), 1, 15.0, {"algo": "random"})


def _started(folder: Path) -> dict[str, float]:
    """A serving process: seconds to its first decision, memory after twenty of them."""
    log = folder / "audit.jsonl"
    log.unlink(missing_ok=True)
    command = [sys.executable, "-m", "experiments", "serve", "--config", str(folder / "live.yaml"), "--quiet"]
    began_s = time.perf_counter()
    said = folder / "stderr.txt"
    with said.open("w") as errors:
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=errors)
    first_s = 0.0
    try:
        while True:
            decisions = sum(record["kind"] == "decision" for record in records(log))
            if decisions and not first_s:
                first_s = time.perf_counter() - began_s
            if decisions >= 20:
                break
            if process.poll() is not None or time.perf_counter() - began_s > DEADLINE_S:
                last = (said.read_text().splitlines() or ["nothing"])[-1]
                raise ResultError(f"the service made {decisions} decisions within {DEADLINE_S:g} s; it said: {last}")
            time.sleep(0.01)
        return {"first_decision_s": first_s, "resident_mb": _resident_mb(process.pid)}
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(DEADLINE_S)


def _day(chat: Scenario, folder: Path) -> dict[str, float]:
    """A day of faults: decisions, what was missed, and how much the process grew after its first quarter."""
    load = chat.sample_load("test", 0)
    world = SimulatedService(chat, load, 0, FAULTS)
    scaler, fallback = load_policy(folder / "policy", chat.limits), build_scaler("headroom-held", chat.limits)
    decider = Guarded(scaler, fallback, ShieldsConfig(), chat.limits)
    begin(decider, load.history_per_s, load.history_step_s)
    audit = Audit(folder / "day.jsonl")
    place = Place(chat.limits, chat.cluster.interval_s)
    live = Live("chat", LiveWorld(place, world, world, world), Current("policy", decider), audit,
                Exporter("chat", chat.limits), lambda: True)  # fmt: skip
    intervals = int(load.duration_s / chat.cluster.interval_s)
    resident, spent_s = [0.0], []
    keep = live.keep

    def measured(turn: Any) -> None:
        keep(turn)
        spent_s.append(turn.decision_s)
        if live.turned == intervals // 4:
            resident[0] = _resident_mb(os.getpid())

    live.keep = measured  # type: ignore[method-assign]
    began_s = time.perf_counter()
    live.run()
    wall_s = time.perf_counter() - began_s
    grown_mb = _resident_mb(os.getpid()) - resident[0]
    live.close()
    spent_us = 1e6 * np.array(spent_s)
    return {
        "hours": load.duration_s / 3600.0, "wall_s": wall_s, "decisions": live.turned,
        "missed_intervals": intervals - 1 - live.turned + live.world.missed_intervals,
        "failures": sum(record["kind"] == "error" for record in records(folder / "day.jsonl")),
        "grown_mb": grown_mb, "attainment": world.attainment,
        "p50_us": float(np.quantile(spent_us, 0.5)), "p99_us": float(np.quantile(spent_us, 0.99)),
    }  # fmt: skip


def _resident_mb(pid: int) -> float:
    pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 1e6
