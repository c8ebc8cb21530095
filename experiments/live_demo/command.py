"""A toy inference service on this machine, driven by the real live loop; simulated and live results side by side.

Replicas are processes that obey the iteration law. They get recorded requests over HTTP, tell their metrics to a
Prometheus (where one is installed), and the loop of `serve` scales them, all `--speed` times faster than a clock.
"""

from __future__ import annotations

import argparse
import asyncio
import time
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from experiments.live_demo.simulated import perturbed, scenario_file, simulate
from rlscale.errors import ResultError
from rlscale.scenario import Scenario, load_scenario

if TYPE_CHECKING:
    from experiments.live_demo.compared import Pair
    from experiments.live_demo.conductor import Demo
    from rlscale.loop import RunResult

SCALERS = "hpa,headroom"
SPEED = 20.0


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Arguments of `python -m experiments live-demo`."""
    parser.add_argument("--scalers", default=SCALERS,
                        help=f"names or policy:FOLDER, one after the other (default {SCALERS})")  # fmt: skip
    parser.add_argument("--minutes", type=float, help="of load, simulated (default: all of the scenario's)")
    parser.add_argument("--speed", type=float, default=SPEED, help=f"simulated seconds per second (default {SPEED:g})")
    parser.add_argument("--runs", type=int, default=1, help="live runs of every scaler, whose mean is compared")
    parser.add_argument("--seed", type=int, default=0, help="of the requests")
    parser.add_argument("--metrics", choices=("auto", "prometheus", "scrape"), default="auto",
                        help="who reads the replicas' pages; auto: Prometheus if it is installed")  # fmt: skip
    parser.add_argument("--scenario", type=Path, help="a scenario file of your own instead of the demo's")
    parser.add_argument("--kill", default="", help="kill -9 in the middle, such as replica@600,loop@900 (simulated s)")
    parser.add_argument("--out", type=Path, help="new folder (default runs/live-demo-<time>)")
    parser.add_argument("--serve-only", action="store_true", help="only the service under load, until Ctrl-C")
    parser.add_argument("--address", default="127.0.0.1", help="of --serve-only")
    parser.add_argument("--port", type=int, default=8000, help="of --serve-only; the fleet is at the next one")


def run(args: argparse.Namespace) -> int:
    """Simulate, play, compare."""
    began = datetime.now(UTC)
    scenario = _scenario(args)
    demo = _demo(args, scenario)
    if args.serve_only:
        from experiments.live_demo.endless import serve

        asyncio.run(serve(demo, args.address, args.port))
        return 0
    out = args.out or Path("runs") / time.strftime("live-demo-%Y%m%d-%H%M%S")
    if out.exists():
        raise ResultError(f"{out} exists; give another --out, nothing is overwritten")
    names = [name.strip() for name in args.scalers.split(",") if name.strip()]
    if not names or len(set(names)) < len(names):
        raise ResultError(f"--scalers {args.scalers}: expected different names with commas in between")
    if not 1 <= args.runs <= 100:
        raise ResultError(f"--runs {args.runs}; expected 1 to 100")
    minutes = scenario.horizon_s / 60.0
    print(f"{len(demo.recorded.requests)} requests in {minutes:.0f} minutes, {args.speed:g} times as fast; metrics by "
          f"{demo.metrics}", flush=True)  # fmt: skip
    from experiments.live_demo.report import compare

    print("simulating (the first time on a machine, the simulator is compiled: minutes)", flush=True)
    simulated = [simulate(scenario, demo.recorded, name, args.seed, demo.lag_s) for name in names]
    pairs = [_pair(demo, result, out, args) for result in simulated]
    compare(out, demo, pairs, began, args.seed)
    return 0


def _pair(demo: Demo, simulated: RunResult, out: Path, args: argparse.Namespace) -> Pair:
    """The scaler of a simulation live, and simulated again with metrics as far off as they were then."""
    from experiments.live_demo.compared import Pair, told_error
    from experiments.live_demo.conductor import play
    from experiments.live_demo.outcome import live_result

    name, scenario, recorded = simulated.scaler, demo.scenario, demo.recorded
    played = []
    for k in range(1, args.runs + 1):
        ending, words = (f"-{k}", f", run {k} of {args.runs}") if args.runs > 1 else ("", "")
        print(f"{name}, live{words}", flush=True)
        played.append(asyncio.run(play(demo, name, out / f"{_folder(name)}{ending}")))
    off = told_error(played, demo.lag_s, demo.window_s * demo.speed)
    print(f"{name}, simulated with metrics that are {100 * off:.1f} % off", flush=True)
    again = list(perturbed(scenario, recorded, name, demo.lag_s, off))
    live = [live_result(one, recorded, scenario, args.seed) for one in played]
    return Pair(simulated, again, live, played, off)


def _scenario(args: argparse.Namespace) -> Scenario:
    scenario = load_scenario(args.scenario or scenario_file(), check_reference=False)
    if args.minutes is None:
        return scenario
    seconds = scenario.cluster.interval_s * round(60.0 * args.minutes / scenario.cluster.interval_s)
    if not 2 * scenario.cluster.interval_s <= seconds <= scenario.horizon_s:
        most = scenario.horizon_s / 60.0
        raise ResultError(f"--minutes {args.minutes:g}; expected up to {most:g}, those of the scenario")
    return replace(scenario, horizon_s=seconds)


def _demo(args: argparse.Namespace, scenario: Scenario) -> Demo:
    try:
        import aiohttp  # noqa: F401
        import prometheus_client  # noqa: F401
    except ImportError:
        what = "the live demo needs aiohttp and prometheus-client"
        raise ResultError(f"{what}: pip install 'rlscale[live,demo]'") from None
    from experiments.live_demo import prometheus
    from experiments.live_demo.conductor import Demo, Metrics
    from experiments.live_demo.recorded import record

    if not 1.0 <= args.speed <= 200.0:
        raise ResultError(f"--speed {args.speed:g}; expected 1 to 200 simulated seconds per second")
    metrics: Metrics = "prometheus" if prometheus.installed() else "scrape"
    if args.metrics != "auto":
        metrics = args.metrics

    def tell(line: str) -> None:
        print(line, flush=True)

    least = scenario.cluster.pools[0].min_replicas if args.serve_only else None
    return Demo(scenario, record(scenario, args.seed, least), args.speed, metrics, tell, _faults(args.kill))


def _faults(text: str) -> tuple[tuple[float, str], ...]:
    found = []
    for part in filter(None, text.split(",")):
        whom, _, at = part.strip().partition("@")
        try:
            found.append((float(at), whom))
        except ValueError:
            whom = ""
        if whom not in ("replica", "loop"):
            raise ResultError(f"--kill {part}: expected replica@SECONDS or loop@SECONDS")
    return tuple(found)


def _folder(name: str) -> str:
    return "".join(c if c.isalnum() or c in "-_." else "-" for c in name)
