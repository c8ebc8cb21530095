"""Errors a user can act on: what was got, what was expected, what to do, and where."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class RlscaleError(Exception):
    """Base of every error that is the user's to mend; the command line prints it without a traceback."""


class ScenarioError(RlscaleError):
    """A scenario, study or profile says something impossible."""


class TraceError(RlscaleError):
    """A recorded load cannot be read; the message names file, line and column."""


class PolicyError(RlscaleError):
    """A policy folder is incomplete, altered or made for other features."""


class ResultError(RlscaleError):
    """A result folder is in the way, incomplete or not writable."""


def nearest(name: str, known: Iterable[str]) -> str:
    """A hint such as `did you mean 'chat'?`, or the whole list when nothing is close."""
    known = sorted(known)
    close = difflib.get_close_matches(name, known, n=3, cutoff=0.5)
    if close:
        return "did you mean " + " or ".join(f"'{item}'" for item in close) + "?"
    return "known: " + (", ".join(known) or "none")
