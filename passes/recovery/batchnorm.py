"""BatchNorm: the running statistics of the pruned model are those of the data."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import onnx_ir as ir

from prunec.compiler.constants import attribute
from prunec.compiler.errors import UsageError
from prunec.compiler.ops import op_key
from prunec.compiler.recovery import Array, Bench, Recovered, Repair
from prunec.passes.recovery.dirt import changed
from prunec.passes.recovery.moments import FloatArray
from prunec.passes.recovery.storage import stored


@dataclass(frozen=True, slots=True)
class BatchNorm:
    """Measure the running means and variances of BatchNormalization anew, layer by layer.

    samples: at most so many, spread evenly over the data.
    """

    name: ClassVar[str] = "batchnorm"
    needs_data: ClassVar[bool] = True
    samples: int = 1024

    def __post_init__(self) -> None:
        if self.samples < 2:
            raise UsageError("recovery 'batchnorm': samples must be at least 2")

    def __call__(self, bench: Bench) -> Recovered:
        """From the inputs to the outputs; the later norms see what the earlier ones became."""
        bench.draw(self.samples)
        dirty = changed(bench.dense, bench.pruned, bench.graph, bench.mask, bench.blocks)
        norms = [n for n in bench.pruned.graph if _is_norm(n, bench) and _input(n) in dirty]
        bench.expect([str(n.outputs[0].name) for n in norms], [_input(n) for n in norms])
        repairs = []
        for number, node in enumerate(norms):
            bench.progress(f"recovering norm {number + 1} of {len(norms)}")
            repairs.append(_measure(bench, node))
        return Recovered(tuple(repairs))


def _input(node: ir.Node) -> str:
    value = node.inputs[0]
    return "" if value is None else str(value.name)


def _is_norm(node: ir.Node, bench: Bench) -> bool:
    """Whether it has running statistics of its own; of shared ones the last reader would win."""
    if op_key(node) != "BatchNormalization" or attribute(node, "training_mode", 0):
        return False
    for value in node.inputs[1:5]:
        held = stored(value)
        if value is None or held is None or held.name != value.name:
            return False
    own = [v for v in node.inputs[3:5] if v is not None]
    return all(len(list(v.uses())) == 1 and bench.writable(str(v.name)) for v in own)


@dataclass(slots=True, eq=False)
class _Spread:
    """Count, mean and sum of squared deviations per channel, merged batch by batch.

    Source: Chan, Golub, LeVeque, Updating Formulae and a Pairwise Algorithm, 1979, eq. 2.1.
    """

    count: int
    mean: FloatArray
    squares: FloatArray

    def add(self, x: FloatArray) -> None:
        """x: (C, R) float64."""
        count, mean = x.shape[1], x.mean(axis=1)
        squares = np.square(x - mean[:, None]).sum(axis=1)
        total = self.count + count
        apart = mean - self.mean
        self.squares = self.squares + squares + apart**2 * self.count * count / max(total, 1)
        self.mean = self.mean + apart * count / max(total, 1)
        self.count = total


def _measure(bench: Bench, node: ir.Node) -> Repair:
    x, y = _input(node), str(node.outputs[0].name)
    gamma, beta, mean, variance = (str(v.name) for v in node.inputs[1:5] if v is not None)
    scale, shift, was_mean, was_variance = (
        bench.contents(name).astype(np.float64) for name in (gamma, beta, mean, variance)
    )
    epsilon = float(attribute(node, "epsilon", 1e-5))
    size = len(scale)
    spread = _Spread(0, np.zeros(size), np.zeros(size))
    for batch in bench.run([], [x], [mean, variance]):
        spread.add(_channels(batch.pruned[x]))  # labels and targets play no part: nothing is held
    new_mean, new_variance = spread.mean, spread.squares / max(spread.count, 1)
    kinds = [bench.contents(name).dtype for name in (mean, variance)]
    new: dict[str, Array] = {
        mean: new_mean.astype(kinds[0]),
        variance: new_variance.astype(kinds[1]),
    }
    before = after = whole = 0.0
    for batch in bench.run([y], [x], [mean, variance]):
        goal, own = _channels(batch.dense[y]), _channels(batch.pruned[x])
        if not batch.held or goal.shape != own.shape:  # NonZero and its like pick other rows
            continue
        whole += float(np.square(goal - goal.mean(axis=1, keepdims=True)).sum())
        before += _error(goal, own, (scale, shift, was_mean, was_variance), epsilon)
        after += _error(goal, own, (scale, shift, new_mean, new_variance), epsilon)
    bench.write(new)
    relative = [float(np.sqrt(error / whole)) if whole else 0.0 for error in (before, after)]
    return Repair(str(node.name), node.op_type, relative[0], relative[1])


def _error(goal: FloatArray, x: FloatArray, parts: Sequence[FloatArray], epsilon: float) -> float:
    scale, shift, mean, variance = (part[:, None] for part in parts)
    y = (x - mean) / np.sqrt(variance + epsilon) * scale + shift
    return float(np.square(y - goal).sum())


def _channels(array: Array) -> FloatArray:
    """(C, R)."""
    return np.moveaxis(array, 1, 0).reshape(array.shape[1], -1).astype(np.float64)
