"""Calibration for quantisation: the ranges of a float model's values on data."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from math import prod

import numpy as np
import onnx_ir as ir

from prunec.compiler.errors import DataError, ModelError
from prunec.compiler.facts import Facts
from prunec.compiler.quantisation import FloatArray, Grid, Quantiser, Range, Reducer
from prunec.frontends.shapes import infer_facts
from prunec.passes.insert import values_by_name
from prunec.runtime.inputs import Array, Feeds, model_inputs
from prunec.runtime.recovery.part import part
from prunec.runtime.session import Session, make_session
from prunec.runtime.trial import require_survival

LIMIT_BYTES = 2**29  # of values of one batch that are held at once
UNKNOWN_BYTES = 2**26  # taken for a value whose shape is not known
ELEMENT_BYTES = 4


@dataclass(frozen=True, slots=True, eq=False)
class Calibration:
    """What the data says of the wanted values.

    axes: value -> the axis along which it has ranges of its own, or None. samples: how many.
    """

    reducers: Mapping[str, Reducer]
    axes: Mapping[str, int | None]
    samples: int

    def ranges(self, name: str, quantiser: Quantiser, bits: int) -> tuple[FloatArray, FloatArray]:
        """Low and high of a value, (n,) each, for the grids of this quantiser."""
        return self.reducers[name].ranges(partial(_fit, quantiser.alone(), bits, self.axes[name]))

    def grid(self, name: str, quantiser: Quantiser, bits: int) -> Grid:
        """The integers that a value takes."""
        low, high = self.ranges(name, quantiser, bits)
        return quantiser(low, high, bits, self.axes[name])


def _fit(
    quantiser: Quantiser, bits: int, axis: int | None, low: FloatArray, high: FloatArray
) -> Grid:
    return quantiser(low, high, bits, axis)


def calibrate(
    model: ir.Model,
    wanted: Mapping[str, int | None],
    feeds: Iterable[Feeds],
    ranges: Range,
    *,
    facts: Facts | None = None,
    provider: str = "cpu",
    threads: int = 1,
    limit_bytes: int = LIMIT_BYTES,
) -> Calibration:
    """Run a model over batches and reduce the wanted values to what their ranges come from.

    wanted: value -> axis with a range per index, or None. Batches stream through onnxruntime; of
    each, at most `limit_bytes` of wanted values are held at once (one value at least): where they
    are more, the front of the model runs again. Memory does not grow with the number of batches.
    `model` is not changed; facts: its shapes, whatever the batch. Raises DataError, ModelError.
    """
    stream = iter(feeds)
    first = next(stream, None)
    if first is None:
        raise DataError("the calibration data holds no sample")
    facts = facts or infer_facts(model, {name: array.shape for name, array in first.items()})
    require_survival(model, first)
    _require_values(model, facts, wanted)
    fed = [spec.name for spec in model_inputs(model) if spec.name in wanted]
    inner = [name for name in wanted if name not in fed]
    sessions = [
        (names, make_session(part(model, {}, names), provider=provider, threads=threads))
        for names in _groups(inner, facts, first, limit_bytes)
    ]
    reducers = {
        name: ranges.start(1 if axis is None else facts.shapes[name][axis])
        for name, axis in wanted.items()
    }
    samples = 0
    for batch in itertools.chain([first], stream):
        for name in fed:
            _add(reducers[name], name, wanted[name], batch[name], samples)
        for names, session in sessions:
            for name, array in zip(names, _run(session, batch, names), strict=True):
                _add(reducers[name], name, wanted[name], array, samples)
        samples += len(next(iter(batch.values())))
    return Calibration(reducers, dict(wanted), samples)


def _run(session: Session, batch: Feeds, names: Sequence[str]) -> list[Array]:
    own = {spec.name: batch[spec.name] for spec in session.inputs}
    return session.run(own, names)


def _add(reducer: Reducer, name: str, axis: int | None, array: Array, samples: int) -> None:
    if not np.isfinite(array).all():
        raise DataError(
            f"{name} is not finite on the calibration data, in the batch from sample {samples} on: "
            "the model overflows there"
        )
    if array.dtype not in (np.float32, np.float64):
        array = array.astype(np.float32)
    if axis is None:
        reducer.add(array.reshape(1, -1))
    else:
        turned = np.moveaxis(array, axis, 0)
        reducer.add(turned.reshape(len(turned), -1))


def _require_values(model: ir.Model, facts: Facts, wanted: Mapping[str, int | None]) -> None:
    """Raise ModelError unless all are values of the main graph, of known rank where it matters."""
    known = values_by_name(model.graph)
    for name, axis in wanted.items():
        if name not in known or (axis is not None and name not in facts.shapes):
            raise ModelError(f"{name!r} is no activation of known rank; it cannot be calibrated")


def _groups(
    names: Sequence[str], facts: Facts, batch: Feeds, limit: int
) -> Iterator[tuple[str, ...]]:
    """Wanted values in stretches whose arrays stay within the limit, in order."""
    group: list[str] = []
    held = 0
    for name in names:
        shape = facts.shapes.get(name)
        size = UNKNOWN_BYTES if shape is None else _bytes(shape, facts, batch)
        if group and held + size > limit:
            yield tuple(group)
            group, held = [], 0
        group.append(name)
        held += size
    if group:
        yield tuple(group)


def _bytes(shape: tuple[int, ...], facts: Facts, batch: Feeds) -> int:
    """Of a value of this shape in `facts`, on this batch: as many times as it has samples."""
    known = next((facts.shapes[name] for name in batch if facts.shapes.get(name)), (1,))
    times = len(next(iter(batch.values()))) / max(known[0], 1)
    return round(ELEMENT_BYTES * prod(shape) * max(times, 1.0))
