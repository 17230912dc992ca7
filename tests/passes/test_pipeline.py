from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import pytest
from nets import chain, conv, residual
from properties.blocks import batch_norm
from properties.builder import Builder
from properties.oracle import analyse

from prunec.compiler.cost import Linear, Polynomial, Table, Tabled
from prunec.compiler.errors import (
    GapError,
    InfeasibleBudgetError,
    NothingToPruneError,
    SolverError,
    UsageError,
)
from prunec.compiler.hypergraph import Hyperedge, Hypergraph
from prunec.compiler.pairwise import PairwiseProblem
from prunec.compiler.plan import Plan
from prunec.compiler.problem import Limit, Problem, Solution, Status
from prunec.compiler.reasons import Reason
from prunec.passes import pipeline
from prunec.passes.criteria.random import Random
from prunec.passes.levels import edge_levels, kept_share
from prunec.passes.options import Options, Override
from prunec.passes.pairwise.objectives import Pairwise
from prunec.passes.pipeline import choose, make_plan, solve
from prunec.passes.pose import names_of
from prunec.passes.solvers import SOLVERS
from prunec.passes.solvers.auto import Auto
from prunec.passes.solvers.greedy import Greedy
from prunec.passes.worth.share import Share


def plan(model=None, budget: str = "flops=0.5", **options: object) -> Plan:
    subject = analyse(chain() if model is None else model)
    options.setdefault("solver", Greedy())
    return make_plan(subject.model, subject.graph, budget, Options(**options), "digest")


def kept(made: Plan) -> dict[str, int]:
    return {name: len(k.positions) for name, k in made.hyperedges.items()}


@dataclass(frozen=True)
class Flat:
    """A criterion without an opinion."""

    name: ClassVar[str] = "flat"
    needs: ClassVar[str] = ""

    def __call__(self, model: object, graph: Hypergraph, stats: object) -> np.ndarray:
        return np.ones(graph.number_of_groups)


@dataclass(frozen=True)
class Fixed:
    """A solver that says what it is told to."""

    name: ClassVar[str] = "fixed"
    counts: tuple[int, ...]
    status: Status = Status.FEASIBLE

    def __call__(self, problem: Problem, start: tuple[int, ...] | None) -> Solution:
        return Solution(self.counts, 1.0, None, self.status, "fixed")


@pytest.mark.parametrize(
    ("size", "align", "least", "want"),
    [
        (6, None, 1, [1, 2, 3, 4, 5, 6]),
        (16, None, 1, [2, 4, 6, 8, 10, 12, 14, 16]),
        (64, None, 1, list(range(8, 65, 8))),
        (10, 4, 1, [4, 8, 10]),
        (10, 16, 1, [10]),
        (10, 4, 5, [8, 10]),
        (10, 1, 10, [10]),
    ],
)
def test_levels_are_multiples_of_the_alignment_and_the_dense_size(
    size: int, align: int | None, least: int, want: list[int]
) -> None:
    edge = Hyperedge("e", size, 0, ())
    assert edge_levels(edge, align, least, protected=False).tolist() == want


def test_a_protected_hyperedge_has_one_level() -> None:
    assert edge_levels(Hyperedge("e", 8, 0, ()), 1, 1, protected=True).tolist() == [8]


def test_the_best_groups_of_each_hyperedge_are_kept_first_ones_on_a_tie() -> None:
    graph = analyse(chain()).graph
    scores = np.array([1, 3, 3, 2, 3, 0, 0, 0, 5, 5, 5, 5, 5, 5], np.float64)
    mask = choose(graph, scores, (2, 3))
    assert np.flatnonzero(mask).tolist() == [1, 2, 8, 9, 10, 14]


def test_every_budget_holds() -> None:
    made = plan(budget="flops=0.7,params=0.5")
    assert all(made.costs[r][1] <= limit for r, limit in made.budget.items())


