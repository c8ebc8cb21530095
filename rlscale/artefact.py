"""Files that come from elsewhere: read only when regular, small enough and inside of their folder; written whole."""

from __future__ import annotations

import json
import os
import shutil
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from rlscale.errors import PolicyError

KIB, MIB = 1024, 1024 * 1024


def read_limited(path: Path, most: int, folder: Path | None = None) -> bytes:
    """The content of a regular file of at most `most` bytes; raises PolicyError, before reading, for anything else.

    `folder`: where the file has to lie once links are followed. Links inside of it are fine: that is how Kubernetes
    mounts a ConfigMap.
    """
    try:
        real = path.resolve(strict=True)
        if folder is not None and not real.is_relative_to(folder.resolve()):
            raise PolicyError(f"{path}: a link that leads out of its folder; put the file itself there")
        # Without O_NONBLOCK, opening a named pipe waits for a writer.
        with os.fdopen(os.open(real, os.O_RDONLY | os.O_NONBLOCK | getattr(os, "O_NOFOLLOW", 0)), "rb") as file:
            state = os.fstat(file.fileno())
            if not stat.S_ISREG(state.st_mode):
                raise PolicyError(f"{path}: not a regular file; expected one")
            if state.st_size > most:
                raise PolicyError(f"{path}: {state.st_size} bytes, at most {most} are read; is it the right file?")
            data = file.read(most + 1)
    except (OSError, RuntimeError) as error:  # a loop of links is a RuntimeError in some versions of Python
        raise PolicyError(f"{path}: {getattr(error, 'strerror', None) or error}") from None
    if len(data) > most:  # it grew meanwhile
        raise PolicyError(f"{path}: more than {most} bytes; is it the right file?")
    return data


def parse_json(data: bytes, where: object) -> dict[str, Any]:
    """A JSON mapping without repeated keys; raises PolicyError for anything else."""
    try:
        found = json.loads(data, object_pairs_hook=_once)
    except (ValueError, RecursionError) as error:
        raise PolicyError(f"{where}: not JSON ({str(error)[:200]}); copy it again") from None
    if not isinstance(found, dict):
        raise PolicyError(f"{where}: holds a {type(found).__name__}, expected a mapping; copy it again")
    return found


@contextmanager
def new_folder(folder: Path) -> Iterator[Path]:
    """A folder to fill, which gets its name when the block ends well and is gone otherwise; nothing is overwritten."""
    if folder.exists() or folder.is_symlink():
        raise PolicyError(f"{folder} exists; give another name, nothing is overwritten")
    partial = folder.with_name(f".{folder.name}.{os.getpid()}.partial")
    partial.mkdir(parents=True)
    try:
        yield partial
        partial.rename(folder)
    except BaseException:
        shutil.rmtree(partial, ignore_errors=True)
        raise


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        names = [name for name, _ in pairs]
        raise ValueError(f"key {next(name for name in names if names.count(name) > 1)!r} twice")
    return found
