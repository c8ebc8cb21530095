"""live.yaml: what is wrong is named with line and field, and nothing in it is evaluated."""

from __future__ import annotations

from pathlib import Path

import pytest

from envs import get_scenario
from rlscale.deploy.base import LiveConfigError
from rlscale.deploy.clock import SystemClock
from rlscale.deploy.config import load_config
from rlscale.deploy.dry_run import DryRun
from rlscale.deploy.kinds import Site, build

GOOD = """\
service: chat
scenario: chat
scaler: {name: hpa}
metrics: {kind: none}
backend: {kind: dry-run}
"""


def write(folder: Path, text: str) -> Path:
    path = folder / "live.yaml"
    path.write_text(text)
    return path


def test_a_small_file_is_enough(tmp_path: Path) -> None:
    config = load_config(write(tmp_path, GOOD))
    assert config.fallback.name == "headroom-held" and config.shields.model_dump() and config.pages.port == 9108


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "got None, expected a live configuration in YAML: a mapping"),
        ("service: [", "line 1: not YAML"),
        (GOOD + "bakend: {}\n", r"line 6: unknown key 'bakend'; did you mean 'backend'"),
        (GOOD + "audit: {pth: x}\n", r"line 6: unknown key 'audit.pth'; did you mean 'path'"),
        (GOOD + "interval_s: fast\n", r"line 6: interval_s: got 'fast', expected a valid number"),
        (GOOD + "interval_s: -1\n", "line 6: interval_s: got -1, expected greater than 0"),
        (GOOD + "timezone: Mars/Olympus\n", "unknown time zone 'Mars/Olympus'"),
        (GOOD.replace("service: chat", "service: Chat Service"), "line 1: service: got 'Chat Service'"),
        (GOOD.replace("kind: none", "url: x"), "line 4: metrics: no 'kind'"),
        ("scenario: chat\n", "'service' is missing"),
        (GOOD + "pages: {port: 99999}\n", "line 6: pages.port: got 99999"),
        ("service: !!python/object/apply:os.system ['true']\n", "not YAML"),
    ],
)
def test_faults_are_named_with_line_and_field(tmp_path: Path, text: str, said: str) -> None:
    path = write(tmp_path, text)
    with pytest.raises(LiveConfigError, match=said) as caught:
        load_config(path)
    assert str(path) in str(caught.value)


def test_files_that_are_none_are_refused(tmp_path: Path) -> None:
    with pytest.raises(LiveConfigError, match="cannot be read"):
        load_config(tmp_path / "none.yaml")
    huge = tmp_path / "huge.yaml"
    with huge.open("wb") as file:
        file.truncate(2_000_000)
    with pytest.raises(LiveConfigError, match="2000000 bytes"):
        load_config(huge)


@pytest.fixture(scope="module")
def site() -> Site:
    return Site("chat", get_scenario("chat").limits, 15.0, SystemClock())


@pytest.mark.parametrize(
    ("field", "entry", "said"),
    [
        ("backend", {"kind": "kubernets"}, "did you mean 'kubernetes'"),
        ("backend", {"kind": "dry-run", "replica": [1]}, "unknown key 'backend.replica'; did you mean 'replicas'"),
        ("backend", {"kind": "dry-run", "replicas": [1, 2]}, "2 pools, expected 1"),
        ("backend", {"kind": "dry-run", "watch": {"kind": "nothing"}}, "unknown kind 'nothing'"),
        ("metrics", {"kind": "prometeus"}, "did you mean 'prometheus'"),
        ("leader", {"kind": "raft"}, "unknown kind 'raft'"),
    ],
)
def test_kinds_and_their_options_are_checked(site: Site, field: str, entry: dict[str, object], said: str) -> None:
    with pytest.raises(LiveConfigError, match=said):
        build(field, entry, site, "live.yaml")


def test_an_imagined_fleet_follows_after_its_start() -> None:
    now = [0.0]
    backend = DryRun((2,), 60.0, lambda: now[0])
    backend.order((5,))
    assert backend.fleet().ready == (2,) and backend.fleet().pending == (3,)
    now[0] = 59.0
    backend.order((5,))  # the same order does not begin anew
    now[0] = 60.0
    assert backend.fleet().ready == (5,) and backend.fleet().pending == (0,)
    backend.order((1,))
    assert backend.fleet().ready == (1,), "letting go takes no time"
