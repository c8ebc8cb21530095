"""How kernels are compiled, and where the result is kept: a folder named after the sources it was compiled from.

numba notices a change of the file a kernel is written in, not of the constants and helpers it takes from others;
after an edit to a table size a stale kernel would write out of bounds.

Without numba, or with NUMBA_DISABLE_JIT=1, kernels stay plain Python and numba is never imported: a process that only
serves a policy of 64 x 64 units then holds 46 MiB instead of 168 and is at its hundredth decision after 0.25 s of CPU
instead of 0.73 s; a decision takes 0.12 ms instead of 0.06 ms. The variable is read when the first kernel is loaded.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Any

PLAIN = os.environ.get("NUMBA_DISABLE_JIT", "").strip() not in ("", "0") or find_spec("numba") is None


def compiler(**options: Any) -> Callable[[Any], Any]:
    """The decorator of kernels: numba's, with no fastmath since plain Python must agree bit for bit, or none."""
    if PLAIN:
        return _as_it_is
    import numba

    keep_kernels_by_source()
    decorator: Callable[[Any], Any] = numba.njit(cache=True, error_model="numpy", nogil=True, **options)
    return decorator


def keep_kernels_by_source() -> None:
    """Set numba's cache folder: below NUMBA_CACHE_DIR if that is set, else below the user's cache folder."""
    import numba

    home = os.environ.get("NUMBA_CACHE_DIR") or os.environ.get("XDG_CACHE_HOME") or str(Path.home() / ".cache")
    folder = str(Path(home) / "rlscale-kernels" / _digest(numba.__version__))
    numba.config.CACHE_DIR = folder  # type: ignore[attr-defined]


def _as_it_is(function: Any) -> Any:
    return function


def _digest(version: str) -> str:
    digest = hashlib.sha256(version.encode())
    here = Path(__file__).parent
    # The reward is compiled into a kernel of the environments.
    for path in [*sorted(here.glob("*.py")), here.parent / "feedback.py"]:
        digest.update(path.read_bytes())
    return digest.hexdigest()[:16]
