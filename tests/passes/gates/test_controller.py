from __future__ import annotations

import numpy as np
import pytest
from nets import chain

from prunec.compiler.budget import parse_budget
from prunec.compiler.errors import InfeasibleBudgetError
from prunec.compiler.hypergraph import Hypergraph
from prunec.passes.gates.controller import Controller, Pace, best_of_each, probabilities
from prunec.passes.gates.goal import Goal, channel_weights, chosen, goal_of
from prunec.passes.options import Options, Override
from prunec.passes.pipeline import limits_of
from prunec.runtime.subject import open_model


@pytest.fixture(scope="module")
def graph() -> Hypergraph:
    """Hyperedges of 8 and 6 groups."""
    return open_model(chain()).graph


def trained(goal: Goal, evidence: np.ndarray, pace: Pace, steps: int = 40) -> Controller:
    controller = Controller(goal, np.full(goal.graph.number_of_groups, 4.6), pace)
    for _ in range(steps):
        controller.step(evidence)
    return controller


def aim(graph: Hypergraph, budget: str, options: Options | None = None) -> Goal:
    return goal_of(graph, limits_of(graph, budget), options or Options(align=1))


PACE = Pace(ramp=30, warmup=3)


@pytest.mark.parametrize("budget", ["flops=0.7", "flops=0.4", "params=0.5,flops=0.8"])
def test_the_budget_is_met_without_waste(graph: Hypergraph, budget: str) -> None:
    goal = aim(graph, budget)
    evidence = np.random.default_rng(0).uniform(0, 1, graph.number_of_groups)
    controller = trained(goal, evidence, PACE)
    assert controller.met
    assert max(goal.reached(controller.counts).values()) <= 1
    for e in range(len(graph.edges)):  # not one channel more would fit
        more = [n + (k == e) for k, n in enumerate(controller.counts)]
        full = controller.counts[e] == graph.edges[e].size
        assert full or not goal.within(more)


def test_what_brings_least_closes_first(graph: Hypergraph) -> None:
    goal = aim(graph, "flops=0.6")
    evidence = np.random.default_rng(1).permutation(14) + 1.0
    controller = trained(goal, evidence, PACE)
    for edge in graph.edges:
        own = slice(edge.first, edge.first + edge.size)
        still = controller.open[own]
        assert still.any()
        assert evidence[own][still].min() > evidence[own][~still].max(initial=0)
    assert not controller.open.all()


def test_evidence_is_weighed_with_the_cost_of_a_channel(graph: Hypergraph) -> None:
    goal = aim(graph, "flops=0.6")
    dear = int(np.argmax(goal.weights(graph.dense())))
    controller = trained(goal, np.ones(14), PACE)
    left = np.array(controller.counts) / np.array(graph.dense())
    assert left[dear] < left[1 - dear]


def test_cost_follows_the_ramp(graph: Hypergraph) -> None:
    goal = aim(graph, "flops=0.3")
    controller = Controller(goal, np.full(14, 4.6), Pace(ramp=20))
    evidence = np.random.default_rng(2).uniform(0, 1, 14)
    for step in range(1, 21):
        before = controller.open.copy()
        controller.step(evidence)
        assert goal.within(controller.counts, step / 20)
        assert step == 20 or not (controller.open & ~before).any()  # closed for good
    assert controller.price > 0


def test_protected_and_last_channels_stay(graph: Hypergraph) -> None:
    second = graph.edges[1].name
    kept = Options(align=1, overrides={f"^{second}$": Override(keep=True)}, min_keep=3)
    goal = aim(graph, "flops=0.6", kept)
    assert goal.floors.tolist() == [3, 6]
    controller = trained(goal, np.zeros(14), PACE)
    assert controller.counts[1] == 6
    assert controller.counts[0] >= 3
    assert (controller.theta[8:] > 20).all()
    with pytest.raises(InfeasibleBudgetError):
        aim(graph, "flops=0.05", kept)


def test_weights_are_the_published_ones_of_one_budget(graph: Hypergraph) -> None:
    goal = aim(graph, "flops=0.5")
    dense, cost = graph.dense(), graph.costs["flops"]
    above = cost(dense) - goal.limits[0].at_most
    one_less = [cost(dense) - cost([n - (k == e) for k, n in enumerate(dense)]) for e in (0, 1)]
    np.testing.assert_allclose(goal.weights(dense), np.array(one_less) / above, rtol=0.01)
    twice = Options(align=1, multipliers={graph.edges[0].name: 2.0})
    doubled = aim(graph, "flops=0.5", twice).weights(dense)
    np.testing.assert_allclose(doubled / goal.weights(dense), [2, 1])


def test_costs_without_derivative_have_weights_too(graph: Hypergraph) -> None:
    cost, dense = graph.costs["memory"], graph.dense()
    weights = channel_weights(cost, dense, cost(dense))
    assert weights.shape == (2,)
    assert (weights >= 0).all() and weights.any()
    controller = trained(aim(graph, "memory=0.8"), np.arange(14.0), PACE)
    assert controller.met


def test_the_solver_keeps_what_the_gates_leave(graph: Hypergraph) -> None:
    goal = aim(graph, "flops=0.5")
    evidence = np.random.default_rng(3).uniform(0, 1, 14)
    controller = trained(goal, evidence, PACE)
    mask = chosen(goal, controller.openness())
    assert mask.tolist() == controller.open.tolist()


def test_a_run_goes_on_from_its_state(graph: Hypergraph) -> None:
    goal = aim(graph, "flops=0.5")
    rng = np.random.default_rng(4)
    parts = [rng.uniform(-1, 1, 14) for _ in range(10)]
    whole = Controller(goal, np.full(14, 3.0), PACE)
    for part in parts:
        whole.step(part)
    first = Controller(goal, np.full(14, 3.0), PACE)
    for part in parts[:5]:
        first.step(part)
    second = Controller(goal, np.zeros(14), PACE)
    second.load_state_dict(first.state_dict())
    for part in parts[5:]:
        second.step(part)
    assert second.state_dict() == whole.state_dict()


def test_closed_gates_rank_by_when_they_closed_below_all_open_ones() -> None:
    still = np.array([True, False, True, False])
    found = probabilities(np.array([3.0, 0, -1, 0]), still, np.array([0, 2, 0, 5]), 9, 0.5)
    np.testing.assert_allclose(found[0], 1 / (1 + np.exp(-3.0)))
    assert found[2] == 0.5
    assert found[1] < found[3] < 0.005


def test_the_best_of_each_are_the_open_ones_with_the_highest_logits() -> None:
    theta = np.array([1.0, 3, 2, 9, 5, 4])
    still = np.array([True, True, True, False, True, True])
    best = best_of_each(theta, still, np.array([0, 0, 0, 0, 1, 1]), np.array([2, 1]))
    assert best.tolist() == [False, True, True, False, True, False]
    assert not best_of_each(theta, still, np.array([0, 0, 0, 0, 1, 1]), np.array([0, 0])).any()


def test_absolute_limits_count_from_the_dense_cost(graph: Hypergraph) -> None:
    dense = graph.costs["flops"](graph.dense())
    limits = parse_budget(f"flops={dense // 2}", {"flops": dense}, {})
    goal = Goal(graph, limits, np.ones(2, np.int64), np.ones(2))
    assert goal.within(graph.dense(), 0.0)
    assert not goal.within(graph.dense(), 0.1)
    assert goal.reached(graph.dense())["flops"] == pytest.approx(2, rel=0.01)
