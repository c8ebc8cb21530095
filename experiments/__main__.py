"""The command line, `python -m experiments COMMAND ...`. Knows the names of the commands, not what they do.

A command is a module with `add_arguments(parser)` and `run(args) -> int`. It is imported when it is used, so that
asking for help loads neither torch nor numba.
"""

from __future__ import annotations

import argparse
import errno
import importlib
import os
import sys
import traceback
from collections.abc import Sequence
from importlib import metadata
from importlib.util import find_spec
from pathlib import Path

from rlscale.errors import RlscaleError, nearest

COMMANDS = {
    "demo": ("experiments.demo", "train a small PPO and DQN and compare them with the rules"),
    "compare": ("experiments.compare", "run scenarios x scalers x seeds and write one report"),
    "train": ("experiments.train", "train a scaler and write its policy folder"),
    "export": ("experiments.export", "a trained policy as ONNX, one Python file, a decision tree or a checked folder"),
    "traces": ("experiments.traces", "list, describe or fetch recorded loads"),
    "scenarios": ("experiments.scenarios", "list or check scenarios, or compute their reference cost"),
    "list": ("experiments.list", "what can be named: scenarios, scalers, loads, forecasters"),
    "sanity": ("experiments.sanity_study", "whether learning finds what is known to be best, on two loads"),
    "forecast": ("experiments.forecast", "score the forecasters by a rolling back-test, one lead time ahead"),
    "fidelity": ("experiments.fidelity", "how far the engines can be trusted: against theory, oracle and each other"),
    "calibrate": ("experiments.calibrate", "measured latencies or a request log become a service profile"),
    "report": ("experiments.report", "draw the report of a finished comparison anew from its results.json"),
    "processes": ("experiments.processes", "spot, shortage and start-ups against the statistics they stand for"),
    "tune": ("experiments.tune", "a scaler's settings, found on training loads within a budget"),
    "league": ("experiments.league", "every scaler tuned within one budget, on every scenario and recorded load"),
    "foresight": (
        "experiments.foresight",
        "what was possible on every scenario, and what a plan reaches that knows",
    ),
    "ablation": ("experiments.ablation", "what each part of the cluster does by itself, off and on"),
    "shields": ("experiments.shields", "what shields cost while nothing is wrong, and save when something is"),
    "shadow": ("experiments.shadow", "what a shadow scaler would have done, by an audit log replayed"),
    "textbook": ("experiments.textbook", "monitor, forecast, linear program, balance, recycle on one screen"),
    "serve": ("experiments.serve", "run a scaler on a real service, behind shields"),
    "live-demo": ("experiments.live_demo.command", "a toy service scaled by the live loop, and simulated"),
    "bench": ("experiments.bench", "speed and memory of the simulator on this machine"),
}

EXAMPLES = {
    "demo": "demo",
    "compare": "compare --trace requests.csv --seeds 5 --out results/mine",
    "train": "train --algo ppo --scenario chat --out runs/ppo-chat",
    "export": "export runs/ppo-chat/seed-0 --format python --out runs/exported",
    "traces": "traces describe requests.csv",
    "scenarios": "scenarios check chat",
    "forecast": "forecast --trace requests.csv --out results/my-forecasts",
    "calibrate": "calibrate latencies.csv --out runs/my-profiles",
    "shadow": "shadow audit.jsonl --scenario chat --out results/my-shadow",
    "textbook": "textbook --scenario chat-mixed --hours 2",
    "serve": "serve --scaler policy:runs/ppo-chat/seed-0 --config live.yaml",
    "live-demo": "live-demo --scalers hpa,headroom",
    "bench": "bench env",
}

