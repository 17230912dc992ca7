"""Costs at kept counts that change one hyperedge at a time."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from prunec.compiler.cost import Linear, Row, Table
from prunec.compiler.problem import FloatArray, IntArray

UNIT = Linear(1)


@dataclass(frozen=True, slots=True, eq=False)
class _Share:
    """The terms that one hyperedge is in. index, slope: (terms, degree); weight: (rows, terms)."""

    index: IntArray
    slope: FloatArray
    weight: FloatArray
    tables: tuple[int, ...]


class Meter:
    """All rows of a problem at the current kept counts; float64, exact below 2**53."""

    def __init__(self, rows: Sequence[Row], counts: Sequence[int]) -> None:
        self.counts = [int(n) for n in counts]
        factors: dict[Linear, int] = {UNIT: 0}
        terms = [(r, t.scale, t.factors) for r, row in enumerate(rows) for t in row.terms]
        degree = max((len(f) for _, _, f in terms), default=1) or 1
        index = np.zeros((len(terms), degree), np.int64)
        for t, (_, _, own) in enumerate(terms):
            for d, factor in enumerate(own):
                index[t, d] = factors.setdefault(factor, len(factors))
        self._tables: list[tuple[int, Table, list[int]]] = [
            (r, table, [factors.setdefault(f, len(factors)) for f in table.factors])
            for r, row in enumerate(rows)
            for table in row.tables
        ]
        weight = np.zeros((len(rows), len(terms)))
        for t, (r, scale, _) in enumerate(terms):
            weight[r, t] = scale
        self._slopes = np.zeros((len(factors), len(self.counts)))
        for factor, f in factors.items():
            for e, m in factor.terms:
                self._slopes[f, e] = m
        constants = np.array([f.constant for f in factors], np.float64)
        self._sizes = constants + self._slopes @ np.array(self.counts, np.float64)
        self._shares = [self._share(e, index, weight) for e in range(len(self.counts))]
        products = self._sizes[index].prod(axis=1)
        self.values = weight @ products
        for r, table, sized in self._tables:
            self.values[r] += self._at(table, sized)

    def _share(self, e: int, index: IntArray, weight: FloatArray) -> _Share:
        slope = self._slopes[:, e][index]
        mine = np.flatnonzero(slope.any(axis=1))
        tables = tuple(
            k for k, (_, _, own) in enumerate(self._tables) if self._slopes[own, e].any()
        )
        return _Share(index[mine], slope[mine], np.ascontiguousarray(weight[:, mine]), tables)

    def _at(self, table: Table, own: Sequence[int]) -> float:
        sizes = [np.array([round(self._sizes[f])], np.int64) for f in own]
        return float(table.at(sizes).flat[0])

    def along(self, e: int, ks: IntArray | FloatArray) -> FloatArray:
        """(rows, len(ks)) values where hyperedge e alone has these kept counts."""
        share = self._shares[e]
        sizes = self._sizes[share.index]
        steps = np.asarray(ks, np.float64) - self.counts[e]
        moved = (sizes[:, :, None] + share.slope[:, :, None] * steps).prod(axis=1)
        change = share.weight @ (moved - sizes.prod(axis=1)[:, None])
        for k in share.tables:
            row, table, own = self._tables[k]
            change[row] += self._along(table, own, e, steps) - self._at(table, own)
        out: FloatArray = self.values[:, None] + change
        return out

    def _along(
        self, table: Table, own: Sequence[int], e: int, steps: FloatArray
    ) -> NDArray[np.float64]:
        moving = [d for d, f in enumerate(own) if self._slopes[f, e]]
        sizes = []
        for d, f in enumerate(own):
            wanted = self._sizes[f] + (self._slopes[f, e] * steps if d in moving else np.zeros(1))
            sizes.append(np.rint(wanted).astype(np.int64))
        grid = table.at(sizes)
        every = np.arange(len(steps))
        return np.asarray(grid[tuple(every if d in moving else 0 for d in range(len(own)))])

    def set(self, e: int, n: int) -> None:
        """Change one kept count."""
        if n != self.counts[e]:
            self.values = self.along(e, np.array([n]))[:, 0]
            self._sizes = self._sizes + self._slopes[:, e] * (n - self.counts[e])
            self.counts[e] = n

    def slope(self, e: int) -> FloatArray:
        """(rows,) what one more group of hyperedge e costs here."""
        n = self.counts[e]
        low, high = self.along(e, np.array([max(n - 1, 0), max(n, 1)])).T
        return np.asarray(high - low)
