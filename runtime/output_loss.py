"""What changed outputs have lost against those of the dense model."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import onnx_ir as ir

from prunec.runtime.inputs import Array

PASSING = frozenset({"Identity", "Reshape", "Flatten", "Squeeze", "Cast", "Unsqueeze"})
TINY = 1e-12


class OutputLoss:
    """Divergence of class probabilities, in nats; of other outputs half their relative error.

    Classes are what a floating-point output has along its one axis behind the first, unless a
    Sigmoid makes it. Losses of several outputs add up.
    """

    def __init__(self, model: ir.Model) -> None:
        self.ends = {
            str(v.name): _made_by(v)
            for v in model.graph.outputs
            if v.dtype is None or v.dtype.is_floating_point()
        }

    @property
    def outputs(self) -> tuple[str, ...]:
        """The outputs that count."""
        return tuple(self.ends)

    def __call__(self, dense: Mapping[str, Array], changed: Mapping[str, Array]) -> float:
        """Mean over the samples of a batch; infinite where an output is no number."""
        total = 0.0
        for name, ends in self.ends.items():
            if name not in changed or dense[name].dtype.kind not in "fV":
                continue
            before, after = dense[name].astype(np.float64), changed[name].astype(np.float64)
            if not np.isfinite(after).all():
                return float("inf")
            classes = sum(size != 1 for size in before.shape[1:]) == 1 and ends != "Sigmoid"
            total += divergence(before, after, ends) if classes else distance(before, after)
        return total


def divergence(before: Array, after: Array, ends: str = "") -> float:
    """Mean over rows of ``sum p (log p - log q)``. ends: Softmax, LogSoftmax; else logits."""
    p, q = (_logs(x.reshape(len(x), -1), ends) for x in (before, after))
    return max(float((np.exp(p) * (p - q)).sum(1).mean()), 0.0)


def distance(before: Array, after: Array) -> float:
    """``|y' - y|^2 / (2 |y - mean|^2)``; the mean is over samples, or of all of a single one."""
    centre = before.mean(0) if before.ndim and len(before) > 1 else before.mean()
    spread = float(((before - centre) ** 2).sum())
    change = float(((after - before) ** 2).sum())
    return change / (2 * spread) if spread > 0 else 0.0


def _logs(rows: Array, ends: str) -> Array:
    if ends == "Softmax":
        return np.asarray(np.log(np.maximum(rows, TINY)))
    if ends == "LogSoftmax":
        return rows
    shifted = rows - rows.max(1, keepdims=True)
    return np.asarray(shifted - np.log(np.exp(shifted).sum(1, keepdims=True)))


def _made_by(value: ir.Value) -> str:
    """The operator that makes a value, behind those that only move it."""
    node = value.producer()
    while node is not None and node.op_type in PASSING and node.inputs and node.inputs[0]:
        node = node.inputs[0].producer()
    return "" if node is None else node.op_type
