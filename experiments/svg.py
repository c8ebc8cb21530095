"""A matplotlib figure as an <svg> element of a page. Knows nothing of what it shows.

Colours are written as CSS variables, so that one figure serves light and dark pages; letters take the page's font.
"""

from __future__ import annotations

import html
import io
import re

import matplotlib as mpl
import numpy as np
from matplotlib.figure import Figure

INK, MUTED, GRID, PAPER = "#1c2024", "#6b7280", "#e3e5e8", "#fefefe"
VARIABLES = {INK: "--ink", MUTED: "--muted", GRID: "--grid", PAPER: "--paper"}


def svg(fig: Figure, title: str) -> str:
    """A figure as an <svg> element that can stand inside a page: no prolog, no ids of its own, colours as variables."""
    text = io.StringIO()
    with mpl.rc_context({"svg.hashsalt": title}):
        fig.savefig(text, format="svg", metadata={"Date": None, "Creator": None, "Format": None, "Type": None})
    body = text.getvalue()
    body = body[body.index("<svg") :]
    for pattern, by in (
        (r"<metadata>.*?</metadata>|<!--.*?-->", ""),
        (r' id="[A-Za-z0-9.]+_\d+"', ""),  # repeated in every figure; clip paths and markers have hashed ids
        (r"font: (?:(bold) )?([\d.]+)px [^;\"]*", r"font-size:\2px;font-weight:\1"),
        (r"font-weight:(?=[;\"])", "font-weight:normal"),
        (r'(<svg [^>]*?)width="[\d.]+pt" height="[\d.]+pt"', r"\1"),
        (r' xmlns(?::xlink)?="[^"]*"', ""),
        (r"xlink:href", "href"),
        (r"\s*\n\s*", "\n"),
    ):
        body = re.sub(pattern, by, body, flags=re.S)
    body = re.sub(r' d="([^"]*)"', lambda match: f' d="{_shorter(match[1])}"', body)
    for colour, name in VARIABLES.items():
        body = body.replace(colour, f"var({name})")
    return body.replace("<svg ", f'<svg role="img" aria-label="{html.escape(title)}" ', 1)


def _shorter(path: str) -> str:
    """A path to a tenth of a point, without the points that lie on a level or upright line between their neighbours."""
    if re.search(r"[^-\d.\sMLz]", path):
        return re.sub(r"-?\d+\.\d+", lambda number: f"{float(number[0]):.2f}", " ".join(path.split()))
    return "".join(_corners(piece) + ("z" if "z" in piece else "") for piece in re.findall(r"M[^M]*", path))


def _corners(piece: str) -> str:
    numbers = np.round([float(number) for number in re.findall(r"-?[\d.]+", piece)], 1).reshape(-1, 2)
    moved = np.concatenate(([True], (numbers[1:] != numbers[:-1]).any(axis=1)))
    numbers = numbers[moved]
    heading = np.sign(np.diff(numbers, axis=0))  # (n - 1, 2); level and upright lines have a zero in it
    idle = np.zeros(len(numbers), bool)
    idle[1:-1] = (heading[1:] == heading[:-1]).all(axis=1) & (heading[1:] == 0).any(axis=1)
    return "M" + " ".join(f"{x:g} {y:g}" for x, y in numbers[~idle])
