"""Calibration: run the dense model on data and reduce activations to per-channel statistics."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Mapping, Sequence

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
    """Mean ``|a|`` and share of non-zeros per index of each axis, over all batches.

    The reductions run inside onnxruntime, in float64, so no activation is held longer than its
    consumers need it: memory grows neither with the number of batches nor with that of axes.
    Batches count by their number of samples. `model` is not changed. facts: for ranks only, any
    binding will do. zeros: integer value -> the value that holds its zero point ("" for 0), from
    which ``a`` then counts. Raises DataError, ModelError.
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
    totals: list[FloatArray] = []
    samples = 0
    for batch in itertools.chain([first], stream):
        count = len(next(iter(batch.values())))
        weighted = [result * count for result in session.run(batch, names)] if names else []
        for axis, mean in zip(wanted, weighted[::2], strict=True):
            if not np.isfinite(mean).all():
                raise DataError(
                    f"{axis[0]} is not finite on samples {samples} to {samples + count - 1}: "
                    "the model overflows on this data"
                )
        totals = [t + w for t, w in zip(totals, weighted, strict=True)] if totals else weighted
        samples += count
    means = [total / samples for total in totals]
    return Stats(
        dict(zip(wanted, means[::2], strict=True)),
        dict(zip(wanted, means[1::2], strict=True)),
        samples,
    )


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

    def add(self, axis: Axis) -> tuple[str, str]:
        """Outputs for an axis: mean of ``|a|``, share of ``a != 0``; (n,) float64 each."""
        name, position = axis
        if name not in self.values or name not in self.facts.shapes:
            raise ModelError(f"{name!r} is no activation of known rank; it cannot be calibrated")
        label = f"{PREFIX}.{name}.{position}"
        others = [a for a in range(len(self.facts.shapes[name])) if a != position]
        value = self._cast(self.values[name], ir.DataType.DOUBLE, label)
        zero = self.holders.get(self.zeros.get(name, ""))
        if zero is not None:
            zero = self._cast(zero, ir.DataType.DOUBLE, f"{label}.zero")
            value = self._op("Sub", [value, zero], f"{label}.centred")
        size = self._op("Abs", [value], f"{label}.abs")
        fires = self._cast(
            self._cast(value, ir.DataType.BOOL, label), ir.DataType.DOUBLE, f"{label}.fires"
        )
        means = [
            self._mean(size, others, f"{label}.mean"),
            self._mean(fires, others, f"{label}.nonzero"),
        ]
        self.model.graph.outputs.extend(means)
        return str(means[0].name), str(means[1].name)

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
