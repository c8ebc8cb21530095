"""How far the engines can be trusted, rung by rung of the ladder, and one report of all."""

from __future__ import annotations

import argparse
import os
from collections.abc import Callable
from pathlib import Path

from experiments.fidelity_page import finished, write_page
from rlscale.errors import ResultError, RlscaleError

OUT, CACHE, TABLES = Path("results/fidelity"), Path(".cache/oracle"), Path("../shared/profiles")
FIT = "fit"
RANKED = (
    "fixed", "scheduled", "headroom", "headroom-held", "holt", "smoothing", "autopilot", "square-root", "token-backlog",
    "threshold", "hpa", "keda", "knative", "ray-serve", "aibrix-apa", "aws-target-tracking", "llmd-v2",
)  # fmt: skip


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Arguments of `python -m experiments fidelity`."""
    parser.add_argument("what", nargs="?", choices=(*PARTS, FIT), metavar="PART",
                        help=f"one of {', '.join(PARTS)}: that comparison, and the report anew; fit: constants of the "
                             "fluid; default: every comparison that is missing in --out")  # fmt: skip
    parser.add_argument("--out", type=Path, default=OUT, help="a folder per comparison and the report (%(default)s)")
    parser.add_argument("--workers", type=int, default=os.cpu_count() or 1, help="processes (default: one per core)")
    parser.add_argument(
        "--cache", type=Path, default=CACHE, help="of steady, step, fit: the oracle's cells (%(default)s)"
    )
    parser.add_argument("--profiles", type=Path, default=TABLES, help="of hardware: measured tables (%(default)s)")
    parser.add_argument("--scenarios", nargs="+", metavar="NAME", help="of ranking; default: all the engine can run")
    parser.add_argument("--scalers", nargs="+", metavar="NAME", default=list(RANKED),
                        help=f"of ranking; default {len(RANKED)} rules")  # fmt: skip
    parser.add_argument("--seeds", type=int, default=2, help="of ranking: test loads per scenario (default 2)")
    parser.add_argument("--resume", action="store_true", help="of ranking: go on with an interrupted one")


def run(args: argparse.Namespace) -> int:
    """The comparisons asked for, then the report."""
    if args.what == FIT:
        from experiments import fidelity_fit, fidelity_steady

        fidelity_steady.oracle(args.cache, args.workers)
        fidelity_fit.run(args.cache, args.workers)
        return 0
    if args.what is not None:
        if finished(args.out / args.what):
            raise ResultError(f"{args.out / args.what} holds a finished comparison; move it or give another --out, "
                              "nothing is overwritten")  # fmt: skip
        PARTS[args.what](args)
        left_out: dict[str, str] = {}
    else:
        left_out = _all_missing(args)
    print(f"report: {write_page(args.out, left_out)}")
    return 0


def _all_missing(args: argparse.Namespace) -> dict[str, str]:
    """Run what is not there yet; returns what could not be run, and why."""
    left_out = {}
    for name, part in PARTS.items():
        if finished(args.out / name):
            continue
        print(f"--- {name}", flush=True)
        try:
            part(args)
        except RlscaleError as error:
            print(f"left out: {error}", flush=True)
            left_out[name] = str(error)
    return left_out


def _theory(args: argparse.Namespace) -> None:
    from experiments import fidelity_theory

    fidelity_theory.run(args.out / "theory")


def _hardware(args: argparse.Namespace) -> None:
    from experiments import fidelity_hardware

    fidelity_hardware.run(args.profiles, args.out / "hardware")


def _steady(args: argparse.Namespace) -> None:
    from experiments import fidelity_steady

    fidelity_steady.oracle(args.cache, args.workers)
    fidelity_steady.judge(args.cache, args.out / "steady")


def _step(args: argparse.Namespace) -> None:
    from experiments import fidelity_step

    args.cache.mkdir(parents=True, exist_ok=True)
    fidelity_step.run(args.cache, args.out / "step", args.workers)


def _fleet(args: argparse.Namespace) -> None:
    from experiments import fidelity_fleet

    fidelity_fleet.run(args.out / "fleet", args.workers)


def _roles(args: argparse.Namespace) -> None:
    from experiments import fidelity_roles

    fidelity_roles.run(args.out / "roles")


def _grid(args: argparse.Namespace) -> None:
    from experiments import fidelity_grid

    fidelity_grid.run(args.out / "grid", args.workers)


def _ranking(args: argparse.Namespace) -> None:
    from experiments import fidelity_ranking

    fidelity_ranking.run(args)


# In the order of the ladder.
PARTS: dict[str, Callable[[argparse.Namespace], None]] = {
    "theory": _theory, "hardware": _hardware, "steady": _steady, "step": _step, "fleet": _fleet, "roles": _roles,
    "grid": _grid, "ranking": _ranking,
}  # fmt: skip
