"""Every built-in scenario has a card that says what the files say, and every part is used by one."""

from __future__ import annotations

from pathlib import Path

import envs
from envs import scenario_names
from experiments.cards import parts, write_cards
from rlscale.scenario import load_scenario

FOLDER = Path(envs.__file__).parent / "scenarios"
PARTS = {
    "shortage", "spot", "failures", "actuator", "energy", "admission", "node buying law", "start-up in stages",
    "standby", "families", "partitions", "several pools", "sessions", "deferrable", "prefill and decode pools",
}  # fmt: skip


def test_the_cards_are_those_of_the_files() -> None:
    assert (FOLDER / "README.md").read_text() == write_cards(FOLDER), "run `python -m experiments scenarios cards`"


def test_every_scenario_has_its_reference_on_the_card() -> None:
    text = (FOLDER / "README.md").read_text()
    assert len(scenario_names()) >= 16
    for name in scenario_names():
        section = text.split(f"\n## {name}\n")[1].split("\n## ")[0]
        for word in ("**SLO**", "**Pool", "**Load**", "**Need**", "**Reference**", "**One replica** fewer"):
            assert word in section, f"{name} has no {word}"


def test_every_part_is_used_by_a_scenario() -> None:
    used = set()
    for path in FOLDER.glob("*.yaml"):
        used |= set(parts(load_scenario(path, check_reference=False)))
    assert used == PARTS
