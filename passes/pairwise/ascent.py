"""Block coordinate ascent of importance minus priced costs: one hyperedge or stream at a time."""

from __future__ import annotations

import numpy as np

from prunec.compiler.pairwise import Mask, PairwiseProblem
from prunec.compiler.problem import FloatArray, IntArray
from prunec.passes.pairwise.state import State
from prunec.passes.pairwise.streams import NEVER, Stream, streams

SWEEPS = 40
TOLERANCE = 1e-9

Branch = tuple[int, ...]


class Ascent:
    """What the ascent needs to know of a problem; made once."""

    def __init__(self, problem: PairwiseProblem) -> None:
        self.problem = problem
        self.sizes = problem.sizes
        self.streams = streams(problem)
        joined = {e for stream in self.streams for e in stream.edges}
        self._itself = {b.rows for b in problem.blocks if b.rows == b.columns}
        self.blocks: list[int | Stream | Branch] = [
            e for e in range(len(self.sizes)) if e not in joined and len(problem.levels[e]) > 1
        ]
        branches = [branch for branch in problem.together if len(branch) > 1]
        self.blocks += [*self.streams, *branches]
        self._branch_of = {e: branch for branch in branches for e in branch}

    def levels(self, state: State, e: int) -> IntArray:
        """Counts that hyperedge e may have; 0 for all of a branch of several, or for none."""
        own = self.problem.levels[e]
        if e not in self._branch_of:
            return own
        return own[:1] if state.counts[e] == 0 else own[own > 0]

    def climb(self, state: State, prices: FloatArray, held: int | None = None) -> None:
        """Improve `state` until no block changes; prices: (rows,) importance per unit of cost.

        held: a block (index) that takes no part in the first sweep.
        """
        idle, turn = 0, 0
        while idle < len(self.blocks) and turn < SWEEPS * len(self.blocks):
            block = self.blocks[turn % len(self.blocks)]
            if turn == held:
                turn += 1
                continue
            if isinstance(block, Stream):
                moved = self._climb_stream(state, block, prices)
            elif isinstance(block, tuple):
                moved = self._climb_branch(state, block, prices)
            else:
                moved = self._climb_edge(state, block, prices)
            idle = 0 if moved else idle + 1
            turn += 1

    def _climb_edge(self, state: State, e: int, prices: FloatArray) -> bool:
        """The best groups and count of one hyperedge, exactly, all others being as they are.

        Where pairs lie within the hyperedge this is a step along its gains, taken if it helps.
        """
        gains, levels = state.gains[e], self.levels(state, e)
        costs = prices @ state.meter.along(e, levels)
        order = np.argsort(-gains, kind="stable")
        sums = np.concatenate([[0.0], np.cumsum(gains[order])])
        values = sums[levels] - costs
        best = int(values.argmax())
        now = float(gains[state.x[e]].sum() - prices @ state.meter.values)
        if values[best] <= now + TOLERANCE:
            return False
        new = np.zeros(len(gains), bool)
        new[order[: levels[best]]] = True
        return self._take(state, {e: new}, prices, e in self._itself)

    def _climb_branch(self, state: State, branch: Branch, prices: FloatArray) -> bool:
        """Close a branch, or open it with what pays, if that helps."""
        before = {e: state.x[e] for e in branch}
        old = state.lagrangian(prices)
        opens = all(not mask.any() for mask in before.values())
        for e in branch:
            state.change(e, np.full(self.sizes[e], opens))
        for e in branch if opens else ():
            self._climb_edge(state, e, prices)
        if state.lagrangian(prices) > old + TOLERANCE:
            return True
        for e, mask in before.items():
            state.change(e, mask)
        return False

    def _climb_stream(self, state: State, stream: Stream, prices: FloatArray) -> bool:
        gains = {e: state.gains[e] - prices @ state.meter.slope(e) for e in stream.edges}
        masks = self.choose(state, stream, gains)
        if masks is None:
            return False
        return self._take(state, masks, prices, check=True)

    def choose(
        self, state: State, stream: Stream, gains: dict[int, FloatArray]
    ) -> dict[int, Mask] | None:
        """Masks of a stream within its levels, best by these gains where all counts are allowed.

        Hyperedges whose counts are not allowed get the nearest best level one after another.
        """
        fixed = {
            e: np.ones(self.sizes[e], bool)
            for e in stream.edges
            if len(self.problem.levels[e]) == 1
        }
        masks = stream.best(gains, self.sizes, fixed)
        for _ in stream.edges:
            wrong = [
                e
                for e in stream.edges
                if e not in fixed and not _is_level(int(masks[e].sum()), self.levels(state, e))
            ]
            if not wrong:
                break
            e = wrong[0]
            ranks = stream.differences(gains, e, fixed)
            mask = _at_level(ranks, self.levels(state, e))
            if mask is None:
                return None
            fixed[e] = mask
            masks = stream.best(gains, self.sizes, fixed)
        counts_hold = all(
            _is_level(int(masks[e].sum()), self.levels(state, e)) for e in stream.edges
        )
        return masks if counts_hold else None

    def _take(self, state: State, masks: dict[int, Mask], prices: FloatArray, check: bool) -> bool:
        """Move there; where `check`, back again unless that raises the Lagrangian."""
        before = {e: state.x[e] for e in masks}
        if all((masks[e] == before[e]).all() for e in masks):
            return False
        old = state.lagrangian(prices) if check else 0.0
        for e, mask in masks.items():
            state.change(e, mask)
        if check and state.lagrangian(prices) <= old + TOLERANCE:
            for e, mask in before.items():
                state.change(e, mask)
            return False
        return True


def _is_level(count: int, levels: IntArray) -> bool:
    return bool((levels == count).any())


def _at_level(ranks: FloatArray, levels: IntArray) -> Mask | None:
    """The highest ranks, at the level where their sum is largest; None if none can be met."""
    order = np.argsort(-ranks, kind="stable")
    forced, possible = (ranks > -NEVER / 2).sum(), (ranks > NEVER / 2).sum()
    usable = levels[(levels >= forced) & (levels <= possible)]
    if not len(usable):
        return None
    finite = np.where(abs(ranks) < -NEVER / 2, ranks, 0.0)[order]
    sums = np.concatenate([[0.0], np.cumsum(finite)])
    mask = np.zeros(len(ranks), bool)
    mask[order[: usable[int(sums[usable].argmax())]]] = True
    return mask
