"""Plain Python, compiled code and a batch row are one engine, bit for bit."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
PROGRAM = """
import hashlib, json, sys
import numpy as np
np.seterr(over="ignore")  # unsigned integers wrap in the luck; numpy scalars warn of it, compiled code does not
sys.path.insert(0, "tests")
from equivalence_run import digests
print(json.dumps(digests(*map(int, sys.argv[1:]))))
"""


def run(jit: bool, seeds: int, intervals: int) -> list[str]:
    env = {**os.environ, "NUMBA_DISABLE_JIT": "0" if jit else "1"}
    done = subprocess.run([sys.executable, "-c", PROGRAM, str(seeds), str(intervals)], cwd=ROOT, env=env, check=True,
                          capture_output=True, text=True)  # fmt: skip
    return list(json.loads(done.stdout))


def test_plain_python_is_compiled_code_over_a_few_intervals() -> None:
    plain, compiled = run(False, 2, 40), run(True, 2, 40)
    assert plain == compiled
    assert len(set(plain)) == 4  # two seeds on two clusters, four different ends


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_plain_python_is_compiled_code_over_two_thousand_intervals_and_twenty_seeds() -> None:
    assert run(False, 20, 2000) == run(True, 20, 2000)


def test_digests_notice_a_single_bit() -> None:
    assert hashlib.sha256(b"\x00").hexdigest() != hashlib.sha256(b"\x01").hexdigest()
