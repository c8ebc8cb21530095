"""How far the engines can be trusted, rung by rung of the ladder. One sub-command per comparison; names them only."""

from __future__ import annotations

import argparse
import os
from pathlib import Path

CACHE, TABLES = Path(".cache/oracle"), Path("../shared/profiles")
# Comparison -> its folder of results and what it is, in the order of the ladder.
PARTS = {
    "hardware": ("fidelity_hardware", "iteration law against measured GPUs: TTFT and TPOT of published tables"),
    "oracle": ("", "simulate every request of constant fleets, for judge and fit (minutes, resumable)"),
    "judge": ("fidelity", "fluid against oracle: constant fleets by load, burstiness, fleet, profile and sub-step"),
    "fit": ("", "find the constants of the fluid on half of those cells"),
    "step": ("fidelity_step", "fluid against oracle: a load step that waits for its replicas"),
    "fleet": ("fidelity_fleet", "fluid against oracle: replicas that drain, fail and differ"),
    "roles": ("fidelity_roles", "fluid against request engine: prefill and decode pools"),
    "grid": ("fidelity_grid", "fluid against request engine: load, burstiness, fleet and start-up under an autoscaler"),
    "ranking": ("fidelity_ranking", "fluid against request engine: do they put scalers in the same order"),
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Arguments of `python -m experiments fidelity`."""
    parts = parser.add_subparsers(dest="what", required=True, metavar="PART")
    for name, (folder, summary) in PARTS.items():
        part = parts.add_parser(name, help=summary, description=summary)
        if name == "hardware":
            part.add_argument("--profiles", type=Path, default=TABLES, help=f"folder of the tables (default {TABLES})")
        part.add_argument("--workers", type=int, default=os.cpu_count() or 1, help="processes (default: one per core)")
        if name in ("oracle", "judge", "fit", "step"):
            part.add_argument("--cache", type=Path, default=CACHE, help=f"the oracle's cells (default {CACHE})")
        if folder:
            part.add_argument("--out", type=Path, default=Path("results") / folder, help="default: %(default)s")
        if name == "ranking":
            from experiments import fidelity_ranking

            fidelity_ranking.add_arguments(part)


def run(args: argparse.Namespace) -> int:
    """One comparison."""
    if args.what in ("oracle", "judge", "fit"):
        _constant(args)
    elif args.what == "hardware":
        from experiments import fidelity_hardware

        fidelity_hardware.run(args.profiles, args.out)
    elif args.what == "step":
        from experiments import fidelity_step

        args.cache.mkdir(parents=True, exist_ok=True)
        fidelity_step.run(args.cache, args.out, args.workers)
    elif args.what == "fleet":
        from experiments import fidelity_fleet

        fidelity_fleet.run(args.out, args.workers)
    elif args.what == "roles":
        from experiments import fidelity_roles

        fidelity_roles.run(args.out)
    elif args.what == "grid":
        from experiments import fidelity_grid

        fidelity_grid.run(args.out, args.workers)
    else:
        from experiments import fidelity_ranking

        fidelity_ranking.run(args)
    return 0


def _constant(args: argparse.Namespace) -> None:
    from experiments import fidelity_fit, fidelity_steady

    if args.what == "oracle":
        fidelity_steady.oracle(args.cache, args.workers)
        return
    fidelity_steady.complete(args.cache)
    if args.what == "fit":
        fidelity_fit.run(args.cache, args.workers)
    else:
        fidelity_steady.judge(args.cache, args.out)
