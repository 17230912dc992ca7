from __future__ import annotations

import numpy as np
import pytest
from nets import conv, residual
from properties.builder import Builder
from properties.oracle import analyse

from prunec.compiler.freedom import Freedom
from prunec.compiler.hypergraph import KEPT, Hypergraph
from prunec.compiler.joins import broken_joins, joins_hold

DECOUPLED = Freedom(decouple=True)


def image(m: int = 6, opset: int = 17) -> tuple[Builder, str]:
    b = Builder(0, opset, batch=1)
    return b, conv(b, b.input(1, 3, 2, 2), "stem", m)


def decoupled(b: Builder, x: str) -> Hypergraph:
    b.output(conv(b, x, "head", 3))
    return analyse(b.model(), DECOUPLED).graph


def edges(graph: Hypergraph) -> dict[str, int]:
    return {e.name: e.size for e in graph.edges}


def keeping(graph: Hypergraph, **kept: list[int]) -> np.ndarray:
    """Everything but the other positions of these hyperedges."""
    mask = np.ones(graph.number_of_groups + 1, bool)
    for edge in graph.edges:
        name = edge.name.partition(":")[0]
        if name in kept:
            mask[edge.first : edge.first + edge.size] = False
            mask[edge.first + np.array(kept[name], int)] = True
    return mask


def test_a_coupled_graph_has_no_joins() -> None:
    graph = analyse(residual()).graph
    assert graph.joins == ()
    assert joins_hold(graph, np.zeros(graph.number_of_groups + 1, bool))


def test_stream_branch_and_result_are_hyperedges_of_their_own() -> None:
    graph = analyse(residual(), DECOUPLED).graph
    sizes = {"stem.weight:0": 8, "block.a.weight:0": 6, "block.b.weight:0": 8, "depth.weight:0": 8}
    assert edges(graph) == sizes
    (join,) = graph.joins
    stem, branch, result = (
        graph.axes[axis] for axis in (("stem.weight", 0), ("block.b.weight", 0), ("head.weight", 1))
    )
    assert np.array_equal(join.out, result)
    assert np.array_equal(join.parts[0], stem)
    assert np.array_equal(join.parts[1], branch)
    assert join.span == 16


def test_a_branch_is_owned_and_a_stream_is_not() -> None:
    (join,) = analyse(residual(), DECOUPLED).graph.joins
    assert join.owned == (False, True)


def test_a_projection_is_owned_too() -> None:
    b, x = image()
    graph = decoupled(b, b.add("Add", [conv(b, b.relu(x), "p", 4), conv(b, x, "q", 4)]))
    assert graph.joins[0].owned == (True, True)


def test_a_sum_that_only_another_sum_reads_is_owned() -> None:
    b, x = image()
    inner = b.relu(b.add("Add", [conv(b, x, "p", 6), conv(b, x, "q", 6)]))
    graph = decoupled(b, b.add("Add", [x, inner]))
    assert [join.owned for join in graph.joins] == [(True, True), (False, True)]


def test_what_two_sums_read_is_not_owned() -> None:
    b, x = image()
    y = conv(b, x, "p", 6)
    first = b.add("Add", [y, conv(b, x, "q", 6)])
    graph = decoupled(b, b.add("Add", [y, first]))
    assert [join.owned for join in graph.joins] == [(False, True), (False, True)]


def test_asking_for_the_shape_is_not_reading() -> None:
    b, x = image()
    y = conv(b, x, "p", 6)
    target = b.add("Shape", [y], (4,))
    y = b.add("Reshape", [y, target], b.shapes[y])
    assert decoupled(b, b.add("Add", [x, y])).joins[0].owned == (False, True)


def test_zeros_of_a_padded_shortcut_carry_nothing() -> None:
    """There the result has what the branch writes, as published: v = u."""
    b, x = image()
    x = b.relu(conv(b, x, "wide", 4))
    shape = (1, 8, 2, 2)
    padded = b.add("Pad", [x, b.ints([0, 1, 0, 0, 0, 3, 0, 0])], shape)
    y = conv(b, conv(b, x, "a", 3), "b", 8)
    graph = decoupled(b, b.add("Add", [padded, y]))
    (join,) = graph.joins
    tied = join.out == join.parts[1]
    assert tied.tolist() == [True, False, False, False, False, True, True, True]
    assert np.array_equal(join.parts[0][tied], join.out[tied])
    assert join.owned == (False, True)


def test_a_result_that_leaves_the_graph_keeps_every_channel() -> None:
    b, x = image()
    y = b.add("Add", [x, conv(b, x, "p", 6)])
    b.output(y)
    (join,) = analyse(b.model(), DECOUPLED).graph.joins
    assert (join.out == KEPT).all()
    assert not (join.parts[0] == KEPT).any()


def test_operands_that_no_weight_makes_leave_nothing_to_decouple() -> None:
    b = Builder(0, 17, batch=1)
    x = b.input(1, 4, 2, 2)
    graph = decoupled(b, b.add("Add", [x, b.relu(x)]))
    assert graph.joins == ()
    assert graph.edges == ()


@pytest.mark.parametrize(
    ("kept", "holds"),
    [
        ({}, True),
        ({"stem": [0, 1], "b": [2, 3], "head": [0, 1, 2, 3]}, True),
        ({"stem": [0, 1], "b": [2, 3], "head": [2, 3]}, True),  # 0 and 1 are forgotten
        ({"stem": [0, 1], "b": [2], "head": [2, 3]}, False),  # nobody writes 3
        ({"stem": [0, 1], "b": [2, 3], "head": [0, 2]}, False),  # nobody reads 3
    ],
)
def test_nothing_is_carried_unwritten_or_written_unread(
    kept: dict[str, list[int]], holds: bool
) -> None:
    b, x = image(4)
    graph = decoupled(b, b.add("Add", [x, conv(b, conv(b, x, "a", 3), "b", 4)]))
    mask = keeping(graph, **kept)
    assert joins_hold(graph, mask) == holds
    assert broken_joins(graph, mask) == (() if holds else (graph.joins[0].node,))


def test_what_never_leaves_may_be_forgotten() -> None:
    b = Builder(0, 17, batch=1)
    x = b.input(1, 4, 2, 2)
    y = conv(b, b.relu(conv(b, x, "a", 3)), "b", 4)
    graph = decoupled(b, b.add("Add", [b.add("Softmax", [y], axis=1), conv(b, x, "c", 4)]))
    assert (graph.joins[0].parts[0] == KEPT).all()
    assert joins_hold(graph, keeping(graph, c=[1], head=[1]))
    assert not joins_hold(graph, keeping(graph, c=[1, 2], head=[1]))


def test_channels_that_never_leave_say_nothing_about_who_owns_the_others() -> None:
    b = Builder(0, 17, batch=1)
    x = b.input(1, 2, 2, 2)
    y = conv(b, b.relu(conv(b, x, "a", 3)), "b", 4)
    sides = [b.add("Concat", [x, conv(b, x, name, 2)], (1, 4, 2, 2), axis=1) for name in "cd"]
    y = b.add("Add", [sides[0], y])
    graph = decoupled(b, b.add("Add", [sides[1], y]))
    for join in graph.joins:
        assert [int((part == KEPT).sum()) for part in join.parts] == [2, 0]
        assert join.owned == (True, True)
