"""What every test may ask for."""

from __future__ import annotations

import signal
from pathlib import Path

import pytest

from experiments.__main__ import one_thread_per_process

one_thread_per_process()
# A shell starts background jobs with Ctrl-C ignored, and their children inherit it; tests press it all the same.
signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(scope="session")
def repo_root() -> Path:
    """The folder that holds pyproject.toml."""
    return Path(__file__).resolve().parent.parent


@pytest.fixture(scope="session")
def shared_traces(repo_root: Path) -> Path:
    """Recorded loads kept beside the repository; a test that needs them is skipped where they are missing."""
    folder = repo_root.parent / "shared" / "traces"
    if not folder.is_dir():
        pytest.skip("needs ../shared/traces")
    return folder
