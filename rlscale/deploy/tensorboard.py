"""Scalars of a live service for TensorBoard, named as those of a training. Written by tensorboard alone, no torch."""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from rlscale.deploy.base import LiveConfigError

if TYPE_CHECKING:
    from rlscale.circle import Turn
    from rlscale.types import ScalingLimits


class Scalars:
    """One event file; a step is a control interval."""

    def __init__(self, folder: Path, limits: ScalingLimits) -> None:
        try:
            from tensorboard.compat.proto.event_pb2 import Event
            from tensorboard.compat.proto.summary_pb2 import Summary
            from tensorboard.summary.writer.event_file_writer import EventFileWriter
        except ImportError:
            raise LiveConfigError(
                "tensorboard: needs tensorboard; pip install tensorboard, or leave the key out"
            ) from None
        self._event, self._summary = Event, Summary
        self._writer, self._limits = EventFileWriter(str(folder)), limits

    def turn(self, step: int, unix_s: float, turn: Turn) -> None:
        """The scalars of one turn; what is no number is left out."""
        seen, target = turn.seen, turn.bounded.target
        there = np.asarray(seen.ready) + np.asarray(seen.pending)
        scalars = {
            "load/arrival_per_s": seen.arrival_per_s, "load/waiting": seen.waiting, "latency/ttft_mean_s": seen.ttft_s,
            "latency/tpot_mean_s": seen.tpot_s, "slo/attainment": seen.attainment, "capacity/ready": np.sum(seen.ready),
            "capacity/pending": np.sum(seen.pending), "action/target": sum(target),
            "cost/usd_per_hour": float(there @ self._limits.usd_per_replica_s) * 3600.0,
            "time/decision_s": turn.decision_s, "monitor/age_s": seen.age_s,
        }  # fmt: skip
        values = [self._summary.Value(tag=tag, simple_value=float(value)) for tag, value in scalars.items()
                  if math.isfinite(float(value))]  # fmt: skip
        self._writer.add_event(self._event(wall_time=unix_s, step=step, summary=self._summary(value=values)))

    def close(self) -> None:
        """Everything is in the file afterwards."""
        self._writer.close()
