"""In which steps channels leave."""

from __future__ import annotations

import pytest
from nets import chain, residual

from prunec.compiler.errors import UsageError
from prunec.compiler.spec import describe, parse, render
from prunec.passes.schedules import SCHEDULES, Layerwise, OneShot, Stepwise
from prunec.runtime.subject import open_model


@pytest.fixture(scope="module")
def graph():
    return open_model(residual()).graph


@pytest.mark.parametrize("name", SCHEDULES)
def test_every_schedule_ends_with_everything_gone(name: str, graph) -> None:
    steps = SCHEDULES[name]().course(graph)
    pruned = {e for step in steps for e in step.edges or range(len(graph.edges))}
    assert pruned == set(range(len(graph.edges)))
    assert steps[-1].share == 1.0
    assert render(parse(name, SCHEDULES, "schedule")) == name
    assert name in describe(SCHEDULES)


def test_shares_follow_the_published_cubic_ramp(graph) -> None:
    # Of a sparsity of 0.5 in four steps, mdpi2022 removes .2891, .4375, .4922 and .5.
    shares = [0.5 * step.share for step in Stepwise(4).course(graph)]
    assert shares == pytest.approx([0.2891, 0.4375, 0.4922, 0.5], abs=5e-5)
    assert [step.share for step in Stepwise(1).course(graph)] == [1.0]


def test_layers_go_from_the_top_the_bottom_or_in_a_drawn_order(graph) -> None:
    top = [step.edges for step in Layerwise().course(graph)]
    assert [step.edges for step in Layerwise("bottom").course(graph)] == top[::-1]
    drawn = [[s.edges for s in Layerwise("shuffle", seed).course(graph)] for seed in range(5)]
    assert all(sorted(order) == sorted(top) for order in drawn)
    assert len({tuple(order) for order in drawn}) > 1
    again = [step.edges for step in Layerwise("shuffle", 3).course(graph)]
    assert again == drawn[3]


def test_hyperedges_of_a_branch_go_together(graph) -> None:
    assert graph.branches
    steps = [step.edges for step in Layerwise().course(graph)]
    assert set(graph.branches) <= set(steps)
    assert sum(len(edges) for edges in steps if edges) == len(graph.edges)


def test_one_shot_is_one_step() -> None:
    (step,) = OneShot().course(open_model(chain()).graph)
    assert step.share == 1.0
    assert step.edges is None


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("stepwise{steps=0}", "steps must be at least 1"),
        ("layerwise{start=topp}", "unknown start 'topp'; did you mean 'top'"),
        ("step", "unknown schedule 'step'; did you mean 'stepwise'"),
    ],
)
def test_bad_specifications_are_usage_errors(spec: str, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        parse(spec, SCHEDULES, "schedule")
