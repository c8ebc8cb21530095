"""Hyper-parameter files: parsed, checked, never evaluated."""

from __future__ import annotations

from pathlib import Path

import pytest

from agents._hyperparameters import FOLDER, changes_from, rates, settings_for
from envs import scenario_names
from rlscale.errors import PolicyError


@pytest.mark.parametrize("algo", ["ppo", "dqn"])
def test_every_scenario_has_settings_and_every_entry_a_scenario(algo: str) -> None:
    import yaml

    entries = yaml.safe_load((FOLDER / f"{algo}.yaml").read_text())
    assert set(entries) <= {"default", *scenario_names()}
    for name in scenario_names():
        assert settings_for(algo, name).n_timesteps > 0


def test_a_scenario_overrides_the_default_and_the_command_line_both(tmp_path: Path) -> None:
    file = tmp_path / "h.yaml"
    text = (
        "default: {n_timesteps: 10, n_envs: 2, n_steps: 4, batch_size: 8, n_epochs: 1, learning_rate: 1e-3, gamma: 0.9}"
    )
    file.write_text(text + "\nchat: {gamma: 0.95, action: delta, action_settings: {steps: [-1, 0, 1]}}\n")
    assert settings_for("ppo", "code", file).gamma == 0.9
    chat = settings_for("ppo", "chat", file, changes_from(["n_timesteps:20"]))
    assert (chat.gamma, chat.n_timesteps, chat.action) == (0.95, 20, "delta")
    assert settings_for("ppo", "chat", file, {"action": "headroom"}).action_settings == {}


def test_values_of_the_command_line_are_yaml_and_numbers_may_have_exponents() -> None:
    found = changes_from(["learning_rate:5e-4", "hidden:[32, 16]", "standardise:false", "action:delta"])
    assert found == {"learning_rate": 5e-4, "hidden": [32, 16], "standardise": False, "action": "delta"}


def test_a_schedule_falls_in_a_straight_line() -> None:
    rate = rates("linear 4e-3 2e-3")
    assert callable(rate)
    assert (rate(1.0), rate(0.5), rate(0.0)) == pytest.approx((4e-3, 3e-3, 2e-3))
    assert rates(0.5) == 0.5


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["gama:0.9"], "ppo has no 'gama'; did you mean 'gamma'"),
        (["gamma:1.5"], "gamma = 1.5: Input should be less than or equal to 1"),
        (["gamma"], "expected NAME:VALUE"),
        (["hidden:[3"], "is not a value"),
        (["learning_rate:__import__('os').system('true')"], "expected a number, 'linear FIRST'"),
        (["learning_rate:cosine 3e-4"], "expected a number, 'linear FIRST'"),
        (["action:teleport"], "unknown action map 'teleport'"),
        (["n_timesteps:-5"], "n_timesteps = -5"),
    ],
)
def test_wrong_settings_are_one_clear_error(words: list[str], message: str) -> None:
    with pytest.raises(PolicyError, match=message.replace("(", r"\(").replace(")", r"\)")):
        settings_for("ppo", "chat", None, changes_from(words))


@pytest.mark.parametrize("text", ["- a\n", "default: 3\n", "default: {gamma: [\n"])
def test_a_file_that_is_no_mapping_is_refused_with_its_name(text: str, tmp_path: Path) -> None:
    file = tmp_path / "h.yaml"
    file.write_text(text)
    with pytest.raises(PolicyError, match=r"h\.yaml"):
        settings_for("ppo", "chat", file)
    with pytest.raises(PolicyError, match=r"nowhere\.yaml"):
        settings_for("ppo", "chat", tmp_path / "nowhere.yaml")
