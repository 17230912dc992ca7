"""Search state over kept counts: the cost of every move at once, exact below 2**53."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from prunec.compiler.problem import FloatArray, IntArray, Problem
from prunec.passes.solvers.products import Grid, Products


@dataclass(frozen=True, slots=True, eq=False)
class Moves:
    """All candidates, one per column; closed ones have the worth nan.

    costs: (R, N) change of each row; worths: (N,) change of the objective; edges: (N,) the
    hyperedge that is moved, or ``E + set`` where a whole set of `together` is.
    """

    costs: FloatArray
    worths: FloatArray
    edges: IntArray


class Search:
    """A choice of one level per hyperedge, its costs and the moves from it; edited in place.

    Columns 0 ... E - 1 of the moves are one level down, E ... 2E - 1 one level up. Hyperedges with
    a rough cost or value (tables, sets that are 0 together, values that are not concave) have one
    column for each of their levels behind these: the next level need not be the one to go to.
    Last, one column for each set that is 0 together: all of it to 0, or all of it back.
    """

    def __init__(self, problem: Problem, products: Products, start: tuple[int, ...]) -> None:
        self._products = products
        self._levels: list[list[int]] = [level.tolist() for level in problem.levels]
        self._counts = problem.levels
        self._values = [v[level] for v, level in zip(problem.values, problem.levels, strict=True)]
        self.at_most = products.at_most
        self.edges = len(self._levels)
        self.at: list[int] = [level.index(n) for level, n in zip(self._levels, start, strict=True)]
        self._set_of = {e: s for s, members in enumerate(products.sets) for e in members}
        counts = np.repeat(np.array(start, np.float64), np.diff(products.first))
        self._factors = products.bases + np.array(
            [
                np.bincount(products.terms, row * counts, len(row_of))
                for row, row_of in zip(products.slopes, products.bases, strict=True)
            ]
        )
        self._exact: FloatArray = products.weights @ self._factors.prod(axis=0)
        self._sizes = [[size(start) for size in grid.factors] for grid in products.grids]
        self._grid_values = np.array(
            [g.value(s) for g, s in zip(products.grids, self._sizes, strict=True)]
        )
        self._columns, edges = self._layout()
        self._steps = np.zeros(2 * self.edges)
        self._moves = Moves(
            np.zeros((len(self.at_most), len(edges))), np.full(len(edges), np.nan), edges
        )
        for e in range(self.edges):
            self._refresh_worths(e)
        self._refresh(None)

    def _layout(self) -> tuple[dict[int, int], IntArray]:
        """First column of every rough hyperedge and set, and the owner of each column."""
        owners = [np.tile(np.arange(self.edges), 2)]
        first, at = {}, 2 * self.edges
        for e in self._products.rough:
            first[e] = at
            owners.append(np.full(len(self._levels[e]), e))
            at += len(self._levels[e])
        for s in range(len(self._products.sets)):
            first[self.edges + s] = at
            owners.append(np.array([self.edges + s]))
            at += 1
        return first, np.concatenate(owners)

    def effort(self) -> float:
        """How much more work a move is than one without tables, roughly."""
        p, rough = self._products, set(self._products.rough)
        looked_up = [len(rough) if near is None else len(rough & set(near)) for near in p.near]
        return 1.0 + sum(looked_up) / (8 * max(1, len(looked_up)))

    def counts(self) -> tuple[int, ...]:
        """Kept count per hyperedge."""
        return tuple(level[k] for level, k in zip(self._levels, self.at, strict=True))

    def value(self) -> float:
        """Objective of the present choice."""
        return float(sum(v[k] for v, k in zip(self._values, self.at, strict=True)))

    def slack(self) -> FloatArray:
        """What is left of each limit, (R,); negative where it is exceeded."""
        p = self._products
        if not p.grids:
            return self.at_most - self._exact
        tables = np.bincount(p.grid_rows, self._grid_values, len(self.at_most))
        return np.asarray(self.at_most - self._exact - tables)

    def moves(self) -> Moves:
        """All candidates; arrays that the next move changes."""
        return self._moves

    def take(self, column: int) -> int:
        """Make the move of a column; returns its owner as in `Moves.edges`."""
        owner = int(self._moves.edges[column])
        if owner >= self.edges:
            self.toggle(owner - self.edges)
        elif column < 2 * self.edges:
            self.move(owner, self.at[owner] + (1 if column >= self.edges else -1))
        else:
            self.move(owner, column - self._columns[owner])
        return owner

    def toggle(self, which: int) -> None:
        """Put all of a set to 0, or all of it to the lowest level above."""
        positions = self._toggled(which)
        for e, position in positions.items():
            self.move(e, position)

    def move(self, edge: int, position: int) -> None:
        """Put a hyperedge on the level at this position."""
        p, own = self._products, self._products.own(edge)
        step = self._levels[edge][position] - self._levels[edge][self.at[edge]]
        self.at[edge] = position
        terms = p.terms[own]
        before = self._factors[:, terms].prod(axis=0)
        self._factors[:, terms] += p.slopes[:, own] * step
        # Whole numbers below 2**53: sums do not drift.
        self._exact = self._exact + p.weights[:, terms] @ (
            self._factors[:, terms].prod(axis=0) - before
        )
        for g in p.grids_of[edge]:
            for d, m in p.grids[g].slopes[edge]:
                self._sizes[g][d] += m * step
            self._grid_values[g] = p.grids[g].value(self._sizes[g])
        self._refresh_worths(edge)
        self._refresh(p.near[edge])

    def reachable(self, edge: int, jump: int) -> bool:
        """Whether a hyperedge can go `jump` levels on by itself."""
        to = self.at[edge] + jump
        if not 0 <= to < len(self._levels[edge]):
            return False
        if edge not in self._set_of:
            return True
        return not self._is_zero(edge) and bool(self._levels[edge][to] > 0)

    def restore(self, positions: list[int]) -> None:
        """Go back to earlier positions."""
        for e, position in enumerate(positions):
            if self.at[e] != position:
                self.move(e, position)

    def toggles(self) -> list[int]:
        """The sets that can go to 0 or come back."""
        return [s for s in range(len(self._products.sets)) if self._toggled(s)]

    def _is_zero(self, edge: int) -> bool:
        return self._levels[edge][self.at[edge]] == 0

    def _toggled(self, which: int) -> dict[int, int]:
        """Position of each member after the set's move; empty if there is none."""
        members = self._products.sets[which]
        zero = any(self._is_zero(e) for e in members)
        if any(self._levels[e][0] != 0 or len(self._levels[e]) < 2 for e in members):
            return {}
        return dict.fromkeys(members, 1 if zero else 0)

    def _refresh_worths(self, e: int) -> None:
        value, k, worths = self._values[e], self.at[e], self._moves.worths
        for column, jump in ((e, -1), (self.edges + e, 1)):
            open_ = self.reachable(e, jump)
            self._steps[column] = self._levels[e][k + jump] - self._levels[e][k] if open_ else 0
            worths[column] = value[k + jump] - value[k] if open_ else np.nan
        if e in self._columns:
            first = self._columns[e]
            worths[first : first + len(value)] = value - value[k]
            worths[first + k] = np.nan
            if e in self._set_of:
                closed = slice(first, first + len(value)) if self._is_zero(e) else first
                if self._is_zero(e) or self._levels[e][0] == 0:
                    worths[closed] = np.nan
        if e in self._set_of:
            which = self._set_of[e]
            positions = self._toggled(which)
            worths[self._columns[self.edges + which]] = (
                sum(self._values[i][k] - self._values[i][self.at[i]] for i, k in positions.items())
                if positions
                else np.nan
            )

    def _refresh(self, edges: IntArray | None) -> None:
        """What the moves of these hyperedges, or of all, cost now."""
        near = np.arange(self.edges) if edges is None else edges
        self._refresh_neighbours(near)
        sets = set()
        for e in near.tolist():
            if e in self._columns:
                first = self._columns[e]
                costs = self._costs_of_levels(e)
                self._moves.costs[:, first : first + costs.shape[1]] = costs
                for jump in (-1, 1):
                    if 0 <= self.at[e] + jump < costs.shape[1]:
                        column = e if jump < 0 else self.edges + e
                        self._moves.costs[:, column] = costs[:, self.at[e] + jump]
            if e in self._set_of:
                sets.add(self._set_of[e])
        for which in sorted(sets):
            column = self._columns[self.edges + which]
            self._moves.costs[:, column] = self._cost_of_toggle(which)

    def _refresh_neighbours(self, edges: IntArray) -> None:
        """One level up or down, for all of these at once; the products only."""
        p = self._products
        columns = p.columns_of(edges)
        sizes = p.first[edges + 1] - p.first[edges]
        filled = np.flatnonzero(sizes)
        starts = (np.cumsum(sizes) - sizes)[filled]
        terms, slopes = p.terms[columns], p.slopes[:, columns]
        now = self._factors[:, terms]
        whole = now.prod(axis=0)
        for first in (0, self.edges):
            step = np.repeat(self._steps[first + edges], sizes)
            moved = p.weights[:, terms] * ((now + slopes * step).prod(axis=0) - whole)
            self._moves.costs[:, first + edges] = 0.0
            if len(filled):
                sums = np.add.reduceat(moved, starts, axis=1)
                self._moves.costs[:, first + edges[filled]] = sums

    def _costs_of_levels(self, e: int) -> FloatArray:
        """(R, number of levels) change of each row with each level of a hyperedge."""
        p, own = self._products, self._products.own(e)
        step = self._counts[e] - self._levels[e][self.at[e]]
        terms = p.terms[own]
        now = self._factors[:, terms]
        products = (now[:, :, None] + p.slopes[:, own, None] * step).prod(axis=0)
        costs = p.weights[:, terms] @ (products - now.prod(axis=0)[:, None])
        for g in p.grids_of[e]:
            grid = p.grids[g]
            sizes: list[int | IntArray] = list(self._sizes[g])
            for d, m in grid.slopes[e]:
                sizes[d] = self._sizes[g][d] + m * step
            costs[grid.row] += grid.values(sizes) - self._grid_values[g]
        return np.asarray(costs)

    def _cost_of_toggle(self, which: int) -> FloatArray:
        """(R,) change of each row with the move of a set."""
        p, positions = self._products, self._toggled(which)
        out = np.zeros(len(self.at_most))
        if not positions:
            return out
        edges = np.array(sorted(positions), np.int64)
        step = {e: self._levels[e][k] - self._levels[e][self.at[e]] for e, k in positions.items()}
        columns = p.columns_of(edges)
        steps = np.repeat([step[e] for e in edges.tolist()], p.first[edges + 1] - p.first[edges])
        terms, back = np.unique(p.terms[columns], return_inverse=True)
        change = np.array([np.bincount(back, s * steps, len(terms)) for s in p.slopes[:, columns]])
        now = self._factors[:, terms]
        out += p.weights[:, terms] @ ((now + change).prod(axis=0) - now.prod(axis=0))
        for g in sorted({g for e in positions for g in p.grids_of[e]}):
            grid: Grid = p.grids[g]
            sizes = list(self._sizes[g])
            for e in positions:
                for d, m in grid.slopes.get(e, ()):
                    sizes[d] += m * step[e]
            out[grid.row] += grid.value(sizes) - self._grid_values[g]
        return out
