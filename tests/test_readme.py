"""The README is true: its examples run, its commands exist, its tree is the tree, its numbers have a file."""

from __future__ import annotations

import argparse
import importlib
import re
import shlex
from pathlib import Path

import pytest
from readme_tree import with_features, with_tree

from experiments import __main__ as cli

ROOT = Path(__file__).resolve().parent.parent
README = (ROOT / "README.md").read_text()


def blocks(language: str) -> list[str]:
    """Fenced blocks of one language."""
    return re.findall(rf"```{language}\n(.*?)```", README, flags=re.DOTALL)


def commands() -> list[str]:
    """Every `python -m experiments ...` line of the README and the architecture page."""
    found = []
    for text in (README, (ROOT / "ARCHITECTURE.md").read_text()):
        found += re.findall(r"python -m experiments [^`\n|]*", text)
    return found


@pytest.mark.parametrize("number", range(len(blocks("python"))))
def test_python_examples_run(number: int, capsys: pytest.CaptureFixture[str]) -> None:
    exec(compile(blocks("python")[number], f"README example {number}", "exec"), {"__name__": "readme"})  # noqa: S102
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize("line", commands())
def test_commands_exist_and_take_these_arguments(line: str) -> None:
    words = shlex.split(line.split("#")[0])[3:]
    if not words or words[0].startswith("-") or words[0] in ("...", "COMMAND"):
        return
    assert words[0] in cli.available(), f"unknown command in the README: {line}"
    parser = argparse.ArgumentParser(prog=words[0], exit_on_error=False)
    importlib.import_module(cli.COMMANDS[words[0]][0]).add_arguments(parser)
    if words[1:]:
        parser.parse_args(words[1:])


def test_make_targets_named_in_the_readme_exist() -> None:
    makefile = (ROOT / "Makefile").read_text()
    for target in set(re.findall(r"`make ([a-z-]+)`", README)) | {"demo", "test"}:
        assert re.search(rf"^{target}:", makefile, flags=re.MULTILINE), f"make {target} is in the README only"


def test_the_tree_names_every_file_with_its_first_sentence() -> None:
    assert with_tree(README) == README, "run `python tests/readme_tree.py`"


def test_the_architecture_lists_every_feature_with_unit_and_range() -> None:
    text = (ROOT / "ARCHITECTURE.md").read_text()
    assert with_features(text) == text, "run `python tests/readme_tree.py`"


def test_results_named_in_the_readme_exist() -> None:
    for name in set(re.findall(r"\]\((results/[^)#]+)\)", README)):
        assert (ROOT / name).exists(), f"{name} is linked in the README but missing"
