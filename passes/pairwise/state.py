"""A choice of channel groups with everything that a local change needs, kept up to date."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from prunec.compiler.pairwise import Mask, PairwiseProblem
from prunec.compiler.problem import FloatArray
from prunec.passes.pairwise.meter import Meter

FEW = 8  # fewer than 1/FEW of the groups changed: add their rows one by one


class State:
    """gains[e]: what each group of hyperedge e adds, given all the others; (size_e,) float64."""

    def __init__(self, problem: PairwiseProblem) -> None:
        self.problem = problem
        self.firsts = problem.firsts
        self.limits = np.array([at_most for _, at_most in problem.rows], np.float64)
        self.x: list[Mask] = [np.zeros(n, bool) for n in problem.sizes]
        self.linear = [problem.linear[a:b] for a, b in pairwise(self.firsts)]
        self.gains: list[FloatArray] = [own.copy() for own in self.linear]
        self._others: list[list[tuple[int, NDArray[Any], bool]]] = [[] for _ in self.x]
        for block in problem.blocks:
            # True: rows of the matrix belong to the other hyperedge.
            self._others[block.columns].append((block.rows, block.values, True))
            self._others[block.rows].append((block.columns, block.values, False))
        self.meter = Meter([row for row, _ in problem.rows], [0] * len(self.x))

    @property
    def counts(self) -> list[int]:
        """Kept counts."""
        return self.meter.counts

    def change(self, e: int, new: Mask) -> None:
        """Choose other groups of hyperedge e."""
        old = self.x[e]
        moved = np.flatnonzero(new != old)
        if not len(moved):
            return
        self.x[e] = new
        sign = np.where(new[moved], 1.0, -1.0)
        few = len(moved) * FEW <= len(new)
        for other, matrix, other_rows in self._others[e]:
            delta = sign.astype(matrix.dtype)
            if few:
                part = matrix[:, moved] @ delta if other_rows else delta @ matrix[moved]
            else:
                full = np.zeros(len(new), matrix.dtype)
                full[moved] = delta
                part = matrix @ full if other_rows else full @ matrix
            self.gains[other] += part
        self.meter.set(e, int(new.sum()))

    def load(self, masks: Sequence[Mask]) -> None:
        """Choose everything at once."""
        for e, mask in enumerate(masks):
            self.change(e, mask)

    def copy(self) -> list[Mask]:
        """The masks, per hyperedge; never changed in place."""
        return list(self.x)

    def mask(self) -> Mask:
        """The mask over all groups."""
        return np.concatenate(self.x) if self.x else np.zeros(0, bool)

    def value(self) -> float:
        """Importance kept; drifts by rounding only."""
        pairs = sum(
            float((g[x] + own[x]).sum())
            for g, own, x in zip(self.gains, self.linear, self.x, strict=True)
        )
        return self.problem.constant + pairs / 2

    def lagrangian(self, prices: FloatArray) -> float:
        """Importance kept minus the price of the costs."""
        return self.value() - float(prices @ self.meter.values)

    def fits(self) -> bool:
        """Whether every limit holds."""
        return bool((self.meter.values <= self.limits + 1e-6).all())

    def usage(self) -> FloatArray:
        """(rows,) cost over limit."""
        return np.asarray(self.meter.values / np.maximum(self.limits, 1.0))
