"""Models written as text: control flow and functions are hard to read as nested helper calls."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import numpy_helper

HEAD = '<ir_version: 9, opset_import: ["" : 18, "my" : 1]>\n'
WEIGHTS = np.array([-2, -1, 1, 2], np.float32)


def weight(seed: int, *shape: int) -> NDArray[np.float32]:
    """Small integers without zero: sums are exact and every channel matters."""
    return np.random.default_rng(seed).choice(WEIGHTS, shape)


def written(text: str, head: str = HEAD, **stored: Any) -> onnx.ModelProto:
    """A checked model from its text and the contents of its initializers."""
    model = onnx.parser.parse_model(head + text)
    tensors = [numpy_helper.from_array(np.asarray(array), name) for name, array in stored.items()]
    model.graph.initializer.extend(tensors)
    onnx.checker.check_model(model, full_check=True)
    return model
