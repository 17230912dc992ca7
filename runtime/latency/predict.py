"""Latency of any plan from measured cells: as a number, and as a cost for the solvers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import product

import numpy as np

from prunec.compiler.cost import Linear, Polynomial, Table, Tabled
from prunec.compiler.errors import ProfileError, UsageError
from prunec.compiler.latency import MODELS, PERIOD, IntArray, Predict, Quality, Samples, quality
from prunec.compiler.spec import suggest
from prunec.runtime.latency.profile import Measured
from prunec.runtime.latency.segments import Segment, segments
from prunec.runtime.subject import Subject

MOST_POINTS = 256  # per axis of a table
FOLDS = 5
LEAST_NS = 1.0  # a fit may cross zero where it was not measured; time does not


@dataclass(frozen=True, slots=True, eq=False)
class Predictor:
    """Latency of a model at any kept counts, in nanoseconds. fits: by the key of a cell."""

    model: str
    parts: tuple[Segment, ...]
    fits: Mapping[str, Predict] = field(repr=False)
    samples: Mapping[str, Samples] = field(repr=False)

    def __call__(self, counts: Sequence[int]) -> float:
        """Sum over the parts that these kept counts leave."""
        return sum(
            float(self.at(part, np.array([part.sizes(counts)], np.int64))[0])
            for part in self.parts
            if all(part.sizes(counts))
        )

    def at(self, part: Segment, sizes: IntArray) -> np.ndarray[tuple[int], np.dtype[np.float64]]:
        """(n,) nanoseconds of one part at (n, d) sizes of its factors."""
        return np.maximum(self.fits[part.key](sizes), LEAST_NS)

    def qualities(self) -> dict[str, Quality]:
        """Per cell, how well its fit agrees with the measurements.

        `lut` repeats what was measured, so each fifth is predicted from the others; `m5` and `m6`
        are held against what they were fitted to, as published.
        """
        return {key: self._quality(key) for key in sorted(self.fits)}

    def _quality(self, key: str) -> Quality:
        own = self.samples[key]
        folds = min(FOLDS, len(own.times))
        if self.model != "lut" or folds < 2:
            return quality(self.fits[key](own.sizes), own.times)
        fold = np.arange(len(own.times)) % folds
        predicted = np.empty(len(own.times))
        for k in range(folds):
            rest = Samples(own.sizes[fold != k], own.times[fold != k])
            predicted[fold == k] = MODELS[self.model](rest)(own.sizes[fold == k])
        return quality(predicted, own.times)

    def cost(self, levels: Sequence[IntArray]) -> Tabled:
        """The same as a cost: tables over all sizes that the levels reach; it costs no less.

        Parts with the same factors share a table. Where more than two sizes vary, time is taken
        to grow with their product.
        """
        constant: list[tuple[float, tuple[Linear, ...]]] = []
        tables: dict[tuple[Linear, ...], Table] = {}
        for part in self.parts:
            if not part.factors:
                constant.append((float(self.at(part, np.zeros((1, 0), np.int64))[0]), ()))
            elif len(part.factors) > 2:
                constant.append(self._by_product(part, levels))
            else:
                own = self._table(part, levels)
                before = tables.get(part.factors)
                values = own.values if before is None else own.values + before.values
                tables[part.factors] = Table(own.factors, own.points, values)
        return Tabled(Polynomial.of(constant), tuple(tables[key] for key in sorted(tables)))

    def _table(self, part: Segment, levels: Sequence[IntArray]) -> Table:
        points = tuple(reachable(factor, levels) for factor in part.factors)
        grid = np.array(list(product(*points)), np.int64)
        values = self.at(part, grid).reshape([len(p) for p in points])
        values.flags.writeable = False
        return Table(part.factors, points, values)

    def _by_product(
        self, part: Segment, levels: Sequence[IntArray]
    ) -> tuple[float, tuple[Linear, ...]]:
        dense = part.sizes([int(own[-1]) for own in levels])
        whole = float(self.at(part, np.array([dense], np.int64))[0])
        return whole / float(np.prod(dense)), part.factors


def predictor(subject: Subject, measured: Measured, model: str) -> Predictor:
    """Fit a model to the cells of a network. Raises ProfileError where any lack or are small."""
    if model not in MODELS:
        raise UsageError(f"unknown latency model {model!r}{suggest(model, MODELS)}")
    parts = segments(subject)
    samples = {part.key: measured.samples(part.key) for part in parts}
    missing = [key for key, own in samples.items() if own is None]
    if missing:
        raise ProfileError(
            f"the profile lacks {len(missing)} of the {len(samples)} cells of this model "
            f"(the first: {missing[0][:80]}); add them with "
            "prunec profile MODEL -o PROFILE, with the same provider, threads, batch and shapes"
        )
    known = {key: own for key, own in samples.items() if own is not None}
    for part in parts:
        _check_reach(part, known[part.key], subject.graph.dense())
    fits = {key: MODELS[model](own) for key, own in known.items()}
    return Predictor(model, parts, fits, known)


def _check_reach(part: Segment, samples: Samples, dense: Sequence[int]) -> None:
    """Cells of other models may be smaller: what is beyond them is a guess."""
    wanted = part.sizes(dense)
    if samples.sizes.shape[1] != len(wanted):
        raise ProfileError(
            f"the profile is damaged: cell {part.key[:80]} has {samples.sizes.shape[1]} sizes a "
            f"row, not {len(wanted)}"
        )
    most = samples.sizes.max(axis=0)
    if (most < np.array(wanted, np.int64)).any():
        raise ProfileError(
            f"the profile measured cell {part.key[:80]} up to {_sizes(most.tolist())}, this model "
            f"has {_sizes(wanted)}; add that with prunec profile MODEL -o PROFILE"
        )


def _sizes(counts: Sequence[int]) -> str:
    return " x ".join(map(str, counts))


def reachable(factor: Linear, levels: Sequence[IntArray]) -> IntArray:
    """Sizes above 0 that a factor can have, ascending.

    Where they are too many, the first and the last of each block of `PERIOD`: a staircase is flat
    between these, so a table that is linear between its points keeps it.
    """
    sizes = np.array([factor.constant], np.int64)
    for e, multiplicity in factor.terms:
        sizes = np.unique(np.add.outer(sizes, multiplicity * levels[e]))
    sizes = sizes[sizes > 0]
    if len(sizes) > MOST_POINTS:
        block = (sizes - 1) // PERIOD
        new = np.diff(block, prepend=-1, append=block[-1] + 1) != 0
        sizes = sizes[new[:-1] | new[1:]]
    return sizes
