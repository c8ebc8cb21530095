"""How far one engine's measure is from another's."""

from __future__ import annotations

import math


def apart(name: str, mine: float, theirs: float) -> float:
    """Relative error of `mine`; of the attainment the difference. Both infinite are equal, one infinite is 100 %."""
    if name == "attainment":
        return mine - theirs
    if math.isinf(mine) or math.isinf(theirs):
        return 0.0 if mine == theirs else math.copysign(1.0, 1.0 if math.isinf(mine) else -1.0)
    return mine / theirs - 1.0
