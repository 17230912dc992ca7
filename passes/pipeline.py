"""From a hypergraph and a budget to a plan: score, pose, solve, choose."""

from __future__ import annotations

import importlib.metadata
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from prunec.compiler.budget import parse_budget
from prunec.compiler.cost import monotone
from prunec.compiler.coverage import coverage, largest
from prunec.compiler.dial import Dial
from prunec.compiler.errors import (
    GapError,
    InfeasibleBudgetError,
    NothingToPruneError,
    SolverError,
    UsageError,
)
from prunec.compiler.hypergraph import Hypergraph
from prunec.compiler.joins import OF_ACTIVATIONS, WHY_ABSENT
from prunec.compiler.plan import Kept, Plan, weight_slices
from prunec.compiler.problem import FloatArray, Limit, Problem, Solution, Status
from prunec.compiler.reasons import Reason
from prunec.compiler.spec import render
from prunec.compiler.stats import Stats
from prunec.passes.dials import FIT, dialled_costs, sizes_of
from prunec.passes.join import slow_joins
from prunec.passes.levels import (
    best_subsets,
)
from prunec.passes.options import Options
from prunec.passes.pairwise.decide import (
    pairwise_solver,
    pose_pairs,
    separable_solver,
    solve_pairs,
    whole_mask,
)
from prunec.passes.pairwise.importance import Importance, importance
from prunec.passes.pairwise.objectives import Pairwise
from prunec.passes.pose import allowed_levels, pose, posed_costs
from prunec.passes.schedules.one_shot import OneShot
from prunec.passes.solvers.least import least

SHOWN_BARRIERS = 3
Mask = NDArray[np.bool_]
VERSIONED = ("prunec", "numpy", "onnx-ir", "pulp")


@dataclass(frozen=True, slots=True, eq=False)
class Choice:
    """What a solver decided, before it is written out as a plan.

    mask: (number_of_groups + 1,) True = kept; the last entry serves index KEPT. dense_objective:
    the objective of keeping everything. dials: name -> what was chosen, a number of groups or of
    bits; posed_dials: what could be. The other fields are those of `Solution`.
    """

    mask: Mask
    objective: float
    dense_objective: float
    bound: float | None
    gap: float | None
    solver: str
    proof: str = ""
    prices: Mapping[str, float] = field(default_factory=dict)
    dials: Mapping[str, int] = field(default_factory=dict)
    posed_dials: tuple[Dial, ...] = ()

    def chosen(self, kind: str) -> dict[str, int]:
        """Weight -> what the dial of this kind says, where that is not the dense choice."""
        own = (dial for dial in self.posed_dials if dial.kind == kind)
        return {
            dial.weight: self.dials[dial.name]
            for dial in own
            if dial.counts[dial.choices.index(self.dials[dial.name])] != dial.whole
        }


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
    limits = limits_of(graph, budget)
    scores = score(model, graph, options, stats)
    return plan_of(graph, decide(graph, scores, limits, options), limits, options, digest)


def limits_of(graph: Hypergraph, budget: str | Sequence[str]) -> tuple[Limit, ...]:
    """A budget in base units. Raises UsageError, and NothingToPruneError where none can be met."""
    dense = {name: cost(graph.dense()) for name, cost in graph.costs.items()}
    limits = parse_budget(budget, dense, dict.fromkeys(OF_ACTIVATIONS - dense.keys(), WHY_ABSENT))
    if not graph.edges:
        raise NothingToPruneError(f"no channel of this model can be removed{_why_frozen(graph)}")
    return limits


def score(
    model: ir.Model, graph: Hypergraph, options: Options, stats: Stats | None = None
) -> FloatArray | Importance:
    """What `decide` needs to know of the weights, for any number of budgets."""
    if isinstance(options.objective, Pairwise):
        return importance(model, graph, options.objective.normalise)
    return options.criterion(model, graph, stats)


