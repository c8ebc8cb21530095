"""The network of a Stable-Baselines3 model as plain arrays for `rlscale.network`. Needs torch."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from agents._standardise import Standardise
from rlscale.features import NAMES
from rlscale.network import Network


def to_network(extractor: Any, layers: Iterable[torch.nn.Module], activation: str) -> Network:
    """Dense layers, in their order, behind a features extractor."""
    tensors: dict[str, NDArray[np.float32]] = {}
    if isinstance(extractor, Standardise):
        tensors["normalise.mean"], tensors["normalise.std"] = _array(extractor.mean), _array(extractor.std)
    dense = [layer for layer in layers if isinstance(layer, torch.nn.Linear)]
    for i, layer in enumerate(dense):
        tensors[f"{i}.weight"], tensors[f"{i}.bias"] = _array(layer.weight), _array(layer.bias)
    return Network(tensors, len(NAMES), dense[-1].out_features, "mlp", activation)


def _array(tensor: Any) -> NDArray[np.float32]:
    return np.array(tensor.detach().cpu().numpy(), dtype=np.float32)
