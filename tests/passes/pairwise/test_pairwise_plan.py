"""--objective pairwise through the pipeline, with what the options allow."""

from __future__ import annotations

import numpy as np
import pytest
from nets import chain, residual
from properties.oracle import analyse

from prunec.compiler.errors import GapError, InfeasibleBudgetError, SolverError, UsageError
from prunec.compiler.pairwise import PairwiseProblem, PairwiseSolution
from prunec.compiler.problem import Status
from prunec.passes.criteria.random import Random
from prunec.passes.options import Options, Override
from prunec.passes.pairwise import PAIRWISE_SOLVERS, Pairwise, Separable
from prunec.passes.pairwise.decide import solve_pairs
from prunec.passes.pairwise.greedy import Greedy
from prunec.passes.pairwise.importance import NORMS, importance
from prunec.passes.pairwise.lagrangian import Lagrangian
from prunec.passes.pipeline import make_plan
from prunec.passes.solvers.greedy import Greedy as SeparableGreedy
from prunec.passes.solvers.milp import Milp as SeparableMilp


def plan(model=None, budget: str = "flops=0.5", **options: object):
    subject = analyse(chain() if model is None else model)
    options.setdefault("align", 1)
    made = Options(objective=options.pop("objective", Pairwise()), **options)
    return subject, make_plan(subject.model, subject.graph, budget, made, "digest")


def kept(made) -> dict[str, int]:
    return {name: len(k.positions) for name, k in made.hyperedges.items()}


@pytest.mark.parametrize("name", PAIRWISE_SOLVERS)
@pytest.mark.parametrize("normalise", NORMS)
def test_the_budget_holds_and_the_objective_is_the_importance_kept(
    name: str, normalise: str
) -> None:
    subject, made = plan(residual(), solver=PAIRWISE_SOLVERS[name](), objective=Pairwise(normalise))
    assert made.costs["flops"][1] <= made.budget["flops"]
    mask = made.mask(subject.graph)
    whole = importance(subject.model, subject.graph, normalise)
    total = whole.constant + whole.linear[mask[:-1]].sum()
    for block in whole.blocks:
        a, b = (subject.graph.edges[e] for e in (block.rows, block.columns))
        rows, columns = (mask[e.first : e.first + e.size] for e in (a, b))
        total += block.values[np.ix_(rows, columns)].sum()
    assert made.objective == pytest.approx(total, rel=1e-6)
    assert made.bound >= made.objective
    assert 0 <= made.gap < 0.3


def test_the_plan_says_what_was_maximised_and_who_proved_it() -> None:
    _, made = plan(solver=Lagrangian(kicks=3), objective=Pairwise("sum"))
    assert made.components["objective"] == "pairwise{normalise=sum}"
    assert made.components["solver"] == "lagrangian{kicks=3}"
    assert made.components["proved_by"] in ("counts", "dense")
    assert "criterion" not in made.components


def test_all_of_the_model_fits_into_a_budget_of_all() -> None:
    _, made = plan(budget="flops=1.0")
    assert made.gap == 0
    assert kept(made) == {"conv1.weight:0": 8, "conv2.weight:0": 6}


def test_alignment_minimum_and_protection_hold() -> None:
    _, made = plan(align=4, budget="flops=0.7")
    assert made.costs["flops"][1] <= made.budget["flops"]
    assert kept(made)["conv1.weight:0"] in (4, 8)
    assert kept(made)["conv2.weight:0"] in (4, 6)
    _, made = plan(min_keep=5, budget="flops=0.7")
    assert min(kept(made).values()) >= 5
    _, made = plan(keep=("conv1",), budget="flops=0.95")
    assert kept(made)["conv1.weight:0"] == 8
    _, made = plan(only=("conv1",))
    assert kept(made)["conv2.weight:0"] == 6
    _, made = plan(overrides={"conv2": Override(min_keep=4)})
    assert kept(made)["conv2.weight:0"] >= 4


def test_several_budgets_hold_at_once() -> None:
    _, made = plan(residual(), "flops=0.6,params=0.4,bytes=0.5")
    for resource, limit in made.budget.items():
        assert made.costs[resource][1] <= limit


def test_a_budget_that_cannot_be_met_says_so() -> None:
    with pytest.raises(InfeasibleBudgetError):
        plan(budget="flops=0.01")


def test_a_gap_that_is_not_proven_is_an_error() -> None:
    with pytest.raises(GapError):
        plan(residual(), max_gap=1e-12, solver=Lagrangian(kicks=0))


@pytest.mark.parametrize(
    "options",
    [
        {"criterion": Random()},
        {"exponent": 0.5},
        {"multipliers": {"conv1.weight:0": 2.0}},
        {"solver": SeparableMilp()},
        {"solver": SeparableGreedy()},
        {"solver": Greedy(), "objective": Separable()},
    ],
)
def test_what_would_have_no_effect_is_refused(options: dict[str, object]) -> None:
    with pytest.raises(UsageError):
        Options(**{"objective": Pairwise(), **options})


def test_the_answer_of_a_solver_is_checked() -> None:
    subject = analyse(chain())
    whole = importance(subject.model, subject.graph, "none")
    graph = subject.graph
    levels = tuple(np.arange(1, e.size + 1) for e in graph.edges)
    from prunec.compiler.problem import Limit
    from prunec.passes.pairwise.decide import pose_pairs

    dense = graph.costs["flops"](graph.dense())
    problem = pose_pairs(graph, whole, (Limit("flops", dense // 2),), levels, ())

    class Liar:
        name = "liar"

        def __init__(self, status: Status, objective: float, keep: int) -> None:
            self.said = status, objective, keep

        def __call__(self, problem: PairwiseProblem, start: object) -> PairwiseSolution:
            status, objective, keep = self.said
            mask = np.zeros(len(problem.linear), bool)
            mask[[*range(keep), *range(8, 8 + keep)]] = True
            return PairwiseSolution(mask, objective, None, status, "liar")

    for liar in (
        Liar(Status.NONE, 0.0, 1),
        Liar(Status.FEASIBLE, 0.0, 6),
        Liar(Status.OPTIMAL, 1e9, 1),
    ):
        with pytest.raises(SolverError, match="liar"):
            solve_pairs(problem, liar, None)