def decide(
    graph: Hypergraph,
    scores: FloatArray | Importance,
    limits: tuple[Limit, ...],
    options: Options,
    at_most: Sequence[int] | None = None,
    dials: Sequence[Dial] = (),
) -> Choice:
    """Choose under these limits. at_most: kept counts that are not exceeded, of scores only.

    dials: choices beside kept counts, see `passes/dials.py`; what they say is in `Choice.dials`.
    Numbers of groups are only numbers: the blocks are found, and entered into `Plan.groups`, by
    whoever rewrites. Raises UsageError, InfeasibleBudgetError, GapError, SolverError.
    """
    if isinstance(scores, Importance):
        if dials:
            raise UsageError(
                "--objective pairwise chooses channels only: give numbers of groups and of bits "
                "for it, or leave it out"
            )
        return _decide_pairs(graph, scores, limits, options)
    if graph.freedom.decouple:
        raise UsageError(
            "--decouple needs --objective pairwise: scores of single channels don't know who reads "
            "what is written"
        )
    solution, whole = _settled(graph, scores, limits, options, at_most, dials)
    counts, turned = solution.counts[: len(graph.edges)], solution.counts[len(graph.edges) :]
    budgeted = {x.resource for x in limits}
    return Choice(
        mask=choose(graph, scores, counts),
        objective=solution.objective,
        dense_objective=whole,
        bound=solution.bound,
        gap=solution.gap,
        solver=solution.solver,
        proof=solution.proof,
        prices={name: price for name, price in solution.prices.items() if name in budgeted},
        dials={dial.name: dial.choice(n) for dial, n in zip(dials, turned, strict=True)},
        posed_dials=tuple(dials),
    )


def _decide_pairs(
    graph: Hypergraph, scores: Importance, limits: tuple[Limit, ...], options: Options
) -> Choice:
    """The same where pairs of channels are what is worth something."""
    levels, together = allowed_levels(graph, options)
    problem = pose_pairs(graph, scores, limits, levels, together)
    problem = replace(problem, costs=posed_costs(graph, limits, together))
    shell = Problem(
        names=problem.names,
        values=tuple(np.zeros(n + 1) for n in problem.sizes),
        levels=levels,
        costs=problem.costs,
        limits=limits,
        together=together,
    )
    check_feasible(shell, graph)
    solution = solve_pairs(problem, pairwise_solver(options.solver), options.max_gap)
    return Choice(
        mask=whole_mask(solution),
        objective=solution.objective,
        dense_objective=problem.objective(problem.dense()),
        bound=solution.bound,
        gap=solution.gap,
        solver=solution.solver,
        proof=solution.proof,
        prices=solution.prices,
    )


def everything(graph: Hypergraph) -> Choice:
    """The choice to keep every channel, which nobody had to look for."""
    mask = np.ones(graph.number_of_groups + 1, bool)
    return Choice(mask, 0.0, 0.0, 0.0, 0.0, "dense", "dense")


def plan_of(
    graph: Hypergraph, choice: Choice, limits: tuple[Limit, ...], options: Options, digest: str
) -> Plan:
    """The plan of a choice, with its provenance."""
    mask, dials = choice.mask, choice.posed_dials
    dense, costs = sizes_of(graph, dials), dialled_costs(graph, dials)
    counts = [int(mask[e.first : e.first + e.size].sum()) for e in graph.edges]
    counts += [dial.counts[dial.choices.index(choice.dials[dial.name])] for dial in dials]
    return Plan(
        graph_sha256=digest,
        hyperedges={
            e.name: Kept(e.size, tuple(np.flatnonzero(mask[e.first : e.first + e.size]).tolist()))
            for e in graph.edges
        },
        weights=weight_slices(graph, mask),
        costs={name: (cost(dense), cost(counts)) for name, cost in costs.items()},
        budget={x.resource: x.at_most for x in limits},
        objective=choice.objective,
        bound=choice.bound,
        gap=choice.gap,
        prices=choice.prices,
        bits=choice.chosen("bits"),
        components=_components(choice, options),
        options={**options.provenance(), **asdict(graph.freedom), **_slow(graph, mask)},
        versions={name: importlib.metadata.version(name) for name in VERSIONED},
    )


def _slow(graph: Hypergraph, mask: Mask) -> dict[str, list[str]]:
    """What the plan says of decoupled additions: those that will not pay."""
    return {"slow_joins": list(slow_joins(graph, mask))} if graph.joins else {}


def _components(choice: Choice, options: Options) -> dict[str, str]:
    """What was used, as specifications that run again."""
    used = {"solver": render(options.solver), "solved_by": choice.solver}
    used["proved_by"] = choice.proof
    if isinstance(options.objective, Pairwise):
        return {**used, "objective": render(options.objective)}
    used |= {"criterion": render(options.criterion), "worth": render(options.weighing)}
    one_shot = options.schedule == OneShot()
    return used if one_shot else {**used, "schedule": render(options.schedule)}


