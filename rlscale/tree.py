"""Forward pass of a distilled decision tree in numpy: a model without memory. Knows no files and no fitting."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rlscale.errors import PolicyError
from rlscale.network import Array, State
from rlscale.types import Floats, Ints

LEAF = -1  # the feature of a node that asks nothing


@dataclass(frozen=True, slots=True, eq=False)
class Tree:
    """Nodes in an order in which children come after their parent; the first is the root.

    A node asks whether `feature` is at most `threshold` and goes `left` if so, else `right`; a leaf has the feature
    LEAF and gives its row of `values`: shares of the choices among the decisions it was fitted on, or a number.
    Raises PolicyError when nodes point backwards or nowhere, or numbers are not finite.
    """

    feature: Ints  # (nodes,)
    threshold: Floats  # (nodes,)
    left: Ints  # (nodes,)
    right: Ints  # (nodes,)
    values: Array  # (nodes, outputs)
    inputs: int

    def __post_init__(self) -> None:
        nodes = len(self.feature)
        if not nodes or not all(len(own) == nodes for own in (self.threshold, self.left, self.right, self.values)):
            raise PolicyError("a tree without nodes, or with columns of different length; export it anew")
        asks = self.feature != LEAF
        at = np.arange(nodes)[asks]
        for name, child in (("left", self.left[asks]), ("right", self.right[asks])):
            if ((child <= at) | (child >= nodes)).any():
                raise PolicyError(f"a node whose {name} is before it or is not there; export the tree anew")
        if ((self.feature[asks] < 0) | (self.feature[asks] >= self.inputs)).any():
            raise PolicyError(f"a node asks for a feature beyond the {self.inputs} there are; export the tree anew")
        if not (np.isfinite(self.threshold[asks]).all() and np.isfinite(self.values).all()):
            raise PolicyError("thresholds or values that are not finite; export the tree anew")

    @property
    def outputs(self) -> int:
        """Numbers in a leaf."""
        return int(self.values.shape[1])

    @property
    def leaves(self) -> int:
        """Ends."""
        return int((self.feature == LEAF).sum())

    @property
    def depth(self) -> int:
        """Questions on the longest way."""
        depth = np.zeros(len(self.feature), np.int64)
        for node in np.flatnonzero(self.feature != LEAF):
            depth[[self.left[node], self.right[node]]] = depth[node] + 1
        return int(depth.max())

    def start(self, rows: int) -> State:
        """A tree remembers nothing."""
        return ()

    def forward(self, features: NDArray[Any], state: State = ()) -> tuple[Array, State]:
        """(rows, outputs), and no state."""
        rows: Array = np.asarray(features, dtype=np.float32)
        return self.values[[self._leaf(row) for row in rows]], ()

    def _leaf(self, row: Sequence[float] | Array) -> int:
        node = 0
        while self.feature[node] != LEAF:
            node = int(self.left[node] if row[self.feature[node]] <= self.threshold[node] else self.right[node])
        return node