def test_a_budget_that_the_dense_model_meets_keeps_everything() -> None:
    made = plan(budget="flops=1")
    assert kept(made) == {"conv1.weight:0": 8, "conv2.weight:0": 6}
    assert (made.gap, made.weights) == (0.0, {})


def test_a_plan_records_its_provenance() -> None:
    made = plan(align=2, keep=("conv2",), criterion=Random(seed=3))
    assert made.components["criterion"] == "random{seed=3}"
    assert made.components["solver"].startswith("greedy")
    assert made.options["keep"] == ["conv2"]
    assert {"numpy", "prunec"} <= set(made.versions)


@pytest.mark.parametrize(
    "options",
    [
        {"keep": ("conv2",)},
        {"only": (r"conv1\.weight",)},
        {"overrides": {"conv2": Override(keep=True)}},
        {"overrides": {"conv2": Override(min_keep=6)}},
        {"overrides": {"conv2": Override(align=6)}},
    ],
)
def test_patterns_protect_hyperedges(options: dict) -> None:
    assert kept(plan(budget="flops=0.6", **options))["conv2.weight:0"] == 6


def test_a_later_override_wins() -> None:
    overrides = {"conv": Override(align=4), "conv1": Override(align=8)}
    assert kept(plan(budget="flops=0.95", overrides=overrides))["conv1.weight:0"] == 8


