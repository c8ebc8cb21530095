"""How a scaler looks: one colour, marker and line per scaler, the same in every figure, on light and on dark pages."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from markupsafe import Markup

# Pairs for a light and a dark page. Each has at least 3:1 contrast with its page, and under simulated protanopia,
# deuteranopia and tritanopia any two of them stay at least 10 apart in CIELAB (tests/test_report_colours.py).
HUES = (
    ("#2a80d6", "#6f9df5"), ("#0f9960", "#8fe8bb"), ("#b03aa4", "#d25cc0"), ("#1c5064", "#4fd5ea"),
    ("#bd8600", "#f2b75c"), ("#85898e", "#858b93"), ("#4a30d0", "#8a66f5"), ("#3d4a00", "#e6e64a"),
    ("#cc4100", "#ff6322"), ("#7d0a48", "#ff93c4"),
)  # fmt: skip
RULES, LEARNED = range(8), range(8, 10)  # the strongest two are kept for learned policies
PLAIN = 6  # so many rules have a hue of their own; the next ones are dashed as well
DASHES: tuple[Any, ...] = ("-", (0, (4, 1.5)), (0, (4, 1.2, 1, 1.2)))
MARKERS = "osD^vPX*"
SIGNS = {"o": "●", "s": "■", "D": "◆", "^": "▲", "v": "▼", "P": "✚", "X": "✖", "*": "★"}


class Palette:
    """Looks of the scalers of one comparison, by label."""

    def __init__(self, scalers: Sequence[Mapping[str, Any]]) -> None:
        self._rank: dict[str, tuple[bool, int]] = {}
        for kind in ("rule", "learned"):
            for rank, scaler in enumerate(s for s in scalers if s["kind"] == kind):
                self._rank[scaler["label"]] = (kind == "learned", rank)

    def key(self, label: str) -> str:
        """The id of a scaler's swatch in the page."""
        return f"look-{list(self._rank).index(label)}"

    def hue(self, label: str) -> int:
        """Index of a scaler's pair of colours."""
        learned, rank = self._rank[label]
        hues = LEARNED if learned else RULES
        return hues[rank % len(hues)]

    def colour(self, label: str) -> str:
        """Hex colour of a scaler on a light page."""
        return HUES[self.hue(label)][0]

    def marker(self, label: str) -> str:
        """Marker; a second round of colours has other ones."""
        learned, rank = self._rank[label]
        return "*" if learned else MARKERS[(rank + rank // len(RULES)) % 7]

    def mark(self, label: str, points: float) -> dict[str, Any]:
        """Marker and its size; a star needs more of it to look as large as a dot."""
        marker = self.marker(label)
        return {"marker": marker, "markersize": points * (1.7 if marker == "*" else 1.0)}

    def line(self, label: str) -> dict[str, Any]:
        """Line style: learned policies are drawn thicker, later colours dashed."""
        learned, rank = self._rank[label]
        return {
            "color": self.colour(label),
            "linewidth": 2.1 if learned else 1.5,
            "linestyle": DASHES[min(2, rank // (len(LEARNED) if learned else PLAIN))],
            "zorder": 4 if learned else 3,
        }

    def dash(self, label: str) -> str:
        """The line's dashes as SVG writes them; empty for a full line."""
        style = self.line(label)["linestyle"]
        return "" if style == "-" else " ".join(map(str, style[1]))


def swatches(palette: Palette, labels: Sequence[str]) -> Markup:
    """Short pieces of the scalers' lines with their markers, once for a page; `swatch` shows one of them."""
    drawn = []
    for label in labels:
        colour, dash = f"var(--hue-{palette.hue(label)})", palette.dash(label)
        dashes = f' stroke-dasharray="{dash}"' if dash else ""
        width = palette.line(label)["linewidth"]
        drawn.append(
            f'<g id="{palette.key(label)}"><line x1="0" y1="6" x2="30" y2="6" stroke="{colour}" stroke-width="{width}"'
            f'{dashes}/><text x="15" y="10.2" text-anchor="middle" font-size="11" fill="{colour}">'
            f"{SIGNS[palette.marker(label)]}</text></g>"
        )
    return Markup('<svg width="0" height="0" class="unseen" aria-hidden="true"><defs>{}</defs></svg>').format(
        Markup("").join(map(Markup, drawn))
    )


def swatch(palette: Palette, label: str) -> Markup:
    """A short piece of a scaler's line with its marker, as the figures draw it."""
    use = f'<use href="#{palette.key(label)}"/>'
    return Markup(f'<svg class="swatch" width="30" height="12" aria-hidden="true">{use}</svg>')


def css() -> Markup:
    """The colours as variables that follow the page's colour scheme."""
    return Markup("".join(f"--hue-{i}: light-dark({light}, {dark}); " for i, (light, dark) in enumerate(HUES)))
