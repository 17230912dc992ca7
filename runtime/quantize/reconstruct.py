"""Integers of weights, layer by layer, so that each layer answers like the float one."""

from __future__ import annotations

import zlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from prunec.compiler.errors import DataError
from prunec.compiler.facts import Facts
from prunec.compiler.quantisation import FloatArray, Grid, Rounding
from prunec.compiler.recovery import Array
from prunec.passes.insert import values_by_name
from prunec.passes.quantize.simulate import simulated
from prunec.passes.quantize.weights import Evidence, rounded, shift_of
from prunec.passes.recovery.places import drawn
from prunec.passes.recovery.sites import Site, Use, find_sites
from prunec.passes.recovery.storage import store, tensor_of
from prunec.passes.recovery.tails import Slot
from prunec.runtime.data import DataSpec
from prunec.runtime.recovery.recover import Running
from prunec.runtime.recovery.samples import Samples
from prunec.runtime.recovery.walk import Walk

SAMPLES = 1024
LEAST_ROWS = 4096
LARGEST = 6000  # inputs of an output; of more, the moments take 300 MB and the rounding minutes
Codes = NDArray[np.int32]


@dataclass(frozen=True, slots=True)
class LayerError:
    """What quantising costs a layer: squared error of its outputs against the float model's, over
    their square (about their mean where a bias takes up a shift), with the inputs that the
    quantised model has, on the data that it was fitted to. nearest: with nearest integers; chosen:
    with those of the rounding.
    """

    layer: str
    nearest: float
    chosen: float


@dataclass(frozen=True, slots=True, eq=False)
class Reconstructed:
    """codes: of each weight, of its shape. biases: new contents of stored biases, float32."""

    codes: Mapping[str, Codes]
    biases: Mapping[str, Array]
    errors: tuple[LayerError, ...] = ()


@dataclass(frozen=True, slots=True)
class Fitting:
    """rounding: of weights. correction: biases take up what shifts the mean of an output.

    samples: of the data at most. rows: of the data per input of a layer, and `LEAST_ROWS` at least:
    positions of feature maps, drawn by the seed.
    """

    rounding: Rounding
    correction: bool = True
    samples: int = SAMPLES
    rows: int = 8
    seed: int = 0


def reconstruct(
    model: ir.Model,
    facts: Facts,
    activations: Mapping[str, Grid],
    weights: Mapping[str, Grid],
    fitting: Fitting,
    data: DataSpec | None,
    running: Running | None = None,
    progress: Callable[[str], None] = lambda _: None,
) -> Reconstructed:
    """Integers for all weights that have a grid, and biases that go with them.

    model: float, norms folded, operator set 11 or later; not changed. activations: grids of values
    of it: each layer is fitted on inputs as they come out of the layers before it, whose weights
    are integers by then. A weight whose layer can't be solved for (see `find_sites`), or that has
    more than `LARGEST` inputs per output, is rounded without data. Raises DataError, ModelError.
    """
    tensors = values_by_name(model.graph)
    floats = {name: _contents(tensors[name]) for name in weights}
    sites = [s for s in find_sites(model, facts)[0] if s.weight.name in weights]
    plain = {site.weight.name: _codes(site, floats, weights, fitting.rounding) for site in sites}
    codes = {name: plain.get(name, grid.codes(floats[name])) for name, grid in weights.items()}
    if data is None or not (fitting.rounding.needs_data or fitting.correction):
        return Reconstructed(codes, {})
    work = _Work(model, simulated(model, facts, activations), fitting, data, running or Running())
    work.expect(sites)
    for name in codes.keys() - plain.keys():  # rounded before anything is run
        work.write(name, weights[name].values(codes[name]))
    biases: dict[str, Array] = {}
    errors = []
    for number, site in enumerate(sites):
        name = site.weight.name
        progress(f"rounding {number + 1} of {len(sites)}: {site.name}")
        seen = work.measure(site)
        evidence = None if seen is None else seen.evidence()
        codes[name] = _codes(site, floats, weights, fitting.rounding, evidence)
        values = weights[name].values(codes[name])
        work.write(name, values)
        if seen is None or evidence is None:
            continue
        matrix, new = (_matrix(site, array) for array in (floats[name], values))
        near = _matrix(site, weights[name].fake(floats[name]))
        before, after = (evidence.relative_error(matrix, m) for m in (near, new))
        errors.append(LayerError(site.name, before, after))
        if seen.slot is not None:
            shift = shift_of(matrix, new, seen.floats / seen.rows, seen.sums / seen.rows)
            biases[seen.slot.name] = work.shift(seen.slot, shift.reshape(-1))
    return Reconstructed(codes, biases, tuple(errors))


def _codes(
    site: Site,
    floats: Mapping[str, Array],
    weights: Mapping[str, Grid],
    rounding: Rounding,
    evidence: Evidence | None = None,
) -> Codes:
    name, form = site.weight.name, site.uses[0].form
    return rounded(form, floats[name], weights[name], rounding, evidence, site.weight)


def _matrix(site: Site, array: Array) -> FloatArray:
    return site.uses[0].form.matrix(site.weight.read(array))


def _contents(value: ir.Value) -> Array:
    tensor = tensor_of(value)
    assert tensor is not None, value.name
    return tensor.numpy()


