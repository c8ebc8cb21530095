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

from experiments.palette import HUES
from rlscale.types import Floats

INK, MUTED, GRID, PAPER = "#1c2024", "#6b7280", "#e3e5e8", "#fefefe"
VARIABLES = {
    INK: "--ink", MUTED: "--muted", GRID: "--grid", PAPER: "--paper",
    **{light: f"--hue-{i}" for i, (light, _) in enumerate(HUES)},
}  # fmt: skip
SCALER = "scaler:"


def of(label: str) -> str:
    """The group id of an artist that belongs to a scaler; in the page it becomes data-scaler="label"."""
    return SCALER + label


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
        (f' id="{SCALER}', ' data-scaler="'),
        (r"font: (?:(bold) )?([\d.]+)px [^;\"]*", r"font-size:\2px;font-weight:\1"),
        (r"font-family:[^;\"]*;? ?", ""),
        (r"font-weight:(?=[;\"])", "font-weight:normal"),
        (r'(<svg [^>]*?)width="[\d.]+pt" height="[\d.]+pt"', r"\1"),
        (r' xmlns(?::xlink)?="[^"]*"', ""),
        (r"xlink:href", "href"),
        (r' transform="rotate\(-0 [^)]*\)"', ""),
        (r"\s*\n\s*", "\n"),
    ):
        body = re.sub(pattern, by, body, flags=re.S)
    body = re.sub(r' d="([^"]*)"', lambda match: f' d="{_shorter(match[1])}"', body)
    body = re.sub(r'(?<= )([xy])="([^"]*)"', lambda match: f'{match[1]}="{round(float(match[2]), 1):g}"', body)
    body = _without_bare_groups(body)
    for colour, name in VARIABLES.items():
        body = body.replace(colour, f"var({name})")
    return body.replace("<svg ", f'<svg role="img" aria-label="{html.escape(title)}" ', 1)


class Styles:
    """Styles that figures have in common, said once for a page: they are a third of a figure, and few are different."""

    def __init__(self) -> None:
        self._names: dict[str, str] = {}

    def shortened(self, figure: str) -> str:
        """A figure with classes in place of styles."""
        return re.sub(r' style="([^"]*)"', lambda match: f' class="{self._name(match[1])}"', figure)

    def css(self) -> str:
        """The rules of all classes so far."""
        return "\n".join(f".{name} {{{style}}}" for style, name in self._names.items())

    def _name(self, style: str) -> str:
        return self._names.setdefault(style, f"k{len(self._names)}")


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
    return _written(numbers[~idle])


def _written(points: Floats) -> str:
    """A path of straight lines as distances in tenths of a point, which are exact and short."""
    words = [f"M{points[0][0]:g} {points[0][1]:g}"]
    for dx, dy in np.round(np.diff(points, axis=0), 1).tolist():
        words.append(f"h{dx:g}" if dy == 0 else f"v{dy:g}" if dx == 0 else f"l{dx:g} {dy:g}")
    return "".join(words)


def _without_bare_groups(body: str) -> str:
    """Without the groups that say nothing; matplotlib nests several around every tick."""
    opened: list[bool] = []

    def keep(match: re.Match[str]) -> str:
        if match[0].startswith("</"):
            return match[0] if opened.pop() else ""
        opened.append(match[0] != "<g>")
        return match[0] if opened[-1] else ""

    return re.sub(r"\n+", "\n", re.sub(r"<g(?: [^>]*[^/>])?>|</g>", keep, body.replace("<g/>", "")))
