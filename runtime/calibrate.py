"""Calibration: run the dense model on data and reduce activations to per-channel statistics."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import onnx_ir as ir

from prunec.compiler.errors import DataError, ModelError
from prunec.compiler.facts import Facts
from prunec.compiler.hypergraph import Axis
from prunec.compiler.stats import FloatArray, Stats
from prunec.frontends.shapes import infer_facts
from prunec.runtime.inputs import Feeds
from prunec.runtime.session import make_session
from prunec.runtime.trial import require_survival

PREFIX = "prunec.calibration"
AXES_ARE_AN_INPUT = 18  # opset of ReduceMean


def collect(
    model: ir.Model,
    axes: Sequence[Axis],
    feeds: Iterable[Feeds],
    *,
    facts: Facts | None = None,
    zeros: Mapping[str, str] | None = None,
    provider: str = "cpu",
    threads: int = 1,
) -> Stats:
    """Statistics of ``|a|`` and of ``a != 0`` per index of each axis, over all batches.

    Means over samples, and running averages over batches, ``M <- (t M + m) / (t + 1)`` with ``m``
    of batch ``t`` (mdpi2022, `MagnitudePruningCallback`). The reductions run inside onnxruntime,
    in float64, so no activation is held longer than its consumers need it: memory grows neither
    with the number of batches nor with that of axes. In the means batches count by their number
    of samples, in the running averages all the same. `model` is not changed. facts: for ranks
    only, any binding will do. zeros: integer value -> the value that holds its zero point ("" for
    0), from which ``a`` then counts. Raises DataError, ModelError.
    """
    stream = iter(feeds)
    first = next(stream, None)
    if first is None:
        raise DataError("the calibration data holds no sample")
    if facts is None:
        facts = infer_facts(model, {name: array.shape for name, array in first.items()})
    probes = _Probes(model, facts, zeros or {})
    wanted = tuple(dict.fromkeys(axes))
    names = [name for axis in wanted for name in probes.add(axis)]
    require_survival(model, first)
    session = make_session(probes.model, provider=provider, threads=threads)
    totals = {axis: _Totals() for axis in wanted}
    samples = batches = 0
    for batch in itertools.chain([first], stream):
        count = len(next(iter(batch.values())))
        results = session.run(batch, names) if names else []
        for axis, size, fires, below in zip(
            wanted, results[::3], results[1::3], results[2::3], strict=True
        ):
            if not np.isfinite(size).all():
                raise DataError(
                    f"{axis[0]} is not finite on samples {samples} to {samples + count - 1}: "
                    "the model overflows on this data"
                )
            totals[axis].add(size, fires, lowest_is_zero(fires, below), count)
        samples += count
        batches += 1
    return Stats(
        {axis: t.size / samples for axis, t in totals.items()},
        {axis: t.fires / samples for axis, t in totals.items()},
        samples,
        running={axis: t.running / batches for axis, t in totals.items()},
        frequency={axis: t.frequency / batches for axis, t in totals.items()},
    )


def lowest_is_zero(nonzero: FloatArray, negative: FloatArray) -> bool:
    """Whether 0 is the smallest element: some are, none is below.

    nonzero: (n,) shares of elements with ``a != 0``. negative: share of those with ``a < 0``.
    """
    return bool(nonzero.size and nonzero.min() < 1 and not negative.any())


@dataclass(slots=True)
class _Totals:
    """Sums over the batches of what one axis shows; lives inside `collect`."""

    size: FloatArray = field(default_factory=lambda: np.zeros(1))
    fires: FloatArray = field(default_factory=lambda: np.zeros(1))
    running: FloatArray = field(default_factory=lambda: np.zeros(1))
    frequency: FloatArray = field(default_factory=lambda: np.zeros(1))

    def add(self, size: FloatArray, fires: FloatArray, rectified: bool, samples: int) -> None:
        """Add the means (n,) of a batch; rectified: its smallest element is 0."""
        self.size = self.size + size * samples
        self.fires = self.fires + fires * samples
        self.running = self.running + size
        # A frequency means something behind a ReLU only; elsewhere the published rule takes |a|.
        self.frequency = self.frequency + (fires if rectified else size)


class _Probes:
    """A clone of a model (sharing its weights) that grows reductions of its activations."""

    def __init__(self, model: ir.Model, facts: Facts, zeros: Mapping[str, str]) -> None:
        self.model = model.clone()
        self.facts = facts
        self.zeros = zeros
        graph = self.model.graph
        self.values = {v.name: v for node in graph for v in node.outputs}
        self.values |= {v.name: v for v in graph.inputs}
        self.holders = self.values | {v.name: v for v in graph.initializers.values()}
        self.opset = self.model.opset_imports.get("", self.model.opset_imports.get("ai.onnx", 1))
        graph.outputs.clear()  # nothing but the statistics leaves onnxruntime

    def add(self, axis: Axis) -> tuple[str, ...]:
        """Outputs for an axis: mean of ``|a|``, shares of ``a != 0`` and ``a < 0``; float64.

        (n,) each, the last of which is () for the whole value.
        """
        name, position = axis
        if name not in self.values or name not in self.facts.shapes:
            raise ModelError(f"{name!r} is no activation of known rank; it cannot be calibrated")
        label = f"{PREFIX}.{name}.{position}"
        rank = len(self.facts.shapes[name])
        others = [a for a in range(rank) if a != position]
        value = self._cast(self.values[name], ir.DataType.DOUBLE, label)
        zero = self.holders.get(self.zeros.get(name, ""))
        if zero is not None:
            zero = self._cast(zero, ir.DataType.DOUBLE, f"{label}.zero")
            value = self._op("Sub", [value, zero], f"{label}.centred")
        size = self._op("Abs", [value], f"{label}.abs")
        fires = self._cast(
            self._cast(value, ir.DataType.BOOL, label), ir.DataType.DOUBLE, f"{label}.fires"
        )
        gap = self._op("Sub", [size, value], f"{label}.gap")  # 0 unless negative, then 2 |a|
        below = self._cast(
            self._cast(gap, ir.DataType.BOOL, label + ".gap"), ir.DataType.DOUBLE, f"{label}.below"
        )
        means = [
            self._mean(size, others, f"{label}.mean"),
            self._mean(fires, others, f"{label}.nonzero"),
            self._mean(below, list(range(rank)), f"{label}.negative"),
        ]
        self.model.graph.outputs.extend(means)
        return tuple(str(mean.name) for mean in means)

    def _cast(self, value: ir.Value, dtype: ir.DataType, label: str) -> ir.Value:
        return self._op("Cast", [value], f"{label}.{dtype.name.lower()}", to=int(dtype))

    def _mean(self, value: ir.Value, axes: Sequence[int], name: str) -> ir.Value:
        if not axes:
            return self._op("Identity", [value], name)
        if self.opset < AXES_ARE_AN_INPUT:
            return self._op("ReduceMean", [value], name, axes=list(axes), keepdims=0)
        tensor = ir.tensor(np.array(axes, np.int64), name=f"{name}.axes")
        operand = ir.Value(
            name=tensor.name,
            shape=ir.Shape([len(axes)]),
            type=ir.TensorType(ir.DataType.INT64),
            const_value=tensor,
        )
        self.model.graph.register_initializer(operand)
        return self._op("ReduceMean", [value, operand], name, keepdims=0)

    def _op(
        self, op: str, inputs: Sequence[ir.Value], name: str, **attributes: int | list[int]
    ) -> ir.Value:
        out = ir.Value(name=name)
        node = ir.node(op, inputs, attributes, outputs=[out], name=name)
        self.model.graph.append(node)
        return out
