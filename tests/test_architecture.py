"""The direction of imports, the size of files and what the text of the repository may say."""

from __future__ import annotations

import ast
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
PACKAGES = ("rlscale", "envs", "agents", "experiments")

# A module may import from its own level and from below; the longest matching name counts.
LEVELS = {
    "rlscale.types": 1,
    "rlscale.parts": 1,
    "rlscale.errors": 1,
    "rlscale.strict": 1,
    "rlscale.yaml_file": 1,
    "rlscale.artefact": 1,
    "rlscale.limits_file": 2,
    "rlscale.manifest": 2,
    "rlscale.tree": 2,
    "rlscale.monitor": 2,
    "rlscale.forecast_parts": 1,
    "rlscale.forecast_cells": 2,
    "rlscale.forecast_season": 2,
    "rlscale.forecast_kalman": 2,
    "rlscale.forecast_arima": 2,
    "rlscale.forecast_lags": 2,
    "rlscale.forecast_quantile": 2,
    "rlscale.predict": 2,
    "rlscale.predict_seasonal": 2,
    "rlscale.lp": 2,
    "rlscale.decide": 2,
    "rlscale.execute": 2,
    "rlscale.feedback": 2,
    "rlscale.features": 2,
    "rlscale.feature_statistics": 2,
    "rlscale.allocation": 2,
    "rlscale.allocation_lp": 2,
    "rlscale.allocation_plans": 2,
    "rlscale.actions": 2,
    "rlscale.sides": 2,
    "rlscale.turns": 2,
    "rlscale.network": 2,
    "rlscale.registry": 2,
    "rlscale.sim": 2,
    "rlscale.workloads": 2,
    "rlscale.circle": 3,
    "rlscale.loop": 3,
    "rlscale.scalers": 3,
    "rlscale.beginning": 3,
    "rlscale.policy": 3,
    "rlscale.policy_folder": 3,
    "rlscale.policy_onnx": 3,
    "rlscale.policy_tree": 3,
    "rlscale.record": 3,
    "rlscale.scenario": 3,
    "rlscale.scenario_file": 3,
    "rlscale.scenario_pool": 3,
    "rlscale.scenario_roles": 3,
    "rlscale.spot_series": 3,
    "rlscale.optimal": 3,
    "rlscale.constant_fleets": 3,
    "rlscale.clairvoyant": 3,
    "rlscale.deploy": 4,
    "rlscale.autoscaler": 3,
    "rlscale.checks": 4,
    "envs": 4,
    "agents": 4,
    "experiments": 5,
    "tests": 5,
}
SIBLINGS = ("envs", "agents", "rlscale.deploy", "rlscale.checks")  # never import one another

# What a module must not know, at any depth of its code: (module, what, why).
BLIND = [
    ("rlscale", ("torch", "gymnasium", "stable_baselines3"), "a production image holds none of them"),
    ("rlscale.workloads", ("rlscale.sim", "agents"), "loads know neither the cluster nor the scaler"),
    *[
        (f"rlscale.sim.{engine}", ("gymnasium", "rlscale.feedback", "rlscale.monitor", "rlscale.features"),
         "an engine knows physics, not rewards or observations")
        for engine in ("fluid", "naive", "request", "lifecycle", "node", "nodes", "standby", "fleet", "supply", "work",
                       "spread", "power", "partitions")
    ],
    ("agents", ("rlscale.sim", "rlscale.workloads"), "a scaler knows neither the world nor the true future"),
]  # fmt: skip

# (package, what must not be imported when one of its modules is loaded). A scan for scalers loads all of agents/
# but its modules with a leading underscore; a live service loads all of rlscale/.
HEAVY = (
    "torch",
    "stable_baselines3",
    "wandb",
    "matplotlib",
    "ray",
    "grpc",
    "onnx",
    "onnxruntime",
    "kubernetes",
    "pyarrow",
    "pandas",
    "statsmodels",
    "sklearn",
)
LAZY = [
    ("rlscale", (*HEAVY, "gymnasium", "scipy")),
    ("agents", HEAVY),
    ("envs", ("torch", "wandb", "matplotlib")),
    ("experiments", ("torch", "wandb", "stable_baselines3")),
]

MAX_LINES = 320
LONGER = {
    "rlscale/sim/fluid.py": (600, "the kernel is one flat function in commented paragraphs"),
    "rlscale/sim/naive.py": (375, "the oracle is read from top to bottom, all of it"),
    "rlscale/types.py": (470, "every value that travels, on one page"),
}

TEXT = {".py", ".md", ".toml", ".txt", ".yaml", ".yml", ".j2", ".json", ".csv", ".html", ".cfg", ".sh", ""}
FORBIDDEN = {
    "a path of one machine": re.compile(r"(?<![\w.~])/(?:root|work|home|opt|mnt|Users)/\w"),
    "a package index of one machine": re.compile(r"(?:extra-index-url|find-links)\b|artifactory|devpi|pypi\.(?!org)\w"),
}


def modules() -> dict[str, ast.Module]:
    """Dotted name -> syntax tree of every module of the project."""
    paths = sorted(path for package in PACKAGES for path in (ROOT / package).rglob("*.py"))
    return {dotted(path): ast.parse(path.read_text(), str(path)) for path in paths}


def dotted(path: Path) -> str:
    return ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")


