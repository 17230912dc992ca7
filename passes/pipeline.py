"""From a hypergraph and a budget to a plan: score, pose, solve, choose."""

from __future__ import annotations

import importlib.metadata
import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
import onnx_ir as ir

from prunec.compiler.budget import parse_budget
from prunec.compiler.coverage import coverage, largest
from prunec.compiler.criterion import Criterion
from prunec.compiler.errors import (
    GapError,
    InfeasibleBudgetError,
    NothingToPruneError,
    SolverError,
    UsageError,
)
from prunec.compiler.hypergraph import Hyperedge, Hypergraph
from prunec.compiler.plan import Kept, Plan, weight_slices
from prunec.compiler.problem import FloatArray, IntArray, Limit, Problem, Solution, Solver, Status
from prunec.compiler.reasons import Reason
from prunec.compiler.spec import render
from prunec.compiler.stats import Stats
from prunec.passes.criteria.magnitude import Magnitude
from prunec.passes.solvers.auto import Auto

SHOWN_BARRIERS = 3
VERSIONED = ("prunec", "numpy", "onnx-ir", "pulp")


@dataclass(frozen=True, slots=True)
class Override:
    """Settings of the hyperedges that a pattern matches; None leaves the general setting."""

    align: int | None = None
    min_keep: int | None = None
    keep: bool = False


@dataclass(frozen=True, slots=True)
class Options:
    """How to choose. align: None = min(8, max(1, size // 8)) per hyperedge.

    keep: hyperedges that match any of these patterns are not touched. only: if given, no others
    are touched. overrides: pattern -> settings, later ones win. Patterns are searched in the
    hyperedge's name and in the names of the stored axes that its channels are made by.
    max_gap: the largest optimality gap to accept, or None. exponent: in (0, 1]; the value of a
    hyperedge is its cost share times (kept share of its scores) ** exponent. 1 is the plain sum;
    below 1 the first channels are worth more than the last, which spreads the cuts but makes
    optimality harder to prove.
    """

    criterion: Criterion = field(default_factory=Magnitude)
    solver: Solver = field(default_factory=Auto)
    align: int | None = None
    min_keep: int = 1
    keep: tuple[str, ...] = ()
    only: tuple[str, ...] = ()
    overrides: Mapping[str, Override] = field(default_factory=dict)
    max_gap: float | None = None
    exponent: float = 1.0

    def __post_init__(self) -> None:
        for name in ("align", "min_keep"):
            number = getattr(self, name)
            if number is not None and not isinstance(number, int):
                raise UsageError(f"{name} must be a whole number, not {number!r}")
        if not 0 < self.exponent <= 1:
            raise UsageError(f"--exponent must be in (0, 1], not {self.exponent}")

    def provenance(self) -> dict[str, Any]:
        """What the plan records, as JSON values."""
        shown: dict[str, Any] = {
            "align": self.align,
            "min_keep": self.min_keep,
            "exponent": self.exponent,
            "keep": list(self.keep),
            "only": list(self.only),
        }
        for pattern, o in self.overrides.items():
            shown.setdefault("overrides", {})[pattern] = {
                "align": o.align, "min_keep": o.min_keep, "keep": o.keep,
            }  # fmt: skip
        return shown


def make_plan(
    model: ir.Model,
    graph: Hypergraph,
    budget: str | Sequence[str],
    options: Options,
    digest: str,
    stats: Stats | None = None,
) -> Plan:
    """Choose what to keep so that every budget holds and the kept scores are largest.

    digest: identity of the dense graph, recorded in the plan. Raises UsageError,
    InfeasibleBudgetError, NothingToPruneError, GapError, SolverError.
    """
    dense = {name: cost(graph.dense()) for name, cost in graph.costs.items()}
    limits = parse_budget(budget, dense)
    if not graph.edges:
        raise NothingToPruneError(f"no channel of this model can be removed{_why_frozen(graph)}")
    scores = options.criterion(model, graph, stats)
    problem = pose(graph, scores, limits, options)
    check_feasible(problem, graph)
    solution = solve(problem, options)
    mask = choose(graph, scores, solution.counts)
    pruned = {name: cost(solution.counts) for name, cost in graph.costs.items()}
    return Plan(
        graph_sha256=digest,
        hyperedges={
            e.name: Kept(e.size, tuple(np.flatnonzero(mask[e.first : e.first + e.size]).tolist()))
            for e in graph.edges
        },
        weights=weight_slices(graph, mask),
        costs={name: (dense[name], pruned[name]) for name in dense},
        budget={x.resource: x.at_most for x in limits},
        objective=solution.objective,
        bound=solution.bound,
        gap=solution.gap,
        components={
            "criterion": render(options.criterion),
            "solver": render(options.solver),
            "solved_by": solution.solver,
        },
        options={**options.provenance(), **asdict(graph.freedom)},
        versions={name: importlib.metadata.version(name) for name in VERSIONED},
    )


