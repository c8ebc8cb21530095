"""The command line: light until a command is used, one line for every error, the right exit code."""

from __future__ import annotations

import argparse
import errno
import importlib
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import pytest

from experiments import __main__ as cli
from rlscale.errors import ScenarioError

HEAVY = {"torch", "numba", "stable_baselines3", "gymnasium", "wandb", "matplotlib", "scipy", "pyarrow", "pydantic"}


@pytest.fixture
def command(monkeypatch: pytest.MonkeyPatch) -> Callable[[Callable[[], int]], None]:
    """Put a command called `probe` on the table that does what the test says."""

    def install(act: Callable[[], int]) -> None:
        module = ModuleType("probe_command")
        module.add_arguments = lambda parser: parser.add_argument("--size", type=int)  # type: ignore[attr-defined]
        module.run = lambda args: act()  # type: ignore[attr-defined]
        module.__spec__ = importlib.machinery.ModuleSpec("probe_command", None)
        monkeypatch.setitem(sys.modules, "probe_command", module)
        monkeypatch.setitem(cli.COMMANDS, "probe", ("probe_command", "does what the test says"))

    return install


def raising(error: BaseException) -> Callable[[], int]:
    def act() -> int:
        raise error

    return act


def python(*arguments: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, *arguments], cwd=cwd, capture_output=True, text=True, check=False)


@pytest.mark.parametrize("argv", [["--help"], ["--version"], ["no-such-command"]])
def test_help_version_and_a_typo_load_no_heavy_library(repo_root: Path, argv: list[str]) -> None:
    code = (
        "import sys; from experiments.__main__ import main\n"
        f"try: main({argv!r})\n"
        "except SystemExit: pass\n"
        f"print('loaded:', sorted({HEAVY!r} & sys.modules.keys()))"
    )
    assert python("-c", code, cwd=repo_root).stdout.splitlines()[-1] == "loaded: []"


def test_help_lists_every_command_that_is_there_and_no_other(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stop:
        cli.main(["--help"])
    listed = {
        line.split()[0] for line in capsys.readouterr().out.splitlines() if line.startswith("  ") and line.split()
    }
    assert stop.value.code == 0
    assert cli.available().keys() <= listed
    assert not (cli.COMMANDS.keys() - cli.available().keys()) & listed


def test_a_command_without_its_module_is_unknown(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(cli.COMMANDS, "later", ("experiments.no_such_module", "not written yet"))
    assert "later" not in cli.available()
    assert cli.main(["later"]) == 2
    assert "unknown command 'later'" in capsys.readouterr().err


def test_every_command_reads_its_arguments_and_its_example() -> None:
    for name in cli.available():
        module = importlib.import_module(cli.COMMANDS[name][0])
        parser = argparse.ArgumentParser(prog=name, exit_on_error=False)
        module.add_arguments(parser)
        assert callable(module.run), name
        if name in cli.EXAMPLES:
            given, *rest = cli.EXAMPLES[name].split()
            assert given == name
            parser.parse_args(rest)


def test_without_a_command_the_help_is_shown_and_the_exit_code_says_so(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main([]) == 2
    assert "commands:" in capsys.readouterr().out


def test_an_unknown_command_names_the_nearest_one(
    command: Callable[[Callable[[], int]], None], capsys: pytest.CaptureFixture[str]
) -> None:
    command(lambda: 0)
    assert cli.main(["prob"]) == 2
    assert "unknown command 'prob'; did you mean 'probe'?" in capsys.readouterr().err


def test_the_exit_code_of_a_command_is_passed_on(command: Callable[[Callable[[], int]], None]) -> None:
    command(lambda: 3)
    assert cli.main(["probe", "--size", "4"]) == 3


@pytest.mark.parametrize(
    ("error", "line", "code"),
    [
        (ScenarioError("min 3 is above max 2;\n  swap them"), "error: min 3 is above max 2; swap them\n", 2),
        (KeyboardInterrupt(), "interrupted\n", 130),
        (FileNotFoundError(errno.ENOENT, "No such file or directory", "a.csv"), "error: No such file or directory", 2),
        (OSError(errno.ENOSPC, "No space left on device", "out.csv"), "error: no space left for writing 'out.csv'", 2),
        (OSError(errno.ENOSPC, "No space left on device"), "error: no space left for writing; make room", 2),
    ],
)
def test_what_the_user_can_mend_is_one_line_without_a_traceback(
    command: Callable[[Callable[[], int]], None],
    capsys: pytest.CaptureFixture[str],
    error: BaseException,
    line: str,
    code: int,
) -> None:
    command(raising(error))
    assert cli.main(["probe"]) == code
    err = capsys.readouterr().err
    assert err.startswith(line)
    assert err.count("\n") == 1


@pytest.mark.parametrize("argv", [["--debug", "probe"], ["probe", "--debug"]])
def test_debug_shows_the_traceback_and_keeps_the_exit_code(
    command: Callable[[Callable[[], int]], None], capsys: pytest.CaptureFixture[str], argv: list[str]
) -> None:
    command(raising(ScenarioError("no such pool")))
    assert cli.main(argv) == 2
    err = capsys.readouterr().err
    assert "Traceback" in err
    assert err.endswith("error: no such pool\n")


def test_a_package_that_is_not_installed_is_named(
    command: Callable[[Callable[[], int]], None], capsys: pytest.CaptureFixture[str]
) -> None:
    command(raising(ModuleNotFoundError("No module named 'gymnasium.spaces'", name="gymnasium.spaces")))
    assert cli.main(["probe"]) == 2
    err = capsys.readouterr().err
    assert " probe` needs the package gymnasium, which is not installed here; `pip install rlscale` brings it" in err
    assert err.count("\n") == 1
    command(raising(ModuleNotFoundError("No module named 'rlscale.lop'", name="rlscale.lop")))
    with pytest.raises(ModuleNotFoundError):
        cli.main(["probe"])


def test_a_programming_error_is_not_dressed_up(command: Callable[[Callable[[], int]], None]) -> None:
    command(raising(ZeroDivisionError("a bug")))
    with pytest.raises(ZeroDivisionError):
        cli.main(["probe"])


def test_a_reader_that_goes_away_is_no_error(repo_root: Path) -> None:
    code = (
        "import os, sys, types, importlib.machinery as m; from experiments import __main__ as cli\n"
        "p = types.ModuleType('p'); p.__spec__ = m.ModuleSpec('p', None); sys.modules['p'] = p\n"
        "p.add_arguments = lambda parser: None\n"
        "p.run = lambda args: [print('line') for _ in range(100_000)] and 0\n"
        "cli.COMMANDS['p'] = ('p', '')\n"
        "read, write = os.pipe(); os.close(read); os.dup2(write, 1)\n"
        "sys.exit(cli.main(['p']))"
    )
    done = python("-c", code, cwd=repo_root)
    assert (done.returncode, done.stderr) == (0, "")


def test_a_command_runs_with_one_thread_per_process_unless_told_otherwise(
    command: Callable[[Callable[[], int]], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "3")
    monkeypatch.delenv("OPENBLAS_NUM_THREADS", raising=False)
    monkeypatch.setenv("MKL_NUM_THREADS", "1")
    command(lambda: 0)
    assert cli.main(["probe"]) == 0
    assert (os.environ["OMP_NUM_THREADS"], os.environ["OPENBLAS_NUM_THREADS"]) == ("3", "1")


def test_the_module_can_be_run_and_says_its_version(repo_root: Path) -> None:
    done = python("-m", "experiments", "--version", cwd=repo_root)
    assert done.returncode == 0
    assert done.stdout.startswith("rlscale ")
