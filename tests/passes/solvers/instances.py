"""Selection problems with the structure of well-known networks and drawn scores."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from prunec.compiler.cost import Cost, Linear, Peak, Polynomial, Table, Tabled
from prunec.compiler.problem import Limit, Problem

Axis = Linear


@dataclass
class Network:
    """Builder: hyperedges and the layers between them."""

    sizes: list[int] = field(default_factory=list)
    flops: list[tuple[int, list[Linear]]] = field(default_factory=list)
    params: list[tuple[int, list[Linear]]] = field(default_factory=list)

    def edge(self, size: int) -> Linear:
        self.sizes.append(size)
        return Linear(0, ((len(self.sizes) - 1, 1),))

    def conv(self, a: Linear, b: Linear, kernel: int, side: int) -> None:
        self.flops.append((kernel**2 * side**2, [a, b]))
        self.params.append((kernel**2, [a, b]))

    def depthwise(self, a: Linear, side: int) -> None:
        self.flops.append((9 * side**2, [a]))
        self.params.append((9, [a]))

    def problem(
        self, flops: float, align: int, *, seed: int = 0, params: float = 0.0, spread: float = 0.7
    ) -> Problem:
        """Lognormal scores; a small spread (norms of weights) makes the problem harder."""
        costs = {"flops": Polynomial.of(self.flops), "params": Polynomial.of(self.params)}
        limits = [Limit("flops", int(flops * costs["flops"](self.sizes)))]
        if params:
            limits.append(Limit("params", int(params * costs["params"](self.sizes))))
        rng = np.random.default_rng(seed)
        values = [
            score_sums(rng.lognormal(0, spread, n) * rng.lognormal(0, spread / 2))
            for n in self.sizes
        ]
        levels = [aligned(n, align) for n in self.sizes]
        return problem_of(values, levels, costs, limits)


def score_sums(scores: Sequence[float] | np.ndarray) -> np.ndarray:
    best = np.sort(np.asarray(scores, dtype=np.float64))[::-1]
    return np.concatenate([[0.0], np.cumsum(best)])


def aligned(size: int, align: int) -> np.ndarray:
    return np.array(sorted({*range(align, size, align), size}), dtype=np.int64)


def problem_of(values, levels, costs, limits) -> Problem:
    names = tuple(f"conv{i}.weight:0" for i in range(len(values)))
    used = {x.resource: costs[x.resource] for x in limits}
    return Problem(names, tuple(values), tuple(levels), used, tuple(limits))


def concat(parts: Sequence[Linear]) -> Linear:
    return Linear(sum(p.constant for p in parts), tuple(sorted(t for p in parts for t in p.terms)))


def resnet20() -> Network:
    net = Network()
    stream = net.edge(16)
    net.conv(Axis(3), stream, 3, 32)
    for size, side in ((16, 32), (32, 16), (64, 8)):
        for block in range(3):
            inner = net.edge(size)
            net.conv(stream, inner, 3, side)
            if size > 16 and block == 0:
                stream = net.edge(size)
            net.conv(inner, stream, 3, side)
    net.conv(stream, Axis(10), 1, 1)
    return net


def resnet50() -> Network:
    net = Network()
    stream = net.edge(64)
    net.conv(Axis(3), stream, 7, 112)
    for stage, (blocks, side) in enumerate(((3, 56), (4, 28), (6, 14), (3, 7))):
        width = 64 * 2**stage
        for block in range(blocks):
            first, second = net.edge(width), net.edge(width)
            before = side * 2 if block == 0 and stage else side
            net.conv(stream, first, 1, before)
            net.conv(first, second, 3, side)
            if block == 0:
                old, stream = stream, net.edge(4 * width)
                net.conv(old, stream, 1, side)
            net.conv(second, stream, 1, side)
    net.conv(stream, Axis(1000), 1, 1)
    return net


def mobilenet_v2() -> Network:
    net = Network()
    stream = net.edge(32)
    net.conv(Axis(3), stream, 3, 112)
    side = 112
    for t, c, n, s in (
        (1, 16, 1, 1),
        (6, 24, 2, 2),
        (6, 32, 3, 2),
        (6, 64, 4, 2),
        (6, 96, 3, 1),
        (6, 160, 3, 2),
        (6, 320, 1, 1),
    ):
        for i in range(n):
            inner = stream
            if t > 1:
                inner = net.edge(t * net.sizes[stream.terms[0][0]])
                net.conv(stream, inner, 1, side)
            side //= s if i == 0 else 1
            net.depthwise(inner, side)
            if i == 0:
                stream = net.edge(c)
            net.conv(inner, stream, 1, side)
    head = net.edge(1280)
    net.conv(stream, head, 1, 7)
    net.conv(head, Axis(1000), 1, 1)
    return net


def densenet121() -> Network:
    net = Network()
    parts = [net.edge(64)]
    net.conv(Axis(3), parts[0], 7, 112)
    for blocks, side in ((6, 56), (12, 28), (24, 14), (16, 7)):
        for _ in range(blocks):
            inner, grown = net.edge(128), net.edge(32)
            net.conv(concat(parts), inner, 1, side)
            net.conv(inner, grown, 3, side)
            parts.append(grown)
        if side > 7:
            total = sum(net.sizes[p.terms[0][0]] for p in parts)
            half = net.edge(total // 2)
            net.conv(concat(parts), half, 1, side)
            parts = [half]
    net.conv(concat(parts), Axis(1000), 1, 1)
    return net


NETWORKS = {
    "resnet20": resnet20,
    "resnet50": resnet50,
    "mobilenet_v2": mobilenet_v2,
    "densenet121": densenet121,
}


def tiny(seed: int, limits: int = 1) -> Problem:
    """At most 12 channel groups in 2 to 4 hyperedges, terms up to degree 4, drawn costs."""
    rng = np.random.default_rng(seed)
    sizes = [int(n) for n in rng.integers(1, 4, size=int(rng.integers(2, 5)))]
    values = [score_sums(rng.integers(0, 9, n)) for n in sizes]
    levels = [
        np.array(sorted({*rng.integers(0, n + 1, size=3).tolist(), n}), dtype=np.int64)
        for n in sizes
    ]
    costs, bounds = {}, []
    for resource in ("flops", "params", "bytes")[:limits]:
        products = []
        for _ in range(int(rng.integers(2, 6))):
            factors = []
            for _ in range(int(rng.integers(1, 5))):
                edges = sorted({int(e) for e in rng.integers(0, len(sizes), size=2)})
                terms = tuple((e, int(rng.integers(1, 3))) for e in edges)
                factors.append(Linear(int(rng.integers(0, 3)), terms))
            products.append((int(rng.integers(1, 9)), factors))
        costs[resource] = Polynomial.of(products)
        dense = costs[resource](sizes)
        bounds.append(Limit(resource, int(dense * rng.uniform(0.15, 1.0))))
    return problem_of(values, levels, costs, bounds)


def general(seed: int) -> Problem:
    """At most 12 channel groups; costs of every kind: staircases up and down, peaks, sets that are
    0 together, levels that begin with 0, values that are not concave."""
    rng = np.random.default_rng(seed)
    sizes = [int(n) for n in rng.integers(1, 4, size=int(rng.integers(2, 5)))]
    together = []
    if len(sizes) > 2 and rng.random() < 0.6:
        together.append(tuple(rng.permutation(len(sizes))[: int(rng.integers(2, 4))].tolist()))
    inside = {e for members in together for e in members}
    levels, values = [], []
    for e, n in enumerate(sizes):
        lowest = 0 if e in inside and rng.random() < 0.9 else int(rng.integers(0, n + 1))
        levels.append(np.array(sorted({lowest, *rng.integers(lowest, n + 1, 3).tolist(), n})))
        best = np.sort(rng.integers(0, 9, n))
        order = best[::-1] if rng.random() < 0.7 else rng.permutation(best)
        values.append(np.concatenate([[0.0], np.cumsum(order)]).astype(np.float64))
    costs: dict[str, Cost] = {}
    limits = []
    for resource in ("latency", "memory", "flops")[: int(rng.integers(1, 4))]:
        costs[resource] = DRAWN[resource](rng, len(sizes))
        dense = costs[resource](sizes)
        limits.append(Limit(resource, int(dense * rng.uniform(0.3, 1.1))))
    problem = problem_of(values, levels, costs, limits)
    return replace(problem, together=tuple(together))


def drawn_factor(rng: np.random.Generator, edges: int) -> Linear:
    own = sorted({int(e) for e in rng.integers(0, edges, size=int(rng.integers(1, 3)))})
    return Linear(int(rng.integers(0, 3)), tuple((e, int(rng.integers(1, 3))) for e in own))


def drawn_polynomial(rng: np.random.Generator, edges: int) -> Polynomial:
    return Polynomial.of(
        (int(rng.integers(1, 9)), [drawn_factor(rng, edges) for _ in range(rng.integers(1, 4))])
        for _ in range(rng.integers(1, 5))
    )


def drawn_table(rng: np.random.Generator, edges: int) -> Table:
    factors = tuple(drawn_factor(rng, edges) for _ in range(rng.integers(1, 4)))
    points = tuple(
        np.array(sorted({1, *rng.integers(1, 14, size=4).tolist()}), np.int64) for _ in factors
    )
    return Table(factors, points, rng.integers(0, 60, [len(p) for p in points]) / 4)


DRAWN = {
    "latency": lambda rng, edges: Tabled(
        drawn_polynomial(rng, edges) if rng.random() < 0.5 else Polynomial(()),
        tuple(drawn_table(rng, edges) for _ in range(rng.integers(1, 4))),
    ),
    "memory": lambda rng, edges: Peak(
        tuple(drawn_polynomial(rng, edges) for _ in range(rng.integers(2, 6)))
    ),
    "flops": drawn_polynomial,
}


def staircase(net: Network, share: float, *, align: int = 4, tread: int = 16) -> Problem:
    """A latency that rises and falls in steps: a table over both widths of every layer."""
    problem = net.problem(share, align)
    rng = np.random.default_rng(0)
    tables = []
    for term in problem.costs["flops"].rows[0].terms:
        points, step = [], []
        for factor in term.factors:
            top = factor(net.sizes)
            edges = np.arange(tread, top + 1, tread)
            points.append(np.unique([1, *edges, *np.minimum(edges + 1, top), top]))
            step.append(-(-points[-1] // tread))
        shape = [int(s[-1]) for s in step]
        base = term.scale * tread ** len(shape) * (np.indices(shape) + 1).prod(axis=0)
        noisy = base * rng.uniform(0.9, 1.1, shape)
        tables.append(Table(term.factors, tuple(points), noisy[np.ix_(*(s - 1 for s in step))]))
    cost = Tabled(Polynomial(()), tuple(tables))
    limit = Limit("latency", int(share * cost(net.sizes)))
    return replace(problem, costs={"latency": cost}, limits=(limit,))