def _why_frozen(graph: Hypergraph) -> str:
    """The largest barriers, what would free one of them, and how to see more."""
    for unknown in graph.diagnostics:
        if unknown.code == "no-shape":
            return f": {unknown.message}"
    if not graph.made:
        return ": it has no convolution, Gemm or MatMul with a stored weight"
    found = coverage(graph)
    for resource, held in found.resources.items():
        parts = list(largest(held.barriers, SHOWN_BARRIERS))
        if not parts:
            continue
        shares = ", ".join(f"{reason.value} {share:.1%}" for reason, share in parts)
        first = next((reason for reason, _ in parts if reason.can_be_freed), parts[0][0])
        value, axis = found.examples.get(first, graph.made[0])
        return (
            f": its {resource} are kept by {shares}; what would free {first.value}: "
            f"{first.remedy}; see `prunec explain MODEL {value}:{axis}` and `prunec inspect MODEL`"
        )
    return ""


def pose(
    graph: Hypergraph, scores: FloatArray, limits: tuple[Limit, ...], options: Options
) -> Problem:
    """The selection problem of these scores under these limits."""
    values, levels = [], []
    shares = cost_shares(graph, limits)
    for e, protected in enumerate(_protected(graph, options)):
        edge = graph.edges[e]
        own = np.sort(scores[edge.first : edge.first + edge.size])[::-1]
        values.append(shares[e] * kept_share(own) ** options.exponent)
        levels.append(edge_levels(edge, *_settings(graph, edge, options), protected))
    return Problem(
        names=tuple(e.name for e in graph.edges),
        values=tuple(values),
        levels=tuple(levels),
        costs={x.resource: graph.costs[x.resource] for x in limits},
        limits=limits,
    )


def kept_share(scores: FloatArray) -> FloatArray:
    """(size + 1,) share of the total that the k best scores hold, from 0 to 1."""
    total = scores.sum()
    if not total > 0:
        return np.linspace(0.0, 1.0, len(scores) + 1)
    return np.concatenate([[0.0], np.minimum(np.cumsum(scores) / total, 1.0)])


def cost_shares(graph: Hypergraph, limits: tuple[Limit, ...]) -> FloatArray:
    """(number of hyperedges,) how much of the limited costs runs through each; sums to 1.

    A hyperedge is worth what it costs, so that differences within it decide. Were all worth the
    same, the streams of residual networks, which cost most, would be closed.
    """
    dense = graph.dense()
    total = np.zeros(len(dense))
    for limit in limits:
        cost = graph.costs[limit.resource]
        full = cost(dense)
        for e, rest in enumerate(cost.without_each(dense)):
            total[e] += (full - rest) / max(full, 1)
    whole = total.sum()
    return total / whole if whole > 0 else np.full(len(dense), 1 / max(len(dense), 1))