FAILED, INTERRUPTED = 2, 130
FULL_DISK = (errno.ENOSPC, errno.EDQUOT)
OWN = ("rlscale", "envs", "agents", "experiments")
PLAIN = ("serve",)  # what needs no compiled kernel, and should be small and start at once
ONE_THREAD = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; the exit code is 0, 2 for an error the user can mend, or 130 after Ctrl-C."""
    program = _program()
    parser = _parser(program)
    args = parser.parse_args(argv)
    if args.command is None:
        parser.print_help()
        return FAILED
    if argv is None and args.command in PLAIN:  # in a process of its own: others may have loaded kernels
        os.environ.setdefault("NUMBA_DISABLE_JIT", "1")
    if args.command not in available():
        hint = nearest(args.command, available())
        return _fail(f"error: unknown command '{args.command}'; {hint} ({program} --help)", FAILED)
    return _guarded(args.command, args.rest, f"{program} {args.command}", debug=args.debug or "--debug" in args.rest)


def available() -> dict[str, str]:
    """Names of the commands that are there, with their one-line help."""
    return {name: summary for name, (module, summary) in COMMANDS.items() if find_spec(module) is not None}


def one_thread_per_process() -> None:
    """Keep BLAS and torch to one thread unless the user said otherwise; takes effect before they are imported.

    Small arrays get slower with more threads, and the work is spread over processes instead.
    """
    for name in ONE_THREAD:
        os.environ.setdefault(name, "1")


def _program() -> str:
    called = Path(sys.argv[0]).name
    return "python -m experiments" if called in ("__main__.py", "-m") else called


def _parser(program: str) -> argparse.ArgumentParser:
    commands = available()
    lines = ["commands:", *(f"  {name:<10} {summary}" for name, summary in commands.items())]
    examples = [f"  {program} {EXAMPLES[name]}" for name in commands if name in EXAMPLES]
    lines += ["", "examples:", *examples] if examples else []
    lines += ["", f"`{program} COMMAND --help` lists the options of one command."]
    parser = argparse.ArgumentParser(
        prog=program,
        usage=f"{program} [--help] [--version] [--debug] COMMAND ...",
        description="Compare, train and inspect autoscalers of GPU inference clusters.",
        epilog="\n".join(lines),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"rlscale {_version()}")
    parser.add_argument("--debug", action="store_true", help="show the traceback of an error")
    parser.add_argument("command", nargs="?", help=argparse.SUPPRESS)
    parser.add_argument("rest", nargs=argparse.REMAINDER, help=argparse.SUPPRESS)
    return parser


def _version() -> str:
    try:
        return metadata.version("rlscale")
    except metadata.PackageNotFoundError:
        return "(not installed)"


def _run(name: str, rest: Sequence[str], program: str) -> int:
    one_thread_per_process()
    module = importlib.import_module(COMMANDS[name][0])
    parser = argparse.ArgumentParser(
        prog=program, description=module.__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    module.add_arguments(parser)
    parser.add_argument("--debug", action="store_true", help="show the traceback of an error")
    code = int(module.run(parser.parse_args(rest)))
    sys.stdout.flush()  # a reader that went away is noticed here and not at exit
    return code


def _guarded(name: str, rest: Sequence[str], program: str, *, debug: bool) -> int:
    """Run a command; what the user can mend, and Ctrl-C, become one line."""
    try:
        return _run(name, rest, program)
    except BrokenPipeError:  # the output went into `head`, which has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except ModuleNotFoundError as error:  # an image that serves has a tenth of the packages
        package = (error.name or "").partition(".")[0]
        if not package or package in OWN:
            raise
        if debug:
            traceback.print_exc()
        return _fail(f"error: `{program}` needs the package {package}, which is not installed here; "
                     "`pip install rlscale` brings it", FAILED)  # fmt: skip
    except (KeyboardInterrupt, RlscaleError, OSError) as error:
        if debug:
            traceback.print_exc()
        if isinstance(error, KeyboardInterrupt):
            return _fail(f"interrupted{f'; {error}' if error.args else ''}", INTERRUPTED)
        message = _os_message(error) if isinstance(error, OSError) else str(error)
        return _fail(f"error: {message}", FAILED)


def _os_message(error: OSError) -> str:
    """What the operating system refused, and for a full disk what to do."""
    where = f" '{error.filename}'" if error.filename else ""
    if error.errno in FULL_DISK:
        return f"no space left for writing{where}; make room or choose another --out. Finished results are untouched"
    return f"{error.strerror or error}{where} (--debug shows where it happened)"


def _fail(message: str, code: int) -> int:
    print(" ".join(message.split()), file=sys.stderr)  # one line, whatever the message holds
    return code


if __name__ == "__main__":
    sys.exit(main())