def test_patterns_are_searched_in_what_makes_a_hyperedge() -> None:
    graph = analyse(residual()).graph
    names = names_of(graph, graph.edges[0])
    assert {"stem.weight:0", "block.b.weight:0"} <= set(names)
    assert "block.a.weight:1" not in names


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"keep": ("nothing",)}, "'nothing' matches no hyperedge"),
        ({"only": ("(",)}, "not a regular expression"),
        ({"align": 0}, "at least 1"),
        ({"min_keep": -1}, "at least 0"),
    ],
)
def test_bad_options_are_usage_errors(options: dict, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        plan(**options)


def test_an_infeasible_budget_names_the_smallest_and_what_holds_it() -> None:
    with pytest.raises(InfeasibleBudgetError) as error:
        plan(budget="flops=0.01", keep=("conv1",))
    assert error.value.smallest > error.value.limit
    assert error.value.held_by[0][0] == "protected conv1.weight:0"
    assert "the smallest reachable value is" in str(error.value)


def test_a_model_without_hyperedges_has_nothing_to_prune() -> None:
    b = Builder(0, 17, batch=1)
    b.output(conv(b, b.input(1, 3, 2, 2), "conv.weight", 5))
    with pytest.raises(NothingToPruneError, match="no channel of this model") as error:
        plan(b.model())
    assert "its flops are kept by graph-output 100.0%" in str(error.value)
    assert Reason.GRAPH_OUTPUT.remedy in str(error.value)
    assert "prunec explain MODEL conv.weight:0" in str(error.value)


def test_a_model_without_layers_says_so() -> None:
    b = Builder(0, 17, batch=1)
    b.output(b.relu(b.input(1, 3, 2, 2)))
    with pytest.raises(NothingToPruneError, match="it has no convolution, Gemm or MatMul"):
        plan(b.model())


def test_an_infeasible_budget_names_barriers_by_reason() -> None:
    b = Builder(0, 17, batch=1)
    x = b.relu(conv(b, b.input(1, 3, 2, 2), "conv.weight", 8))
    soft = b.add("Softmax", [conv(b, x, "soft.weight", 8)], axis=1)
    b.output(conv(b, soft, "head.weight", 5))
    with pytest.raises(InfeasibleBudgetError) as error:
        plan(b.model(), budget="flops=0.1")
    held = dict(error.value.held_by)
    # Per position, at the smallest: conv 3, soft 8, head 8 * 5.
    assert held["graph-output"] == pytest.approx(40 / 51)
    assert held["smallest width of conv.weight:0"] == pytest.approx(11 / 51)
    assert "prunec inspect MODEL" in str(error.value)


@pytest.mark.parametrize(
    ("solver", "message"),
    [
        (Fixed((8, 6)), "breaks the limits"),
        (Fixed((1, 7)), r"breaks the limits \['conv2.weight:0'\]"),
        (Fixed((), Status.NONE), "ended with status none"),
        (Fixed((), Status.INFEASIBLE), "ended with status infeasible"),
    ],
)
def test_a_solvers_word_is_not_trusted(solver: Fixed, message: str) -> None:
    with pytest.raises(SolverError, match=message):
        plan(solver=solver)


def test_greedy_is_not_advised_to_those_who_use_it() -> None:
    class Named(Fixed):
        name: ClassVar[str] = "greedy"

    with pytest.raises(SolverError, match="no proof that there is none; --solver auto"):
        plan(solver=Named((), Status.NONE))


def test_pairs_know_what_goes_with_a_branch(monkeypatch: pytest.MonkeyPatch) -> None:
    """Else their bound would count the norms of a branch that is closed."""
    b = Builder(0, 17)
    x = conv(b, b.input(1, 3, 4, 4), "stem.weight", 6)
    inner = batch_norm(b, conv(b, b.relu(conv(b, x, "a.weight", 6)), "b.weight", 6))
    b.output(conv(b, b.add("Add", [x, inner], b.shapes[x]), "head.weight", 3))
    seen: list[PairwiseProblem] = []

    def look(problem: PairwiseProblem, *rest: object) -> None:
        seen.append(problem)
        raise SolverError("seen")

    monkeypatch.setattr(pipeline, "solve_pairs", look)
    with pytest.raises(SolverError, match="seen"):
        plan(b.model(), budget="params=0.5", objective=Pairwise(), solver=Auto(), min_keep=0)
    graph = analyse(b.model()).graph
    (problem,), (branch,) = seen, graph.branches
    closed = [0 if e in branch else edge.size for e, edge in enumerate(graph.edges)]
    ((row, _),) = problem.rows
    stated = sum(part(closed) for part in (*row.terms, *row.tables))
    assert stated == graph.costs["params"](closed) == 6 * 3 + 6 * 3


def test_a_gap_that_was_asked_for_must_be_proven() -> None:
    with pytest.raises(GapError, match="more than --max-gap"):
        plan(solver=Fixed((1, 1)), max_gap=0.01)


def test_the_kept_share_grows_from_nothing_to_all() -> None:
    np.testing.assert_allclose(kept_share(np.array([3.0, 1.0])), [0, 0.75, 1])
    np.testing.assert_allclose(kept_share(np.zeros(2)), [0, 0.5, 1])


def test_hyperedges_are_worth_what_runs_through_them() -> None:
    graph = analyse(chain()).graph
    shares = Share()(graph, (Limit("params", 1),), graph.dense(), np.ones(len(graph.edges)))
    cost, dense = graph.costs["params"], graph.dense()
    lost = [cost(dense) - cost([0 if i == e else n for i, n in enumerate(dense)]) for e in (0, 1)]
    np.testing.assert_allclose(shares, np.array(lost) / sum(lost))


def test_flat_scores_starve_no_hyperedge() -> None:
    b = Builder(0, 17)
    x = b.input(1, 4, 4, 4)
    for k in range(4):
        x = b.relu(conv(b, x, f"w{k}", 16))
    b.output(conv(b, x, "head", 2))
    made = plan(b.model(), "flops=0.5", criterion=Flat(), align=1)
    assert min(kept(made).values()) >= 6


def test_an_exponent_outside_of_its_range_is_a_usage_error() -> None:
    with pytest.raises(UsageError, match="--exponent"):
        Options(exponent=1.5)


def test_a_branch_closes_where_nothing_need_be_kept() -> None:
    made = plan(residual(), "flops=0.3", min_keep=0, only=("block.a",))
    assert kept(made) == {"stem.weight:0": 8, "block.a.weight:0": 0}
    assert made.hyperedges["block.a.weight:0"].positions == ()
    assert Plan.from_json(made.to_json()) == made


def test_hyperedges_outside_of_branches_keep_one_channel() -> None:
    assert min(kept(plan(budget="params=0.2", min_keep=0, align=1)).values()) >= 1


@pytest.mark.parametrize(
    "options",
    [
        {"min_keep": 1},
        {"min_keep": 0, "keep": ("block.a",)},
        {"min_keep": 0, "overrides": {"block.a": Override(min_keep=2)}},
    ],
    ids=["by default", "protected", "override"],
)
def test_a_branch_stays_where_something_must_be_kept(options: dict[str, object]) -> None:
    made = plan(residual(), "flops=0.8", criterion=Flat(), align=1, **options)
    assert kept(made)["block.a.weight:0"] >= 1


def test_one_branch_may_close_by_an_override() -> None:
    options = {"overrides": {"block.a": Override(min_keep=0)}, "only": ("block.a",)}
    assert kept(plan(residual(), "flops=0.3", **options))["block.a.weight:0"] == 0


def test_half_of_a_set_that_closes_together_is_no_answer() -> None:
    b = Builder(0, 17, batch=1)
    x = conv(b, b.input(1, 3, 4, 4), "stem", 6)
    y = b.relu(conv(b, b.relu(conv(b, x, "a", 4)), "b", 5, 3))
    b.output(conv(b, b.relu(b.add("Add", [x, conv(b, y, "c", 6)])), "head", 3))
    with pytest.raises(SolverError, match="a:0"):
        plan(b.model(), "flops=0.7", min_keep=0, solver=Fixed((6, 0, 1)), align=1)


def test_kernels_keep_sets_that_a_convolution_can_have() -> None:
    from prunec.compiler.freedom import Freedom

    subject = analyse(chain(), Freedom(kernels=True))
    rows = [e for e in subject.graph.subsets if subject.graph.edges[e].name == "conv1.weight:2"]
    scores = np.ones(subject.graph.number_of_groups)
    first = subject.graph.edges[rows[0]].first
    scores[first : first + 3] = 6.0, 1.0, 3.0
    counts = [1 if e in subject.graph.subsets else n for e, n in enumerate(subject.graph.dense())]
    mask = choose(subject.graph, scores, counts)
    assert mask[first : first + 3].tolist() == [False, True, False]
    made = make_plan(
        subject.model, subject.graph, "flops=0.4", Options(min_keep=4, solver=Greedy()), "digest"
    )
    for e, allowed in subject.graph.subsets.items():
        assert made.hyperedges[subject.graph.edges[e].name].positions in allowed
    assert made.options["kernels"] is True


def stairs(*values: float) -> Tabled:
    """A latency over the width of the first hyperedge of `chain`, by channel."""
    points = np.arange(1, len(values) + 1)
    return Tabled(Polynomial(()), (Table((Linear(0, ((0, 1),)),), (points,), np.array(values)),))


def solved(cost: Tabled, at_most: int, solver: str) -> Solution:
    problem = Problem(
        names=("w:0",),
        values=(np.arange(9.0),),
        levels=(np.arange(1, 9),),
        costs={"latency": cost},
        limits=(Limit("latency", at_most),),
    )
    return solve(problem, Options(solver=SOLVERS[solver]()))


@pytest.mark.parametrize("solver", SOLVERS)
def test_a_wider_model_may_be_the_only_fast_enough_one(solver: str) -> None:
    """The narrowest is not the cheapest: 3 channels are."""
    found = solved(stairs(9, 9, 4, 8, 9, 9, 9, 9), 5, solver)
    assert found.counts == (3,)
    assert found.bound is not None and found.bound >= found.objective == 3.0


@pytest.mark.parametrize("solver", SOLVERS)
def test_a_latency_out_of_reach_names_the_least(solver: str) -> None:
    with pytest.raises(InfeasibleBudgetError) as error:
        solved(stairs(9, 9, 4, 8, 9, 9, 9, 9), 3, solver)
    assert (error.value.smallest, error.value.limit, error.value.dense) == (4, 3, 9)
