"""Speed on this machine: of the simulator, of learning and of decisions. Timings are kept, never judged by tests."""

from __future__ import annotations

import argparse
import os
import platform
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from experiments.results import provenance, write_json
from rlscale.errors import ResultError


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Arguments of `python -m experiments bench`."""
    parser.add_argument("what", choices=["env", "requests", "train", "decide", "serve"])
    parser.add_argument("--scenario", default="chat", help="of `env`: name or file (default chat)")
    parser.add_argument("--trace", help="of `requests`: a recorded load to be played as well")
    parser.add_argument("--quick", action="store_true", help="seconds instead of minutes, too few to be quoted")
    parser.add_argument("--out", type=Path, help="new file (default runs/bench-<what>-<time>.json)")


def run(args: argparse.Namespace) -> int:
    """Measure, print, keep."""
    started = datetime.now(UTC)
    out = args.out or Path("runs") / f"bench-{args.what}-{started:%Y%m%d-%H%M%S}.json"
    if out.exists():
        raise ResultError(f"{out} exists; give another --out, nothing is overwritten")
    load_before = os.getloadavg()
    measured = {"env": _env, "requests": _requests, "train": _train, "decide": _decide, "serve": _serve}
    found = measured[args.what](args, out)
    found["machine"] = machine() | {"load_average": {"before": load_before, "after": os.getloadavg()}}
    found["provenance"] = provenance(started, {"luck": 0})
    out.parent.mkdir(parents=True, exist_ok=True)
    write_json(out, found)
    print(f"kept in {out}")
    return 0


def _env(args: argparse.Namespace, out: Path) -> dict[str, Any]:
    from experiments import _bench_env

    found = _bench_env.measure(args.scenario, args.quick)
    _bench_env.tell(found)
    return found


def _train(args: argparse.Namespace, out: Path) -> dict[str, Any]:
    from experiments import _bench_train

    found = _bench_train.measure(args.quick)
    _bench_train.tell(found)
    out.parent.mkdir(parents=True, exist_ok=True)
    _bench_train.draw(found, out.with_suffix(".svg"))
    return found


def _requests(args: argparse.Namespace, out: Path) -> dict[str, Any]:
    from experiments import _bench_requests

    found = _bench_requests.measure(args.quick, args.trace)
    _bench_requests.tell(found)
    return found


def _decide(args: argparse.Namespace, out: Path) -> dict[str, Any]:
    from experiments import _bench_decide

    found = _bench_decide.measure(args.quick)
    _bench_decide.tell(found)
    return found


def _serve(args: argparse.Namespace, out: Path) -> dict[str, Any]:
    from experiments import _bench_serve

    found = _bench_serve.measure(args.quick)
    _bench_serve.tell(found)
    return found


def machine() -> dict[str, Any]:
    """Processor and cores."""
    model = platform.processor() or platform.machine()
    info = Path("/proc/cpuinfo")
    if info.exists():
        named = [
            line.split(":", 1)[1].strip() for line in info.read_text().splitlines() if line.startswith("model name")
        ]
        model = named[0] if named else model
    return {"cpu": model, "cores": os.cpu_count(), "system": platform.platform()}
