"""Where a training can be watched: TensorBoard event files, and Weights & Biases when asked for.

One writer per seed and folder; TensorBoard reads only one growing file per folder while it runs.
"""

from __future__ import annotations

import contextlib
import json
import os
import socket
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from urllib.parse import urlparse

import numpy as np

from experiments.judge import SHOWN_S, Verdict
from rlscale.errors import ResultError

LAYOUT = {
    "cost against latency": {
        "cost (USD/h)": ["Multiline", ["cost/usd_per_hour"]],
        "attainment": ["Multiline", ["slo/attainment"]],
        "TTFT p50 and p99 (s)": ["Multiline", ["latency/ttft_p50_s", "latency/ttft_p99_s"]],
        "TPOT p50 and p99 (s)": ["Multiline", ["latency/tpot_p50_s", "latency/tpot_p99_s"]],
    },
    "capacity": {
        "over and under (share of need)": ["Multiline", ["capacity/over_share", "capacity/under_share"]],
        "churn": ["Multiline", ["action/churn", "action/replicas_started"]],
    },
    "learning": {
        "reward": ["Multiline", ["rollout/ep_rew_mean", "eval/mean_reward"]],
        "loss": ["Multiline", ["train/loss", "train/value_loss", "train/policy_gradient_loss"]],
    },
}  # fmt: skip
ONLINE_WAIT_S = 2.0


class Board:
    """TensorBoard for one seed, plus what else listens (`listeners` take a dict of scalars and a step)."""

    def __init__(self, folder: Path, first_step: int, track: Any = None) -> None:
        from torch.utils.tensorboard import SummaryWriter

        threading.excepthook = _told_elsewhere
        try:
            folder.mkdir(parents=True, exist_ok=True)
            # What an interrupted run wrote after its last checkpoint is hidden: it happens again.
            self.writer = SummaryWriter(str(folder), purge_step=first_step if first_step else None)
        except OSError as error:
            raise ResultError(f"{folder}: TensorBoard cannot write here ({error.strerror}); "
                              "choose another --out or --tensorboard-log") from None  # fmt: skip
        self.track = track

    def begin(self, config: Mapping[str, Any]) -> None:
        """Layout and settings, once per training."""
        self.writer.add_custom_scalars(LAYOUT)
        self.writer.add_text("config", "```json\n" + json.dumps(config, indent=2, default=str) + "\n```", 0)

    def scalars(self, values: Mapping[str, float], step: int) -> None:
        """Numbers at a step."""
        for name, value in values.items():
            self.writer.add_scalar(name, value, step)
        if self.track is not None:
            self.track.log(dict(values), step=step)

    def verdict(self, verdict: Verdict, step: int) -> None:
        """An evaluation: its numbers, how often each action was taken, the queue, and load against capacity."""
        self.scalars(verdict.scalars, step)
        if len(verdict.actions):
            self.writer.add_histogram("action/taken", np.repeat(np.arange(len(verdict.actions)),
                                                                verdict.actions.astype(int)), step)  # fmt: skip
        self.writer.add_histogram("capacity/waiting", verdict.waiting, step)
        self.writer.add_figure("capacity/load_against_capacity", _figure(verdict), step)
        self.writer.flush()

    def end(self, settings: Mapping[str, Any], final: Mapping[str, float]) -> None:
        """Hyper-parameters beside the metrics they led to."""
        flat = {name: value if isinstance(value, int | float | bool | str) else json.dumps(value, default=str)
                for name, value in settings.items()}  # fmt: skip
        self.writer.add_hparams(flat, {f"hparam/{name}": value for name, value in final.items()}, run_name=".")
        self.close()
        if self.track is not None:
            self.track.summary.update(dict(final))
            self.track.finish()

    def close(self) -> None:
        """Write what is waiting to be written."""
        self.writer.close()


def _told_elsewhere(problem: Any) -> None:
    """A full disk is met by TensorBoard's own thread first; the next flush raises it where it can be told properly."""
    if not isinstance(problem.exc_value, OSError):
        threading.__excepthook__(problem)


def tracked(folder: Path, project: str, entity: str | None, group: str, name: str, config: Mapping[str, Any]) -> Any:
    """A Weights & Biases run; offline when there is no network or no key, so that it never asks or waits."""
    import wandb

    mode: Any = os.environ.get("WANDB_MODE") or ("online" if _can_go_online(wandb) else "offline")
    with contextlib.suppress(FileExistsError):
        folder.mkdir(parents=True)
    return wandb.init(
        project=project, entity=entity, group=group, name=name, dir=str(folder), config=dict(config),
        mode=mode, job_type="train", settings=wandb.Settings(silent=True),
    )  # fmt: skip


def _can_go_online(wandb: Any) -> bool:
    if not (os.environ.get("WANDB_API_KEY") or wandb.api.api_key):
        return False
    url = urlparse(os.environ.get("WANDB_BASE_URL", "https://api.wandb.ai"))
    try:
        with socket.create_connection((url.hostname or "", url.port or 443), timeout=ONLINE_WAIT_S):
            return True
    except OSError:
        return False


def _figure(verdict: Verdict) -> Any:
    """Need against ready and pending capacity of the first validation load's first hours."""
    from matplotlib.figure import Figure

    series = verdict.series
    shown = series["hour"] <= series["hour"][0] + SHOWN_S / 3600.0
    hour, ready = series["hour"][shown], series["ready"][shown]
    figure = Figure(figsize=(9, 3.5), layout="constrained")
    axes = figure.subplots()
    axes.fill_between(hour, 0, ready, step="post", color="#9ecae1", label="ready")
    axes.fill_between(hour, ready, ready + series["pending"][shown], step="post", color="#fdd0a2", label="pending")
    axes.step(hour, series["need"][shown], where="post", color="black", linewidth=1.0, label="need")
    axes.set(xlabel="hours", ylabel="replicas", ylim=(0, None), xlim=(hour[0], hour[-1]),
             title=f"{verdict.usd_per_hour:.2f} USD/h, {verdict.attainment:.2%} within the SLO")  # fmt: skip
    axes.legend(loc="upper right", ncols=3, frameon=False)
    return figure
