"""The scalable solver: prices on the costs, block coordinate ascent, then kicks and filling up."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import ClassVar

import numpy as np

from prunec.compiler.errors import UsageError
from prunec.compiler.pairwise import Mask, PairwiseProblem, PairwiseSolution
from prunec.compiler.problem import FloatArray, IntArray, Status
from prunec.passes.pairwise.ascent import Ascent
from prunec.passes.pairwise.bound import solution
from prunec.passes.pairwise.fill import fill, trim
from prunec.passes.pairwise.state import State
from prunec.passes.pairwise.streams import Stream

PATH = 1.08  # factor between prices on the way from dense
BISECTIONS = 12
KICKS, FEWEST_KICKS = 30, 5
KICKED_GROUPS = 300_000  # kicks times groups: time grows with both
HOPE = 1.25  # factor on the price of what is not used


@dataclass(frozen=True, slots=True)
class Lagrangian:
    """Lagrangian path with block ascent (streams by dynamic programming), kicks, fill and swap.

    kicks: random changes to climb away from; None: 30, fewer for models of over 10000 channel
    groups. seed: of them. bound: whether to prove one.
    """

    name: ClassVar[str] = "lagrangian"
    kicks: int | None = None
    seed: int = 0
    bound: bool = True

    def __post_init__(self) -> None:
        if self.kicks is not None and self.kicks < 0:
            raise UsageError("solver 'lagrangian': kicks must be at least 0")

    def __call__(self, problem: PairwiseProblem, start: Mask | None) -> PairwiseSolution:
        """Solve; `start` competes."""
        search = _Search(problem, self.seed)
        search.path()
        if start is not None:
            search.offer(start)
        usual = min(KICKS, max(FEWEST_KICKS, KICKED_GROUPS // max(1, problem.firsts[-1])))
        for _ in range(usual if self.kicks is None else self.kicks):
            search.kick()
        if search.best is None:
            return PairwiseSolution(np.zeros(0, bool), 0.0, None, Status.NONE, self.name)
        return solution(problem, np.concatenate(search.best), self.name, bound=self.bound)


class _Search:
    """One run: a state, the price level that meets the limits, the best masks so far."""

    def __init__(self, problem: PairwiseProblem, seed: int) -> None:
        self.problem = problem
        self.ascent = Ascent(problem)
        self.state = State(problem)
        self.random = np.random.default_rng(seed)
        self.best: list[Mask] | None = None
        self.value = -np.inf
        limits = np.maximum(self.state.limits, 1.0)
        self.unit: FloatArray = np.ones(len(limits)) / limits
        self.price = 0.0

    def path(self) -> None:
        """From dense along rising prices until the limits hold, then between the last two."""
        state = self.state
        state.load([np.ones(n, bool) for n in self.problem.sizes])
        full = state.value()
        price = 0.02 * full
        over = state.copy()
        while not state.fits() and price < 1e6 * full:
            over = state.copy()
            price *= PATH
            self.ascent.climb(state, price * self.unit)
        if not state.fits():
            self._balance()
        low, high = price / PATH, price
        self.price = price
        self._keep()
        for _ in range(BISECTIONS):
            middle = (low + high) / 2
            state.load(over)
            self.ascent.climb(state, middle * self.unit)
            if state.fits():
                high = self.price = middle
                self._keep()
            else:
                low, over = middle, state.copy()
                if trim(self.ascent, state, middle * self.unit):
                    self._keep()

    def _balance(self) -> None:
        trim(self.ascent, self.state, self.unit)

    def _keep(self) -> None:
        """Fill up and remember the state if it is the best so far."""
        if not self.state.fits():
            return
        # What is left of the limits buys about its price: don't fill up what can't win.
        hope = self.state.value() + HOPE * self.price * float(1 - self.state.usage().max())
        if hope < self.value:
            return
        fill(self.ascent, self.state, max(self.price, 1e-9) * self.unit)
        value = self.state.value()
        if value > self.value + 1e-9 and not self.problem.faults(self.state.mask()):
            self.value, self.best = value, self.state.copy()

    def offer(self, mask: Mask) -> None:
        """Let a given choice compete."""
        firsts = self.problem.firsts
        if not self.problem.faults(mask):
            self.state.load([mask[a:b] for a, b in pairwise(firsts)])
            self._keep()

    def kick(self) -> None:
        """Force one hyperedge to another count, let the others follow, return into the limits."""
        if self.best is None:
            return
        state, random = self.state, self.random
        state.load(self.best)
        k = int(random.integers(len(self.ascent.blocks)))
        prices = self.price * float(random.uniform(0.94, 1.04)) * self.unit
        self._force(k)
        self.ascent.climb(state, prices, held=k)
        if state.fits() or trim(self.ascent, state, prices):
            self._keep()

    def _force(self, k: int) -> None:
        """Another count for block k (one hyperedge of a stream)."""
        state, random, block = self.state, self.random, self.ascent.blocks[k]
        if isinstance(block, Stream):
            free = [e for e in block.edges if len(self.problem.levels[e]) > 1]
            if not free:
                return
            e = int(random.choice(free))
            shift = float(random.choice([-1.0, 1.0])) * float(random.uniform(0.1, 1.0))
            gains = {
                f: state.gains[f] - self.price * self.unit @ state.meter.slope(f)
                for f in block.edges
            }
            gains[e] = gains[e] + shift * max(float(np.abs(state.gains[e]).mean()), 1e-9)
            masks = self.ascent.choose(state, block, gains)
            for f, mask in (masks or {}).items():
                state.change(f, mask)
            return
        for e in block if isinstance(block, tuple) else (block,):
            state.change(e, self._other_count(e))

    def _other_count(self, e: int) -> Mask:
        state, levels = self.state, self.ascent.levels(self.state, e)
        now = int(np.searchsorted(levels, state.counts[e]))
        reach = max(1, len(levels) // 3)
        at = int(np.clip(now + self.random.integers(-reach, reach + 1), 0, len(levels) - 1))
        order: IntArray = np.argsort(-state.gains[e], kind="stable")
        mask = np.zeros(len(order), bool)
        mask[order[: levels[at]]] = True
        return mask
