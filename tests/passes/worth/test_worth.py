"""What hyperedges are worth as a whole."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import pytest
from nets import chain, residual

from prunec.compiler.budget import parse_budget
from prunec.compiler.errors import UsageError
from prunec.compiler.hypergraph import Hypergraph
from prunec.compiler.weights import edge_weights
from prunec.passes.options import Options
from prunec.passes.pipeline import make_plan
from prunec.passes.solvers.milp import Milp
from prunec.passes.worth import WORTHS, parse_worth
from prunec.passes.worth.equal import Equal
from prunec.passes.worth.gator import Gator
from prunec.passes.worth.share import Share
from prunec.passes.worth.sum import Sum
from prunec.runtime.subject import open_model


@pytest.fixture(scope="module")
def subject():
    return open_model(chain())


def limits(graph, budget: str = "flops=0.5"):
    dense = graph.dense()
    return parse_budget(budget, {name: cost(dense) for name, cost in graph.costs.items()})


def ones(graph) -> np.ndarray:
    return np.ones(len(graph.edges))


def kept(subject, budget: str = "flops=0.5", **options) -> dict[str, int]:
    made = make_plan(subject.model, subject.graph, budget, Options(align=1, **options), "")
    return {name: len(k.positions) for name, k in made.hyperedges.items()}


@pytest.mark.parametrize("name", WORTHS)
def test_worths_are_positive_for_every_hyperedge(name: str) -> None:
    graph = open_model(residual()).graph
    worth = WORTHS[name]()(graph, limits(graph), graph.dense(), ones(graph))
    assert worth.shape == (len(graph.edges),)
    assert (worth > 0).all()


def test_equal_is_the_same_for_hyperedges_or_for_channels(subject) -> None:
    graph = subject.graph
    np.testing.assert_allclose(
        Equal()(graph, limits(graph), graph.dense(), ones(graph)), [1 / 2, 1 / 2]
    )
    per_channel = Equal(per_channel=True)(graph, limits(graph), graph.dense(), ones(graph))
    np.testing.assert_allclose(per_channel, [8 / 14, 6 / 14])


def test_gators_static_weights_are_the_shares_of_a_flops_budget(subject) -> None:
    # No product meets a hyperedge twice here, so what goes with it is its size times the slope.
    graph = subject.graph
    share = Share()(graph, limits(graph), graph.dense(), ones(graph))
    gator = Gator(adaptive=False)(graph, limits(graph), graph.dense(), ones(graph))
    np.testing.assert_allclose(gator / gator.sum(), share)


def test_the_static_total_cost_scales_and_changes_no_choice(subject) -> None:
    plain, scaled = Gator(adaptive=False), Gator(adaptive=False, static_total_cost=76848)
    assert kept(subject, worth=plain) == kept(subject, worth=scaled)


def test_adaptive_weights_are_those_at_the_kept_counts(subject) -> None:
    graph, cost = subject.graph, subject.graph.costs["params"]
    worth = Gator("params")(graph, limits(graph), (8, 2), ones(graph))
    slopes = edge_weights(cost, (8, 2), cost(graph.dense()))
    np.testing.assert_allclose(worth, slopes * np.array(graph.dense()))
    assert kept(subject, worth=Gator("params")) != {}


def test_a_multiplier_makes_a_hyperedge_dearer(subject) -> None:
    plain = kept(subject)
    dear = kept(subject, multipliers={"conv1.weight:0": 8.0})
    cheap = kept(subject, multipliers={"conv1.weight:0": 1 / 8})
    assert dear["conv1.weight:0"] < plain["conv1.weight:0"] <= cheap["conv1.weight:0"]


def test_bad_options_are_usage_errors(subject) -> None:
    graph = subject.graph
    with pytest.raises(UsageError, match="no weights for resource 'flop'; did you mean 'flops'"):
        Gator("flop")(graph, limits(graph), graph.dense(), ones(graph))
    with pytest.raises(UsageError, match="static_total_cost"):
        Gator(static_total_cost=-1)
    with pytest.raises(UsageError, match="no hyperedge 'nothing'"):
        kept(subject, multipliers={"nothing": 2.0})


@dataclass(frozen=True, slots=True)
class Losses:
    """Scores in one unit: of the first hyperedge a thousand times those of the second."""

    name: ClassVar[str] = "losses"
    needs: ClassVar[str] = ""
    comparable: ClassVar[bool] = True
    factor: float = 1e-9

    def __call__(self, model: object, graph: Hypergraph, stats: object) -> np.ndarray:
        first, second = graph.dense()
        scores = [1000.0 + np.arange(first), 1.0 + np.arange(second) / second]
        return self.factor * np.concatenate(scores)


def test_sum_counts_scores_as_they_are(subject) -> None:
    by_sum = kept(subject, "params=0.75", criterion=Losses(), worth=Sum())
    by_share = kept(subject, "params=0.75", criterion=Losses(), worth=Share())
    assert by_sum["conv1.weight:0"] > by_share["conv1.weight:0"]
    assert by_sum["conv2.weight:0"] < by_share["conv2.weight:0"]


def test_tiny_scores_are_told_apart(subject) -> None:
    tiny = kept(subject, criterion=Losses(1e-30), solver=Milp())
    assert tiny == kept(subject, criterion=Losses(1.0), solver=Milp())


def test_auto_leaves_the_worth_to_the_criterion(subject) -> None:
    assert Options().weighing == Share()
    assert Options(criterion=Losses()).weighing == Sum()
    assert Options(criterion=Losses(), worth=Equal()).weighing == Equal()
    made = make_plan(subject.model, subject.graph, "flops=0.5", Options(criterion=Losses()), "")
    assert made.components["worth"] == "sum"


def test_a_worth_is_named_by_its_row_or_auto() -> None:
    assert parse_worth("auto") is None
    assert parse_worth("sum") == Sum()
    with pytest.raises(UsageError, match="unknown worth 'summ'; did you mean 'sum'"):
        parse_worth("summ")
