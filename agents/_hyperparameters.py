"""Hyper-parameters of the learned agents: YAML per algorithm, one entry per scenario over a default. Never evaluated.

A learning rate is a number or a schedule in words: `linear 5e-4` falls from that to 0 over the training, `linear 5e-4
1e-4` to the second number.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError

from rlscale.actions import action_map
from rlscale.errors import PolicyError, nearest

FOLDER = Path(__file__).parent / "hyperparameters"
Share = Annotated[float, Field(ge=0.0, le=1.0)]


def _schedule_words(value: float | str) -> float | str:
    value = _number(value) if isinstance(value, str) else value
    rates(value)
    return value


Rate = Annotated[float | str, AfterValidator(_schedule_words)]


class _Common(BaseModel):
    """What both algorithms have in common."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    n_timesteps: int = Field(gt=0, description="environment steps, all clusters together")
    n_envs: int = Field(gt=0, description="clusters that run side by side")
    loads: int = Field(default=16, gt=0, description="training loads that the clusters share")
    episode_intervals: int = Field(default=240, gt=1)
    start_spread: float = Field(default=2.0, ge=1, description="half of the episodes begin with a fleet this wrong")
    action: str = "headroom"
    action_settings: dict[str, Any] = {}
    learning_rate: Rate
    batch_size: int = Field(gt=0)
    gamma: Share
    hidden: tuple[int, ...] = (64, 64)
    activation: Literal["tanh", "relu"] = "tanh"
    standardise: bool = True
    max_grad_norm: float = Field(default=0.5, gt=0)
    reward_share: float = Field(default=0.1, gt=0, description="factor on rewards, for values near 1")


class PpoSettings(_Common):
    """PPO of Stable-Baselines3."""

    n_steps: int = Field(gt=0, description="steps per cluster and rollout")
    n_epochs: int = Field(gt=0)
    gae_lambda: Share = 0.95
    clip_range: Rate = 0.2
    ent_coef: float = Field(default=0.0, ge=0)
    vf_coef: float = Field(default=0.5, ge=0)
    start_bias: float = Field(
        default=0.0, ge=0, description="logit by which the untrained policy prefers to stand still"
    )


class DqnSettings(_Common):
    """DQN of Stable-Baselines3."""

    buffer_size: int = Field(gt=0, description="transitions")
    learning_starts: int = Field(ge=0)
    train_freq: int = Field(default=1, gt=0, description="steps of every cluster between updates")
    gradient_steps: int = Field(default=1, gt=0)
    target_update_interval: int = Field(gt=0, description="environment steps")
    n_step_return: int = Field(default=1, gt=0)
    double: bool = True
    squash: bool = Field(default=True, description="learn sign(q) sqrt(|q|), so that small costs beside large are seen")
    exploration_fraction: Share = 0.3
    exploration_final_eps: Share = 0.02


ALGORITHMS: dict[str, type[_Common]] = {"ppo": PpoSettings, "dqn": DqnSettings}
Settings = PpoSettings | DqnSettings


def settings_for(algo: str, scenario: str, file: Path | None = None, changes: Mapping[str, Any] | None = None) -> Any:
    """The default entry of the algorithm's file, the scenario's over it, and `changes` over both.

    Raises PolicyError for unknown names, wrong types and values out of range, with file and field.
    """
    path = file or FOLDER / f"{algo}.yaml"
    try:
        entries = yaml.safe_load(path.read_text())
    except (OSError, yaml.YAMLError, UnicodeDecodeError) as error:
        raise PolicyError(f"{path}: {' '.join(str(error).split())}; expected a YAML mapping of scenarios") from None
    if not isinstance(entries, dict) or not all(isinstance(entry, dict) for entry in entries.values()):
        raise PolicyError(f"{path}: expected a mapping from scenario (or 'default') to settings")
    merged = entries.get("default", {}) | entries.get(scenario, {}) | dict(changes or {})
    if "action" in (changes or {}) and "action_settings" not in (changes or {}):
        merged.pop("action_settings", None)  # they belong to the map that was replaced
    kind = ALGORITHMS[algo]
    unknown = sorted(set(merged) - set(kind.model_fields))
    if unknown:
        raise PolicyError(f"{path}: {algo} has no '{unknown[0]}'; {nearest(unknown[0], kind.model_fields)}")
    try:
        found = kind.model_validate(merged)
    except ValidationError as error:
        first = error.errors()[0]
        field = ".".join(str(part) for part in first["loc"])
        raise PolicyError(f"{path}: {scenario}: {field} = {first['input']!r}: {first['msg']}") from None
    action_map(found.action, **found.action_settings)
    return found


def changes_from(words: Sequence[str]) -> dict[str, Any]:
    """`gamma:0.98 hidden:[32,32]` as a mapping; values are YAML, nothing is evaluated."""
    changes: dict[str, Any] = {}
    for word in words:
        name, colon, text = word.partition(":")
        if not colon or not name:
            raise PolicyError(f"-params {word}: expected NAME:VALUE, for example gamma:0.98")
        try:
            changes[name] = yaml.safe_load(text)
        except yaml.YAMLError:
            raise PolicyError(f"-params {word}: '{text}' is not a value") from None
        if isinstance(changes[name], str):
            changes[name] = _number(changes[name])
    return changes


def rates(value: float | str) -> float | Callable[[float], float]:
    """A learning rate for Stable-Baselines3: the number, or a function of the share of training that is left."""
    if not isinstance(value, str):
        return float(value)
    word, *numbers = value.split()
    values = [_number(number) for number in numbers]
    if word != "linear" or len(values) not in (1, 2) or not all(isinstance(v, float) and v >= 0 for v in values):
        raise ValueError(f"'{value}'; expected a number, 'linear FIRST' or 'linear FIRST LAST'")
    first, last = float(values[0]), float(values[1]) if len(values) == 2 else 0.0

    def rate(left: float) -> float:
        return last + (first - last) * left

    return rate


def _number(text: str) -> float | str:
    """YAML 1.1 reads `5e-4` as a word; people mean the number."""
    try:
        return float(text)
    except ValueError:
        return text
