"""Score matrices of the convolutions of a ResNet-20 file."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import numpy_helper


def resnet20_scores(path: Path) -> dict[str, NDArray[np.float64]]:
    """Name -> (F, C) norms of the kernels."""
    tensors = {t.name: numpy_helper.to_array(t) for t in onnx.load(path).graph.initializer}
    return {
        name: np.sqrt(np.square(weight.astype(np.float64)).sum((2, 3)))
        for name, weight in tensors.items()
        if weight.ndim == 4
    }
