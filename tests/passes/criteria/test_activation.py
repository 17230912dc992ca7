from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import onnx_ir as ir
import pytest

from prunec.compiler.errors import UsageError
from prunec.compiler.freedom import Freedom
from prunec.compiler.hypergraph import Axis, Hyperedge, Hypergraph, Trace
from prunec.compiler.spec import parse, render
from prunec.compiler.stats import Stats
from prunec.passes.criteria.activation import Activation

MODEL = ir.Model(ir.Graph([], [], nodes=[], name="empty"), ir_version=9)


def graph(axes: Mapping[Axis, list[int]], reads: tuple[Axis, ...]) -> Hypergraph:
    """Two hyperedges: groups 0-2 and 3-4."""
    return Hypergraph(
        edges=(Hyperedge("a:0", 3, 0, ()), Hyperedge("b:0", 2, 3, ())),
        axes={axis: np.array(groups, np.int64) for axis, groups in axes.items()},
        costs={},
        patches=(),
        weights=(),
        reads=reads,
        made=(),
        inexact={},
        recurs=(),
        freedom=Freedom(),
        diagnostics=(),
        trace=Trace({}, (), frozenset()),
    )


def stats(mean: Mapping[Axis, list[float]], nonzero: Mapping[Axis, list[float]]) -> Stats:
    return Stats(
        {axis: np.array(v, np.float64) for axis, v in mean.items()},
        {axis: np.array(v, np.float64) for axis, v in nonzero.items()},
        samples=1,
    )


def shares(scores: np.ndarray) -> np.ndarray:
    """Of the two hyperedges."""
    return np.concatenate([own / max(own.sum(), 1e-12) for own in (scores[:3], scores[3:])])


def test_scores_are_means_over_read_axes_as_shares_of_the_hyperedge() -> None:
    x, y, z = ("x", 1), ("y", 1), ("z", 1)
    hypergraph = graph({x: [0, 1, 2], y: [0, 1, 2, -1], z: [3, 4]}, reads=(x, y, z))
    data = stats({x: [1, 2, 3], y: [3, 2, 7, 99], z: [0.5, 1.5]}, {})
    scores = Activation()(MODEL, hypergraph, data)
    np.testing.assert_allclose(shares(scores), [2 / 9, 2 / 9, 5 / 9, 0.25, 0.75])


def test_positions_of_a_group_on_one_axis_are_averaged() -> None:
    x = ("flat", 1)
    hypergraph = graph({x: [0, 0, 1, 1, 2, 2, 3, 3, 4, 4]}, reads=(x,))
    data = stats({x: [0, 2, 2, 2, 3, 3, 1, 1, 1, 1]}, {})
    scores = Activation()(MODEL, hypergraph, data)
    np.testing.assert_allclose(shares(scores), [1 / 6, 2 / 6, 3 / 6, 0.5, 0.5])


def test_nonzero_ranks_by_frequency() -> None:
    x = ("x", 1)
    hypergraph = graph({x: [0, 1, 2, 3, 4]}, reads=(x,))
    data = stats({x: [9, 9, 9, 9, 9]}, {x: [0, 0.5, 1, 0.25, 0.75]})
    scores = Activation("nonzero")(MODEL, hypergraph, data)
    np.testing.assert_allclose(shares(scores), [0, 1 / 3, 2 / 3, 0.25, 0.75])


@pytest.mark.parametrize(("statistic", "expected"), [("running", [1, 0, 0]), ("l0", [0, 0, 1])])
def test_the_published_statistics_rank_too(statistic: str, expected: list[float]) -> None:
    x = ("x", 1)
    hypergraph = graph({x: [0, 1, 2, 3, 4]}, reads=(x,))
    data = Stats(
        running={x: np.array([1.0, 0, 0, 1, 1])}, frequency={x: np.array([0.0, 0, 1, 1, 1])}
    )
    scores = Activation(statistic)(MODEL, hypergraph, data)
    np.testing.assert_allclose(shares(scores), [*expected, 0.5, 0.5])


def test_groups_that_nobody_reads_score_their_hyperedges_mean() -> None:
    x = ("x", 1)
    hypergraph = graph({x: [0, 1, -1]}, reads=(x,))
    scores = Activation()(MODEL, hypergraph, stats({x: [1, 3, 50]}, {}))
    np.testing.assert_allclose(shares(scores)[:3], [1 / 6, 3 / 6, 2 / 6])
    assert np.isfinite(scores).all()


def test_a_hyperedge_that_never_fires_scores_zero() -> None:
    x = ("x", 1)
    hypergraph = graph({x: [0, 1, 2, 3, 4]}, reads=(x,))
    scores = Activation()(MODEL, hypergraph, stats({x: [0, 0, 0, 1, 1]}, {}))
    np.testing.assert_allclose(shares(scores), [0, 0, 0, 0.5, 0.5])


def test_without_data_it_says_what_to_give() -> None:
    with pytest.raises(UsageError, match="--data"):
        Activation()(MODEL, graph({}, ()), None)


def test_its_text_form_is_read_back() -> None:
    component = parse("activation{statistic=nonzero}", {"activation": Activation}, "criterion")
    assert component == Activation("nonzero")
    assert render(component) == "activation{statistic=nonzero}"


def test_an_unknown_statistic_gets_the_nearest_match() -> None:
    with pytest.raises(UsageError, match="did you mean 'nonzero'"):
        Activation("nonzeros")
