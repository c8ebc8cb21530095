"""The whole state of a training at a rollout boundary: what is put back goes on as if nothing had happened.

A checkpoint is a pickle and can run code when it is read: only your own, never one from elsewhere. What is handed on
is the policy folder.
"""

from __future__ import annotations

import io
import os
import pickle
import random
from pathlib import Path
from typing import Any

import numpy as np
import torch

from rlscale.errors import PolicyError

FORMAT = 1
COUNTERS = (
    "num_timesteps", "_n_updates", "_n_calls", "_episode_num", "exploration_rate", "_current_progress_remaining",
    "_last_obs", "_last_original_obs", "_last_episode_starts", "ep_info_buffer", "ep_success_buffer", "coins",
)  # fmt: skip
REPLAY = ("observations", "next_observations", "actions", "rewards", "dones", "timeouts")


def save(path: Path, model: Any, env: Any, more: dict[str, Any]) -> None:
    """Write everything; the file appears under its name only when complete and then replaces the older one."""
    state = {
        "format": FORMAT,
        "counters": {name: getattr(model, name) for name in COUNTERS if hasattr(model, name)},
        "parameters": model.get_parameters(),
        "replay": _replay(model),
        "random": _random(model),
        "env": env,
        "more": more,
    }
    partial = path.with_name(f".{path.name}.{os.getpid()}.partial")
    try:
        content = io.BytesIO()  # torch turns a full disk into an error that says nothing
        torch.save(state, content)
        partial.write_bytes(content.getbuffer())
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)


def load(path: Path, device: str) -> dict[str, Any]:
    """A checkpoint's content. Raises PolicyError when it is not one."""
    try:
        state = torch.load(path, map_location=device, weights_only=False)
    except (OSError, RuntimeError, pickle.UnpicklingError, EOFError, AttributeError, ModuleNotFoundError) as error:
        raise PolicyError(f"{path}: cannot be read ({' '.join(str(error).split())[:120]}); train anew") from None
    if not isinstance(state, dict) or state.get("format") != FORMAT:
        raise PolicyError(f"{path}: not a checkpoint of this version; train anew")
    return state


def put_back(state: dict[str, Any], model: Any) -> None:
    """Into a model that was built on the checkpoint's environment with the same settings."""
    for name, value in state["counters"].items():
        setattr(model, name, value)
    model.set_parameters(state["parameters"], exact_match=True, device=model.device)
    replay = state["replay"]
    if replay is not None:
        for name, filled in replay["arrays"].items():
            getattr(model.replay_buffer, name)[: len(filled)] = filled
        model.replay_buffer.pos, model.replay_buffer.full = replay["pos"], replay["full"]
    torch.set_rng_state(state["random"]["torch"].cpu())
    np.random.set_state(state["random"]["numpy"])  # noqa: NPY002 (Stable-Baselines3 draws from it)
    random.setstate(state["random"]["python"])
    model.action_space.np_random.bit_generator.state = state["random"]["actions"]


def _replay(model: Any) -> dict[str, Any] | None:
    buffer = getattr(model, "replay_buffer", None)
    if buffer is None:
        return None
    filled = buffer.buffer_size if buffer.full else buffer.pos
    arrays = {name: getattr(buffer, name)[:filled] for name in REPLAY}
    return {"arrays": arrays, "pos": buffer.pos, "full": buffer.full}


def _random(model: Any) -> dict[str, Any]:
    """Generators that Stable-Baselines3 draws from; those of a GPU are not kept: resuming is exact on the CPU only."""
    return {
        "torch": torch.get_rng_state(),
        "numpy": np.random.get_state(),  # noqa: NPY002 (Stable-Baselines3 draws from it)
        "python": random.getstate(),
        "actions": model.action_space.np_random.bit_generator.state,
    }
