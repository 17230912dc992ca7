"""Small pairwise problems, drawn, and their optimum by trying every mask."""

from __future__ import annotations

import itertools

import numpy as np

from prunec.compiler.cost import Linear, Polynomial, Table, Tabled
from prunec.compiler.hypergraph import KEPT, Join
from prunec.compiler.pairwise import Block, PairwiseProblem
from prunec.compiler.problem import Limit

KINDS = ("chain", "within", "stream", "tree", "concat", "branch", "measured", "two limits")


def one(e: int) -> Linear:
    return Linear(0, ((e, 1),))


def drawn(kind: str, seed: int, budget: float = 0.5) -> PairwiseProblem:
    """At most 12 groups; the kinds differ in what the hyperedges have to do with each other."""
    rng = np.random.default_rng(seed)
    sizes = {"within": [5, 4], "tree": [3, 3, 3, 3], "stream": [3, 3, 3, 3]}.get(kind, [4, 4, 4])
    firsts = np.concatenate([[0], np.cumsum(sizes)])
    pairs = [(e, e + 1) for e in range(len(sizes) - 1)]
    terms: list[tuple[float, tuple[Linear, ...]]] = [
        (float(rng.integers(1, 9)), (one(e), one(f))) for e, f in pairs
    ]
    if kind == "within":
        pairs.append((0, 0))
        terms.append((3, (one(0), one(0))))
    if kind == "concat":
        terms.append((2, (Linear(1, ((0, 1), (1, 1))), one(2))))
    levels = [np.arange(1, n + 1) for n in sizes]
    if kind == "chain":
        levels[1] = np.array([2, 4])
    if kind == "branch":
        levels[1], levels[2] = np.arange(5), np.arange(5)
    exact = Polynomial.of(terms)
    costs: dict[str, object] = {"flops": exact}
    if kind == "measured":
        points = np.array([1, 3, 4])
        bumpy = Table((one(0), one(1)), (points, points), rng.uniform(5, 60, (3, 3)))
        costs = {"flops": Tabled(exact, (bumpy,))}
    if kind == "two limits":
        costs["params"] = Polynomial.of([(5, (one(0),)), (7, (one(2),)), (1, (one(0), one(1)))])
    limits = [Limit(name, int(budget * cost(sizes))) for name, cost in costs.items()]
    return PairwiseProblem(
        names=tuple(f"e{e}" for e in range(len(sizes))),
        linear=rng.uniform(0, 0.3, int(firsts[-1])),
        blocks=tuple(block(rng, sizes, e, f) for e, f in pairs),
        levels=tuple(levels),
        costs=costs,
        limits=tuple(limits),
        joins=joins(kind, firsts),
        together=((1, 2),) if kind == "branch" else (),
        constant=0.25,
    )


def block(rng: np.random.Generator, sizes: list[int], e: int, f: int) -> Block:
    values = rng.lognormal(0, 0.7, (sizes[e], sizes[f]))
    if e == f:
        np.fill_diagonal(values, 0)
    return Block(e, f, values)


def joins(kind: str, firsts: np.ndarray) -> tuple[Join, ...]:
    if kind not in ("stream", "tree"):
        return ()
    a, b, c, d = (np.arange(first, first + 3) for first in firsts[:4])
    if kind == "stream":  # written a and passed-on c give b; d is always b's
        return (Join("add", b, (a, c), (True, False)),)
    never = np.full(3, KEPT)
    return (
        Join("add", b, (a, c), (True, True)),
        Join("again", d, (b, np.where(np.arange(3) == 1, never, a)), (False, False)),
    )


def optimum(problem: PairwiseProblem) -> float | None:
    """Best objective of a valid mask; None if there is none."""
    masks = (np.array(bits, bool) for bits in itertools.product((0, 1), repeat=len(problem.linear)))
    return max((problem.objective(m) for m in masks if not problem.faults(m)), default=None)
