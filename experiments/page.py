"""Where tables are printed: as wide as the terminal, or wide enough to be read where the output is not one."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.console import Console

WIDE = 160


def page() -> Console:
    """A console on standard output; a pipe or a file has no width of its own, and 80 columns break every word."""
    from rich.console import Console

    return Console(file=sys.stdout, width=None if sys.stdout.isatty() else WIDE)
