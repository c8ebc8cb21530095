"""The report's colours can be told from the page and from each other, also by colour-blind readers."""

from __future__ import annotations

from itertools import combinations

import numpy as np
import pytest

from experiments.palette import HUES, Palette
from rlscale.types import Floats

PAPERS = ("#ffffff", "#15181c")
# Machado, Oliveira and Fernandes 2009, severity 1.0; linear RGB.
SIGHT = {
    "normal": np.eye(3),
    "protanopia": np.array(
        [[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216], [-0.003882, -0.048116, 1.051998]]
    ),
    "deuteranopia": np.array(
        [[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413], [-0.011820, 0.042940, 0.968881]]
    ),
    "tritanopia": np.array(
        [[1.255528, -0.076749, -0.178779], [-0.078411, 0.930809, 0.147602], [0.004733, 0.691367, 0.303900]]
    ),
}
TO_XYZ = np.array([[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722], [0.0193, 0.1192, 0.9505]])


def linear(colour: str) -> Floats:
    value = np.array([int(colour[i : i + 2], 16) for i in (1, 3, 5)]) / 255.0
    return np.where(value <= 0.04045, value / 12.92, ((value + 0.055) / 1.055) ** 2.4)


def contrast(a: str, b: str) -> float:
    """WCAG 2 contrast ratio."""
    dark, light = sorted(float(linear(colour) @ TO_XYZ[1]) for colour in (a, b))
    return (light + 0.05) / (dark + 0.05)


def lab(rgb: Floats) -> Floats:
    x, y, z = TO_XYZ @ rgb / np.array([0.9505, 1.0, 1.089])
    fx, fy, fz = (np.cbrt(v) if v > 0.008856 else 7.787 * v + 16 / 116 for v in (x, y, z))
    return np.array([116 * fy - 16, 500 * (fx - fy), 200 * (fy - fz)])


@pytest.mark.parametrize("page", [0, 1], ids=["light", "dark"])
def test_every_hue_stands_out_from_its_page(page: int):
    assert min(contrast(pair[page], PAPERS[page]) for pair in HUES) >= 3.0


@pytest.mark.parametrize("sight", SIGHT)
@pytest.mark.parametrize("page", [0, 1], ids=["light", "dark"])
def test_hues_can_be_told_apart(page: int, sight: str):
    seen = [lab(np.clip(SIGHT[sight] @ linear(pair[page]), 0.0, 1.0)) for pair in HUES]
    assert min(np.linalg.norm(a - b) for a, b in combinations(seen, 2)) >= 10.0


def test_many_scalers_differ_in_colour_marker_or_line():
    scalers = [{"label": f"s{i}", "kind": "rule"} for i in range(16)] + [{"label": "p", "kind": "learned"}]
    palette = Palette(scalers)
    names = [scaler["label"] for scaler in scalers]
    looks = {(palette.colour(n), palette.marker(n), str(palette.line(n)["linestyle"])) for n in names}
    assert len(looks) == 17
