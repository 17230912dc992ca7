"""Maximise a sum of tables over discrete variables by eliminating one variable after another."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Table = NDArray[np.float64]
Scope = tuple[int, ...]
Index = tuple[slice | None, ...]


@dataclass(frozen=True, slots=True, eq=False)
class _Step:
    """One variable and the tables that mention it.

    views: (table, permutation, index that makes it broadcast over ``(batch, *rest, variable)``).
    out: number of the table that this step makes. decides: whether its choice is the variable's.
    """

    variable: int
    rest: Scope
    views: tuple[tuple[int, tuple[int, ...], Index], ...]
    out: int
    decides: bool


class Elimination:
    """The steps for tables with these scopes; reusable for any contents.

    sizes: of the variables. Tables are (batch or 1, *sizes of the scope). Where a step would need
    more than `limit` entries per batch item, it treats the tables of the variable in several parts,
    each with its own value for it: the maximum is then an upper bound (mini-buckets, Dechter and
    Rish 2003), and `exact` is False.
    """

    def __init__(self, sizes: Sequence[int], scopes: Sequence[Scope], limit: int = 1 << 22) -> None:
        self._sizes = list(sizes)
        self._number = len(scopes)
        self.exact = True
        alive: dict[int, Scope] = dict(enumerate(scopes))
        self._steps: list[_Step] = []
        left = {v for scope in scopes for v in scope}
        number = len(scopes)
        while left:
            variable = min(left, key=lambda v: (self._cost(v, alive), v))
            left.remove(variable)
            mine = {t: s for t, s in alive.items() if variable in s}
            buckets = self._buckets(variable, mine, limit)
            self.exact = self.exact and len(buckets) <= 1
            for position, bucket in enumerate(buckets):
                rest = tuple(sorted({v for t in bucket for v in mine[t]} - {variable}))
                views = tuple((t, *self._view(mine[t], rest, variable)) for t in bucket)
                self._steps.append(_Step(variable, rest, views, number, position == 0))
                for t in bucket:
                    del alive[t]
                alive[number] = rest
                number += 1
        self._ends = tuple(alive)

    def _cost(self, variable: int, alive: dict[int, Scope]) -> float:
        joint = {v for s in alive.values() if variable in s for v in s}
        return float(np.prod([float(self._sizes[v]) for v in joint]))

    def _buckets(self, variable: int, mine: dict[int, Scope], limit: int) -> list[list[int]]:
        buckets: list[list[int]] = []
        for t in sorted(mine, key=lambda t: (-len(mine[t]), t)):
            for bucket in buckets:
                both = {v for other in [t, *bucket] for v in mine[other]}
                if np.prod([float(self._sizes[v]) for v in both]) <= limit:
                    bucket.append(t)
                    break
            else:
                buckets.append([t])
        return buckets

    def _view(self, scope: Scope, rest: Scope, variable: int) -> tuple[tuple[int, ...], Index]:
        target = (*rest, variable)
        order = sorted(range(len(scope)), key=lambda k: target.index(scope[k]))
        return (0, *(k + 1 for k in order)), (
            slice(None),
            *(slice(None) if v in scope else None for v in target),
        )

    def maximum(self, tables: Sequence[Table]) -> tuple[Table, list[NDArray[np.int64]]]:
        """(batch,) maxima and, per variable, the (batch,) values that reach them.

        Where `exact` is False the values need not reach the maximum.
        """
        store: dict[int, Table] = dict(enumerate(tables))
        chosen: list[NDArray[np.int64]] = []
        for step in self._steps:
            total = None
            for t, order, index in step.views:
                part = store.pop(t).transpose(order)[index]
                total = part if total is None else total + part
            assert total is not None
            best = total.argmax(axis=-1)
            store[step.out] = total.max(axis=-1)
            chosen.append(best)
        ends = [store[t] for t in self._ends]
        batch = max((len(table) for table in [*ends, *tables]), default=1)
        maxima = np.zeros(batch)
        for table in ends:
            maxima = maxima + table
        values = [np.zeros(batch, np.int64) for _ in self._sizes]
        every = np.arange(batch)
        for step, best in zip(reversed(self._steps), reversed(chosen), strict=True):
            if step.decides:
                rows = every if len(best) == batch else np.zeros(batch, np.int64)
                values[step.variable] = best[(rows, *(values[v] for v in step.rest))]
        return maxima, values
