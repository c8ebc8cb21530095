"""What a wheel of the project holds, and whether the pinned versions fit what it asks for."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path
from typing import Any

import pytest
from hatchling.builders.wheel import WheelBuilder
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

PACKAGES = ("rlscale", "envs", "agents", "experiments")


@pytest.fixture(scope="module")
def project(repo_root: Path) -> dict[str, Any]:
    return dict(tomllib.loads((repo_root / "pyproject.toml").read_text())["project"])


@pytest.fixture(scope="module")
def pins(repo_root: Path) -> dict[str, str]:
    lines = (repo_root / "constraints.txt").read_text().splitlines()
    pairs = [line.split("==") for line in lines if line and not line.startswith("#")]
    return {canonicalize_name(name): version for name, version in pairs}


@pytest.fixture(scope="module")
def wheel(repo_root: Path) -> set[str]:
    """Paths inside the wheel, as hatchling would put them there; nothing is built or downloaded."""
    return {file.distribution_path for file in WheelBuilder(str(repo_root)).recurse_included_files()}


@pytest.mark.parametrize("package", PACKAGES)
def test_the_wheel_holds_every_module_and_data_file(repo_root: Path, wheel: set[str], package: str) -> None:
    there = {
        str(path.relative_to(repo_root))
        for pattern in ("*.py", "*.yaml", "*.j2", "py.typed")
        for path in (repo_root / package).rglob(pattern)
    }
    assert there
    assert there <= wheel


def test_the_wheel_holds_the_profiles_and_the_typing_marker(wheel: set[str]) -> None:
    assert {"rlscale/py.typed", "rlscale/sim/profiles/nodes/h100-x1.yaml"} <= wheel
    assert {"envs/__init__.py", "agents/__init__.py", "experiments/__main__.py"} <= wheel


def test_the_wheel_holds_nothing_but_the_four_packages(wheel: set[str]) -> None:
    assert {path.split("/")[0] for path in wheel} == set(PACKAGES)
    assert not [path for path in wheel if "__pycache__" in path]


def test_every_requirement_is_pinned_within_its_bounds(project: dict[str, Any], pins: dict[str, str]) -> None:
    extras = project["optional-dependencies"]
    for line in [*project["dependencies"], *extras["dev"], *extras["data"]]:
        requirement = Requirement(line)
        pinned = pins[canonicalize_name(requirement.name)]
        assert requirement.specifier.contains(pinned), f"constraints.txt has {pinned}, pyproject.toml asks for {line}"


def test_pins_are_exact_and_carry_no_build_of_one_machine(pins: dict[str, str]) -> None:
    assert pins["torch"] == "2.13.0"
    assert not [version for version in pins.values() if not re.fullmatch(r"[0-9][0-9a-z.]*", version)]


def test_the_development_extra_can_read_what_the_data_extra_reads(project: dict[str, Any]) -> None:
    assert set(project["optional-dependencies"]["data"]) <= set(project["optional-dependencies"]["dev"])


def test_the_console_script_starts_the_command_line(project: dict[str, Any]) -> None:
    module, _, function = project["scripts"]["rlscale"].partition(":")
    assert callable(getattr(__import__(module, fromlist=[function]), function))
