"""The folder of a training: what was asked for, checkpoints, learning curves, and one policy folder per seed.

OUT/run.json               what was asked for; a resumed training must ask for the same
OUT/seed-0/                the policy that was best on the validation loads; appears when its training is complete
OUT/training/seed-0/       checkpoint.pt (a pickle: only your own), curve.json, model.zip for Stable-Baselines3
OUT/tensorboard/seed-0/    event files
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from experiments.results import write_json
from rlscale.errors import ResultError

RUN, LOCK = "run.json", ".lock"


class RunFolder:
    """One training command's folder."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def policy(self, seed: int) -> Path:
        """Where a seed's policy appears."""
        return self.path / f"seed-{seed}"

    def training(self, seed: int) -> Path:
        """Where a seed keeps what it needs to go on."""
        return self.path / "training" / f"seed-{seed}"

    def model(self, seed: int) -> Path:
        """What a seed had learnt when it was complete, for Stable-Baselines3."""
        return self.training(seed) / "model.zip"

    def checkpoint(self, seed: int) -> Path:
        """A seed's last whole state."""
        return self.training(seed) / "checkpoint.pt"

    @contextlib.contextmanager
    def opened(self, asked: Mapping[str, Any], resume: bool) -> Iterator[None]:
        """Hold the folder while training; it is new, or with `resume` one that was begun with the same request."""
        self._refuse(resume)
        new = not self.path.exists()
        self.path.mkdir(parents=True, exist_ok=True)
        with (self.path / LOCK).open("a+") as lock:
            _take(lock, self.path)
            if resume and not new:
                self._same(asked)
            else:
                write_json(self.path / RUN, dict(asked))
            yield

    def asked(self) -> dict[str, Any]:
        """What the training was begun with."""
        try:
            found = json.loads((self.path / RUN).read_text())
        except (OSError, ValueError) as error:
            raise ResultError(f"{self.path / RUN}: {error}; expected a folder that `train` has begun") from None
        if not isinstance(found, dict):
            raise ResultError(f"{self.path / RUN}: not a mapping; expected a folder that `train` has begun")
        return found

    def _refuse(self, resume: bool) -> None:
        if resume:
            self.asked()
            return
        if self.path.exists() and (not self.path.is_dir() or any(self.path.iterdir())):
            hint = "--resume goes on with it, or " if (self.path / RUN).exists() else ""
            raise ResultError(f"{self.path} exists; {hint}choose another --out, nothing is overwritten")

    def _same(self, asked: Mapping[str, Any]) -> None:
        earlier, now = self.asked(), json.loads(json.dumps(asked, default=str))
        differ = [key for key in sorted({*earlier, *now}) if key != "command" and earlier.get(key) != now.get(key)]
        if differ:
            key = differ[0]
            raise ResultError(f"{self.path} was begun with {key} = {earlier.get(key)!r}, now {now.get(key)!r}; "
                              "ask for the same, or give another --out")  # fmt: skip


def _take(lock: Any, path: Path) -> None:
    """The lock falls when its process ends, however it ends."""
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        lock.seek(0)
        who = lock.read().strip() or "another process"
        raise ResultError(f"{path} is in use by process {who}; wait for it, or give another --out") from None
    lock.truncate(0)
    lock.write(str(os.getpid()))
    lock.flush()