def edge_levels(edge: Hyperedge, align: int | None, min_keep: int, protected: bool) -> IntArray:
    """Allowed kept counts: multiples of the alignment from the minimum, and the dense size."""
    if protected or min_keep >= edge.size:
        return np.array([edge.size], np.int64)
    step = min(8, max(1, edge.size // 8)) if align is None else align
    multiples = np.arange(step, edge.size, step, dtype=np.int64)
    return np.append(multiples[multiples >= min_keep], edge.size)


def names_of(graph: Hypergraph, edge: Hyperedge) -> list[str]:
    """What a pattern is searched in: the hyperedge's name and the stored axes that make it.

    These are output axes of weights and vectors (biases, norms), not the input axes of consumers.
    """
    made = set(graph.made)
    vectors = {w.value for w in graph.weights if len(w.shape) == 1}
    return [
        edge.name,
        *(
            f"{m.value}:{m.axis}"
            for m in edge.members
            if (m.value, m.axis) in made or m.value in vectors
        ),
    ]


def _matches(pattern: str, names: Sequence[str]) -> bool:
    try:
        return any(re.search(pattern, name) for name in names)
    except re.error as error:
        raise UsageError(f"pattern {pattern!r} is not a regular expression: {error}") from None


def _protected(graph: Hypergraph, options: Options) -> list[bool]:
    if not (options.keep or options.only or options.overrides):
        return [False] * len(graph.edges)
    out = []
    named = [names_of(graph, edge) for edge in graph.edges]
    for names in named:
        out.append(
            any(_matches(p, names) for p in options.keep)
            or (bool(options.only) and not any(_matches(p, names) for p in options.only))
            or any(o.keep and _matches(p, names) for p, o in options.overrides.items())
        )
    for pattern in (*options.keep, *options.only, *options.overrides):
        if not any(_matches(pattern, names) for names in named):
            raise UsageError(f"pattern {pattern!r} matches no hyperedge (see `prunec inspect`)")
    return out


def _settings(graph: Hypergraph, edge: Hyperedge, options: Options) -> tuple[int | None, int]:
    align, min_keep = options.align, options.min_keep
    for pattern, own in options.overrides.items():
        if _matches(pattern, names_of(graph, edge)):
            align = align if own.align is None else own.align
            min_keep = min_keep if own.min_keep is None else own.min_keep
    if (align is not None and align < 1) or min_keep < 1:
        raise UsageError(f"align and min_keep must be at least 1 (hyperedge {edge.name})")
    return align, min_keep


def check_feasible(problem: Problem, graph: Hypergraph) -> None:
    """Raise InfeasibleBudgetError when even the smallest model exceeds a limit."""
    smallest, dense = problem.smallest(), graph.dense()
    for limit in problem.violated(smallest):
        cost = problem.costs[limit.resource]
        least = cost(smallest)
        found = coverage(graph).resources[limit.resource]
        shares = [(r.value, part * found.dense / least) for r, part in found.barriers.items()]
        without = cost.without_each(smallest)
        for e, name in enumerate(problem.names):
            kind = Reason.PROTECTED.value if len(problem.levels[e]) == 1 else "smallest width of"
            shares.append((f"{kind} {name}", 1 - without[e] / least))
        held = sorted((s for s in shares if s[1] >= 0.001), key=lambda s: -s[1])[:SHOWN_BARRIERS]
        raise InfeasibleBudgetError(limit.resource, limit.at_most, least, cost(dense), tuple(held))


def solve(problem: Problem, options: Options) -> Solution:
    """Run the solver and trust nothing it says: limits and levels are checked here."""
    if not problem.violated(problem.dense()):
        counts, best = problem.dense(), problem.objective(problem.dense())
        return Solution(counts, best, best, Status.OPTIMAL, "dense")
    solution = options.solver(problem, None)
    name = options.solver.name
    if solution.status not in (Status.OPTIMAL, Status.FEASIBLE):
        raise SolverError(
            f"solver {name} ended with status {solution.status.value} on a feasible problem; "
            "give it more time, or use --solver greedy"
        )
    wrong = [problem.names[e] for e, n in enumerate(solution.counts) if n not in problem.levels[e]]
    if problem.violated(solution.counts) or wrong:
        raise SolverError(f"solver {name} returned a choice that breaks the limits {wrong}")
    if options.max_gap is not None and (solution.gap is None or solution.gap > options.max_gap):
        raise GapError(1.0 if solution.gap is None else solution.gap, options.max_gap)
    return solution


def choose(
    graph: Hypergraph, scores: FloatArray, counts: Sequence[int]
) -> np.ndarray[tuple[int, ...], np.dtype[np.bool_]]:
    """(number_of_groups + 1,) mask of the best groups of each hyperedge; ties keep the first."""
    mask = np.zeros(graph.number_of_groups + 1, bool)
    mask[-1] = True
    for edge, count in zip(graph.edges, counts, strict=True):
        order = np.argsort(-scores[edge.first : edge.first + edge.size], kind="stable")
        mask[edge.first + order[:count]] = True
    return mask