class _Work:
    """The float model beside the one that becomes integers, on the same samples."""

    def __init__(
        self, model: ir.Model, quantised: ir.Model, fitting: Fitting, data: DataSpec, how: Running
    ) -> None:
        self._samples = Samples(data, model, judged=False)
        self._samples.draw(fitting.samples)
        self._fitting = fitting
        half = how.limit_bytes // 2
        self._float, self._own = (
            Walk(m, self._samples, half, how.provider, how.threads) for m in (model, quantised)
        )
        self._values = values_by_name(quantised.graph)
        self._nodes = {str(node.name): node for node in quantised.graph}

    def expect(self, sites: Sequence[Site]) -> None:
        """What will be asked for is not forgotten until then."""
        uses = [use for site in sites for use in site.uses]
        self._float.later |= {use.x for use in uses}
        self._own.later |= {self._read(use) for use in uses}

    def write(self, name: str, array: Array) -> None:
        """Let the quantised model have these weights."""
        store(self._values[name], array)
        self._own.forget([name])

    def shift(self, slot: Slot, shift: FloatArray) -> Array:
        """Let a bias take up a shift of (M,); returns its new contents."""
        old = _contents(self._values[slot.name])
        new = (old + (shift * slot.gain).reshape(old.shape)).astype(old.dtype)
        self.write(slot.name, new)
        return new

    def measure(self, site: Site) -> Seen | None:
        """Moments of what the weight multiplies; None where they would be too large."""
        groups, inputs, outputs = site.uses[0].form.matrix(np.zeros(site.weight.shape)).shape
        if inputs > LARGEST:
            return None
        own = [self._read(use) for use in site.uses]
        alone = len(site.uses) == 1 and self._fitting.correction
        slot = site.uses[0].slot if alone else None
        seen = Seen.empty((groups, inputs, outputs), slot)
        changing = [site.weight.name]
        pairs = zip(
            self._float.run([name for use in site.uses for name in (use.x, use.y)]),
            self._own.run(own, changing),
            strict=True,
        )
        for batch, (whole, quantised) in enumerate(pairs):
            for use, name in zip(site.uses, own, strict=True):
                shape = tuple(whole[use.y].shape)
                spot = self._spot(use, shape, batch, inputs)
                rows = [use.form.rows(x, shape, spot) for x in (whole[use.x], quantised[name])]
                y = use.form.outputs(whole[use.y], spot) - use.bias.reshape(groups, 1, -1)
                if not (np.isfinite(y).all() and np.isfinite(rows[1]).all()):
                    raise DataError(f"{use.y} is not finite on the calibration data: it overflows")
                seen.add(rows[0], rows[1], y)
        return seen

    def _spot(self, use: Use, shape: tuple[int, ...], batch: int, inputs: int) -> NDArray[np.int64]:
        """Which places of an output of this shape are looked at."""
        number, rows = use.form.places(shape)
        wanted = max(LEAST_ROWS, self._fitting.rows * inputs)
        each = -(-wanted * self._samples.size // (self._samples.total * rows))
        seed = (self._fitting.seed, zlib.crc32(str(use.node.name).encode()), batch)
        return drawn(number, max(each, 1), seed)

    def _read(self, use: Use) -> str:
        """What the node reads in the quantised model: the value itself, or its fake."""
        value = self._nodes[str(use.node.name)].inputs[use.form.data]
        assert value is not None, use.node.name
        return str(value.name)


@dataclass(slots=True, eq=False)
class Seen:
    """Sums over rows of what a weight multiplies. slot: what takes up a shift of the output.

    moments: (G, D, D) of ``q^T q``; cross: of ``q^T x``; sums, floats: (G, D) of q and of x; q of
    the quantised model, x of the float one. squares: of the float outputs y, without their bias;
    means: (G, M) sum of y.
    """

    moments: FloatArray
    cross: FloatArray
    sums: FloatArray
    floats: FloatArray
    means: FloatArray
    slot: Slot | None
    squares: float = 0.0
    rows: int = 0
    _waiting: list[tuple[FloatArray, FloatArray]] = field(default_factory=list)

    @classmethod
    def empty(cls, shape: tuple[int, ...], slot: Slot | None) -> Seen:
        """Of no rows. shape: (G, D, M)."""
        groups, inputs, outputs = shape
        square, line = (np.zeros((groups, inputs, k)) for k in (inputs, 1))
        ends = line[:, :, 0], line[:, :, 0].copy(), np.zeros((groups, outputs))
        return cls(square, square.copy(), *ends, slot)

    def add(self, x: FloatArray, q: FloatArray, y: FloatArray) -> None:
        """(G, R, D) rows of the float and of the quantised model; (G, R, M) the float output."""
        self._waiting.append((x, q))
        if sum(rows.shape[1] for _, rows in self._waiting) >= q.shape[2]:
            self._multiply()
        self.sums += q.sum(axis=1)
        self.floats += x.sum(axis=1)
        self.means += y.sum(axis=1)
        self.squares += float(np.square(y).sum())
        self.rows += x.shape[1]

    def _multiply(self) -> None:
        """Take in the waiting rows: few large products instead of many, each as large as a sum."""
        if not self._waiting:
            return
        x, q = (np.concatenate(rows, axis=1) for rows in zip(*self._waiting, strict=True))
        for g, own in enumerate(q):
            self.moments[g] += own.T @ own
            self.cross[g] += own.T @ x[g]
        self._waiting.clear()

    def evidence(self) -> Evidence:
        """Means over rows; about the means of q and x where a bias takes up a shift."""
        self._multiply()
        moments, cross = self.moments / self.rows, self.cross / self.rows
        energy = self.squares / self.rows
        if self.slot is not None:
            q, x = self.sums / self.rows, self.floats / self.rows
            moments -= q[:, :, None] * q[:, None, :]
            cross -= q[:, :, None] * x[:, None, :]
            energy -= float(np.square(self.means / self.rows).sum())
        return Evidence(moments, cross, energy)
