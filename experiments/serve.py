"""Run a scaler on a real service: metrics in, orders out, shields in between, everything in an audit log.

`--check` builds all that live.yaml names, looks at metrics and fleet once, orders nothing, and ends. SIGHUP reads
live.yaml anew, SIGTERM ends the service and leaves the fleet as it is.
"""

from __future__ import annotations

import argparse
import logging
from pathlib import Path

from experiments.serve_check import looked
from experiments.serve_limits import known_of
from rlscale.deploy.assemble import Plan, assemble, relative_to
from rlscale.deploy.clock import SystemClock
from rlscale.deploy.config import ScalerConfig, load_config
from rlscale.deploy.service import Service, to_stderr


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Arguments of `python -m experiments serve`."""
    parser.add_argument("--config", type=Path, required=True, help="live.yaml")
    parser.add_argument("--scaler", help="instead of the file's: hpa, policy:FOLDER, module:Class")
    parser.add_argument("--dry-run", action="store_true", help="order nothing: watch the backend's fleet")
    parser.add_argument("--check", action="store_true", help="build everything, look once, order nothing, end")
    parser.add_argument("--no-pages", action="store_true", help="no health, metrics and state over HTTP")
    parser.add_argument("--quiet", action="store_true", help="log warnings and errors only")


def run(args: argparse.Namespace) -> int:
    """Serve until told to end."""
    to_stderr(logging.WARNING if args.quiet else logging.INFO)
    plan = plan_of(args)
    live = assemble(plan, SystemClock())
    if args.check:
        try:
            lines = [] if live.asked else looked(live, str(args.config))
        finally:
            live.close()
        print(*lines, sep="\n", end="\n" if lines else "")
        print(f"{args.config}: {live.service} by {live.current.name}, every {plan.interval_s:g} s: all there")
        return 0
    service = Service(live, plan, lambda: plan_of(args), not args.no_pages)
    where = "" if service.server is None else f", pages at http://{plan.config.pages.address}:{service.server.port}/"
    logging.getLogger("rlscale.live").info("%s by %s, every %g s%s", live.service, live.current.name,
                                           plan.interval_s, where)  # fmt: skip
    service.run()
    return 0


def plan_of(args: argparse.Namespace) -> Plan:
    """The configuration as the command line changes it, and what its scenario gives."""
    path: Path = args.config
    config = relative_to(load_config(path), path.parent)
    if args.scaler is not None:
        config = config.model_copy(update={"scaler": ScalerConfig(name=args.scaler)})
    if args.dry_run:
        config = config.model_copy(update={"backend": {"kind": "dry-run", "watch": config.backend}})
    return Plan(config, *known_of(config, path), str(path), path.read_text())
