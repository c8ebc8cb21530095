"""As much of numpy as the kernels of `rlscale.features` and `rlscale.allocation` ask for, on plain Python arrays."""

from __future__ import annotations

import math
from array import array
from collections.abc import Iterable, Iterator
from typing import Any


class Array:
    """Numbers in rows of rows, one after the other; `code` f is single precision, q whole numbers."""

    __slots__ = ("_at", "_strides", "data", "shape")

    def __init__(self, values: Any, shape: tuple[int, ...], code: str = "d", at: int = 0) -> None:
        self.shape, self._at = shape, at
        self._strides = tuple(math.prod(shape[k + 1 :]) for k in range(len(shape)))
        self.data = values if isinstance(values, array) else array(code, values or [0] * math.prod(shape))

    def __getitem__(self, key: Any) -> Any:
        if isinstance(key, int):
            if len(self.shape) == 1:
                return self.data[self._at + key]
            return Array(self.data, self.shape[1:], at=self._at + key * self._strides[0])
        return self.data[self._place(key)]

    def __setitem__(self, key: Any, value: Any) -> None:
        if isinstance(key, int):
            self.data[self._at + key] = value
        elif isinstance(key[-1], slice):  # a whole row
            first = self._place(key[:-1])
            for i in range(first, first + self.shape[-1]):
                self.data[i] = value
        else:
            self.data[self._place(key)] = value

    def __iter__(self) -> Iterator[Any]:
        return iter(self.data[self._at : self._at + self.shape[0]])

    def _place(self, key: tuple[int, ...]) -> int:
        place = self._at
        for index, stride in zip(key, self._strides):
            place += index * stride
        return place


class np:
    """What the kernels take from numpy."""

    @staticmethod
    def empty(size: int) -> Array:
        """Room for so many numbers."""
        return Array(None, (size,))

    @staticmethod
    def ceil(value: float) -> float:
        """The next whole number."""
        return float(math.ceil(value))


def single(values: Iterable[float]) -> list[float]:
    """Rounded to single precision."""
    return array("f", values).tolist()


def ratio(a: float, b: float) -> float:
    """Division as numpy and compiled code have it: by 0 gives infinity, or NaN for 0 / 0."""
    if b:
        return a / b
    return math.nan if not a or math.isnan(a) else math.copysign(math.inf, a)
