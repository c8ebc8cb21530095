"""Where compiled kernels are kept: a folder named after the sources they were compiled from.

numba notices a change of the file a kernel is written in, not of the constants and helpers it takes from others;
after an edit to a table size a stale kernel would write out of bounds.
"""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

import numba


def _digest() -> str:
    digest = hashlib.sha256(numba.__version__.encode())
    here = Path(__file__).parent
    # The reward is compiled into a kernel of the environments.
    for path in [*sorted(here.glob("*.py")), here.parent / "feedback.py"]:
        digest.update(path.read_bytes())
    return digest.hexdigest()[:16]


def keep_kernels_by_source() -> None:
    """Set numba's cache folder: below NUMBA_CACHE_DIR if that is set, else below the user's cache folder."""
    home = os.environ.get("NUMBA_CACHE_DIR") or os.environ.get("XDG_CACHE_HOME") or str(Path.home() / ".cache")
    folder = str(Path(home) / "rlscale-kernels" / _digest())
    numba.config.CACHE_DIR = folder  # type: ignore[attr-defined]