def imported(nodes: Iterator[ast.AST]) -> Iterator[str]:
    """Dotted names; `from a import b` yields both a and a.b, since b may be a module."""
    for node in nodes:
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"relative import at line {node.lineno}"
            yield str(node.module)
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def when_loaded(tree: ast.AST) -> Iterator[ast.AST]:
    """Every node outside of functions and of `if TYPE_CHECKING:`."""
    for node in ast.iter_child_nodes(tree):
        type_only = isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test)
        if not type_only and not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            yield node
            yield from when_loaded(node)


def inside(name: str, package: str) -> bool:
    return name == package or name.startswith(package + ".")


def level(name: str) -> int | None:
    owners = [known for known in LEVELS if inside(name, known)]
    return LEVELS[max(owners, key=len)] if owners else None


def upward(name: str, tree: ast.Module) -> list[str]:
    """Imports of `name` that go up, or sideways to a sibling."""
    mine, kin = level(name), [sibling for sibling in SIBLINGS if not inside(name, sibling)]
    is_sibling = len(kin) < len(SIBLINGS)
    return [
        target
        for target in imported(ast.walk(tree))
        if (level(target) or 0) > (mine or 0) or (is_sibling and any(inside(target, other) for other in kin))
    ]


def of(targets: Iterator[str], packages: tuple[str, ...]) -> list[str]:
    return [target for target in targets if any(inside(target, package) for package in packages)]


TREES = modules()


def test_every_module_has_a_place_in_the_table() -> None:
    homeless = [name for name, tree in TREES.items() if level(name) is None and tree.body]
    assert not homeless, f"give {homeless} a level in LEVELS and in ARCHITECTURE.md"


@pytest.mark.parametrize("name", TREES)
def test_imports_go_downward_only(name: str) -> None:
    assert not upward(name, TREES[name]), f"{name} is at level {level(name)}"


@pytest.mark.parametrize(("package", "unknown", "why"), BLIND, ids=[row[0] for row in BLIND])
def test_what_a_module_must_not_know_is_not_imported(package: str, unknown: tuple[str, ...], why: str) -> None:
    for name in (name for name in TREES if inside(name, package)):
        known = of(imported(ast.walk(TREES[name])), unknown)
        assert not known, f"{name} imports {known}; {why}"


@pytest.mark.parametrize(("package", "heavy"), LAZY, ids=[row[0] for row in LAZY])
def test_heavy_libraries_are_imported_where_they_are_used(package: str, heavy: tuple[str, ...]) -> None:
    for name in (name for name in TREES if inside(name, package) and "._" not in name):
        early = of(imported(when_loaded(TREES[name])), heavy)
        assert not early, f"{name} imports {early} when it is loaded; import it in the function that needs it"


@pytest.mark.parametrize(
    ("name", "code"),
    [
        ("rlscale.sim.fluid", "def f():\n    from rlscale import loop"),
        ("rlscale.types", "import rlscale.registry"),
        ("agents.hpa", "import envs"),
        ("envs.single", "from rlscale.checks import check_scaler"),
        ("rlscale.loop", "from experiments.compare import run"),
    ],
)
def test_an_import_in_the_wrong_direction_is_seen(name: str, code: str) -> None:
    assert upward(name, ast.parse(code))


def test_an_early_import_is_told_from_a_late_and_a_typing_one() -> None:
    tree = ast.parse(
        "from typing import TYPE_CHECKING\n"
        "if TYPE_CHECKING:\n    import wandb\n"
        "def f():\n    import ray\n"
        "try:\n    import torch.nn\nexcept ImportError:\n    pass\n"
        "class A:\n    import pandas\n"
    )
    assert of(imported(when_loaded(tree)), HEAVY) == ["torch.nn", "pandas"]


@pytest.mark.parametrize("name", [name for name, tree in TREES.items() if tree.body])
def test_public_modules_classes_and_functions_say_what_they_are(name: str) -> None:
    tree = TREES[name]
    things = [node for node in tree.body if isinstance(node, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef)]
    silent = [thing.name for thing in things if not thing.name.startswith("_") and not ast.get_docstring(thing)]
    assert ast.get_docstring(tree), f"{name} has no docstring"
    assert not silent, f"no docstring: {silent}"


@pytest.mark.parametrize("folder", [*PACKAGES, "tests"])
def test_a_file_holds_one_idea_and_is_short(folder: str) -> None:
    for path in sorted((ROOT / folder).rglob("*.py")):
        name = str(path.relative_to(ROOT))
        limit, _ = LONGER.get(name, (MAX_LINES, ""))
        lines = len(path.read_text().splitlines())
        assert lines <= limit, f"{name} has {lines} lines, the limit is {limit}; split it"


def text_files() -> list[Path]:
    """What git tracks or would track."""
    if shutil.which("git") is None or not (ROOT / ".git").exists():
        pytest.skip("needs a git checkout")
    listed = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT, capture_output=True, text=True, check=True,
    ).stdout.splitlines()  # fmt: skip
    paths = [ROOT / name for name in listed]
    return [path for path in paths if path.is_file() and path.suffix in TEXT]


@pytest.mark.parametrize("what", FORBIDDEN)
def test_no_file_names_the_machine_it_was_written_on(what: str) -> None:
    files = text_files()
    assert ROOT / "pyproject.toml" in files
    for path in files:
        found = FORBIDDEN[what].search(path.read_text(errors="replace"))
        assert not found or path == Path(__file__), f"{path.relative_to(ROOT)} holds {what}: {found.group()!r}"