def _settled(
    graph: Hypergraph,
    scores: FloatArray,
    limits: tuple[Limit, ...],
    options: Options,
    at_most: Sequence[int] | None,
    dials: Sequence[Dial],
) -> tuple[Solution, float]:
    """Solve; again with the worths at the counts found, where these depend on them.

    Returns the objective of keeping everything as well, by the same worths.
    """
    problem = pose(graph, scores, limits, options, at_most=at_most, dials=dials)
    check_feasible(problem, graph)
    solution = solve(problem, options)
    for _ in range(options.weighing.rounds):
        counts = solution.counts[: len(graph.edges)]
        problem = pose(graph, scores, limits, options, counts, at_most, dials)
        again = solve(problem, options)
        settled, solution = again.counts == solution.counts, again
        if settled:
            break
    return solution, problem.objective(problem.dense())


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


def check_feasible(problem: Problem, graph: Hypergraph) -> None:
    """Raise InfeasibleBudgetError when even the smallest model exceeds a limit.

    Not for costs that may fall: of these the smallest model need not be the cheapest.
    """
    smallest = problem.smallest()
    dense = (*graph.dense(), *problem.dense()[len(graph.edges) :])
    for limit in problem.violated(smallest):
        cost = problem.costs[limit.resource]
        if not monotone(cost):
            continue
        least = cost(smallest)
        found = coverage(graph).resources[limit.resource]
        scale = found.dense / max(least, 1)
        shares = [(r.value, part * scale) for r, part in found.barriers.items()]
        without = cost.without_each(smallest)
        for e, name in enumerate(problem.names):
            kind = Reason.PROTECTED.value if len(problem.levels[e]) == 1 else "smallest width of"
            shares.append((f"{kind} {name}", 1 - without[e] / max(least, 1)))
        held = sorted((s for s in shares if s[1] >= 0.001), key=lambda s: -s[1])[:SHOWN_BARRIERS]
        raise InfeasibleBudgetError(limit.resource, limit.at_most, least, cost(dense), tuple(held))


def solve(problem: Problem, options: Options) -> Solution:
    """Run the solver and trust nothing it says: limits and levels are checked here."""
    if not problem.violated(problem.dense()):
        counts, best = problem.dense(), problem.objective(problem.dense())
        free = {x.resource: 0.0 for x in problem.limits}
        return Solution(counts, best, best, Status.OPTIMAL, "dense", "dense", free)
    solver = separable_solver(options.solver)
    solution = solver(problem, None)
    name = solver.name
    if solution.status is Status.INFEASIBLE and not problem.feasible(problem.smallest()):
        raise _infeasible(problem)
    if solution.status not in (Status.OPTIMAL, Status.FEASIBLE):
        remedy = "--solver auto" if name == "greedy" else "give it more time, or --solver greedy"
        raise SolverError(
            f"solver {name} ended with status {solution.status.value}: no choice within "
            f"the budget, and no proof that there is none; {remedy}"
        )
    wrong = [problem.names[e] for e, n in enumerate(solution.counts) if n not in problem.levels[e]]
    wrong += [
        problem.names[members[0]]
        for members in problem.together
        if len({solution.counts[e] == 0 for e in members}) > 1
    ]
    if problem.violated(solution.counts) or wrong:
        raise SolverError(f"solver {name} returned a choice that breaks the limits {wrong}")
    if options.max_gap is not None and (solution.gap is None or solution.gap > options.max_gap):
        raise GapError(1.0 if solution.gap is None else solution.gap, options.max_gap)
    return solution


def _infeasible(problem: Problem) -> InfeasibleBudgetError:
    """What to say where a solver has proven that no choice is feasible."""
    asked = tuple(x for x in problem.limits if x.resource != FIT)
    limits = tuple(x for x in problem.violated(problem.smallest()) if x in asked) or asked
    lowest = {x: least(problem, x.resource) for x in limits}
    worst = max(limits, key=lambda x: lowest[x] / max(1, x.at_most))
    dense = problem.costs[worst.resource](problem.dense())
    return InfeasibleBudgetError(worst.resource, worst.at_most, lowest[worst], dense)


def choose(graph: Hypergraph, scores: FloatArray, counts: Sequence[int]) -> Mask:
    """(number_of_groups + 1,) mask of the best groups of each hyperedge; ties keep the first."""
    mask = np.zeros(graph.number_of_groups + 1, bool)
    mask[-1] = True
    for e, (edge, count) in enumerate(zip(graph.edges, counts, strict=True)):
        own = scores[edge.first : edge.first + edge.size]
        best = np.argsort(-own, kind="stable")[:count]
        if count and e in graph.subsets:
            best = np.array(best_subsets(own, graph.subsets[e])[count], np.int64)
        mask[edge.first + best] = True
    return mask
