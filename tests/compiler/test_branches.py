"""Which hyperedges may be 0, together with which others, and what that saves."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import onnx
import pytest
from nets import chain, conv, residual
from properties.blocks import batch_norm
from properties.builder import Builder
from properties.oracle import analyse
from texts import weight, written

from prunec.compiler.branches import with_closing
from prunec.compiler.cost import Polynomial, frozen_part
from prunec.compiler.coverage import coverage
from prunec.compiler.folding import NotFoldable
from prunec.compiler.freedom import Freedom
from prunec.compiler.region import moved


def branches(model: onnx.ModelProto, freedom: Freedom | None = None) -> list[set[str]]:
    graph = analyse(model, freedom).graph
    return [{graph.edges[e].name for e in own} for own in graph.branches]


def why_not(model: onnx.ModelProto, name: str) -> str:
    """What the analysis says of a hyperedge that may not be 0."""
    graph = analyse(model).graph
    return graph.unclosed[[e.name for e in graph.edges].index(name)]


def around(block: Callable[[Builder, str], str], m: int = 6) -> onnx.ModelProto:
    b = Builder(0, 17, batch=1)
    x = conv(b, b.input(1, 3, 4, 4), "stem", m)
    b.output(conv(b, b.relu(block(b, x)), "head", 3))
    return b.model()


def two(b: Builder, x: str, first: str, second: str, k: int = 1) -> str:
    return conv(b, b.relu(conv(b, x, first, 4, k)), second, b.shapes[x][1])


def test_a_residual_branch_may_vanish_and_its_stream_may_not() -> None:
    assert branches(residual()) == [{"block.a.weight:0"}]
    assert "would be constant" in why_not(residual(), "stem.weight:0")


def test_a_chain_has_no_branch() -> None:
    assert branches(chain()) == []
    assert "constant" in why_not(chain(), "conv2.weight:0")


def test_what_is_inside_goes_together() -> None:
    def bottleneck(b: Builder, x: str) -> str:
        y = b.relu(conv(b, b.relu(conv(b, x, "a", 4)), "b", 5, 3))
        return b.add("Add", [conv(b, y, "c", 6), x])

    assert branches(around(bottleneck)) == [{"a:0", "b:0"}]


def test_a_block_with_a_squeeze_inside_is_one_branch() -> None:
    def block(b: Builder, x: str) -> str:
        y = conv(b, x, "expand", 8)
        gate = b.add("Sigmoid", [conv(b, b.relu(conv(b, b.pooled(y), "down", 4)), "up", 8)])
        return b.add("Add", [x, conv(b, b.add("Mul", [y, gate]), "project", 6)])

    assert branches(around(block)) == [{"expand:0", "down:0"}]


def test_a_squeeze_by_itself_is_a_branch() -> None:
    def excite(b: Builder, x: str) -> str:
        gate = b.add("Sigmoid", [conv(b, b.relu(conv(b, b.pooled(x), "down", 4)), "up", 6)])
        return b.add("Mul", [x, gate])

    assert branches(around(excite)) == [{"down:0"}]


def test_of_branches_in_a_branch_the_inner_ones_are_taken() -> None:
    def block(b: Builder, x: str) -> str:
        y = conv(b, x, "in", 4)
        y = b.add("Add", [y, two(b, y, "inner.a", "inner.b")])
        return b.add("Add", [x, conv(b, y, "out", 6)])

    assert branches(around(block)) == [{"inner.a:0"}]
    assert why_not(around(block), "in:0").startswith("inner.a:0 would be 0 too")


def test_branches_side_by_side_may_all_vanish_where_something_else_stays() -> None:
    def both(b: Builder, x: str) -> str:
        return b.add("Sum", [two(b, x, "a", "b"), two(b, x, "c", "d"), x])

    assert branches(around(both)) == [{"a:0"}, {"c:0"}]


def test_one_of_two_ways_must_stay() -> None:
    def either(b: Builder, x: str) -> str:
        return b.add("Add", [two(b, x, "a", "b"), two(b, x, "c", "d")])

    assert branches(around(either)) == [{"a:0"}]
    assert "another way must stay open" in why_not(around(either), "c:0")


def test_every_input_must_stay_connected() -> None:
    b = Builder(0, 17, batch=1)
    x = conv(b, b.input(1, 3, 4, 4), "stem", 6)
    y = two(b, conv(b, b.input(1, 3, 4, 4), "other", 6), "a", "b")
    b.output(conv(b, b.add("Add", [x, y]), "head", 3))
    assert branches(b.model()) == []
    assert "every input" in why_not(b.model(), "a:0")


def test_a_part_of_a_concatenation_may_vanish() -> None:
    def grow(b: Builder, x: str) -> str:
        return b.add("Concat", [x, b.relu(conv(b, x, "new", 4))], (1, 10, 4, 4), axis=1)

    assert branches(around(grow)) == [{"new:0"}]


def test_a_constant_that_something_unknown_reads_keeps_the_branch() -> None:
    def softened(b: Builder, x: str) -> str:
        y = b.add("Softmax", [two(b, x, "a", "b")], axis=2)
        return b.add("Add", [x, y])

    assert branches(around(softened)) == []
    assert why_not(around(softened), "a:0").startswith("Softmax ")


def test_a_constant_may_be_reshaped_while_its_axis_stays_whole() -> None:
    def folded(b: Builder, x: str) -> str:
        y = b.reshape(two(b, x, "a", "b"), (1, 6, 16))
        y = b.add("Mul", [y, weight_of(b, 6, 1)])
        return b.add("Add", [x, b.reshape(y, (1, 6, 4, 4))])

    assert branches(around(folded)) == [{"a:0"}]
    assert moved((1, 6, 1, 1), (1, 6, 4, 4), (1, 6, 16)) == (1, 6, 1)
    assert moved((1, 6), (32, 6), (2, 4, 4, 6)) == (1, 1, 1, 6)
    with pytest.raises(NotFoldable):
        moved((1, 6, 1), (1, 6, 4), (1, 24))


def test_a_branch_through_a_body_stays() -> None:
    text = """
    g (float[1,3,4,4] x, bool c) => (float[1,3,4,4] y) {
      h = Conv(x, a)
      z = If (c) <then_branch = t () => (float[1,6,4,4] o) { o = Relu(h) },
                  else_branch = e () => (float[1,6,4,4] o) { o = Abs(h) }>
      w = Conv(z, b)
      y = Add(x, w)
    }
    """
    model = written(text, a=weight(0, 6, 3, 1, 1), b=weight(1, 3, 6, 1, 1))
    assert analyse(model).graph.edges
    assert analyse(model).graph.branches == ()


def test_rows_of_a_kernel_close_a_branch_of_one_convolution() -> None:
    def block(b: Builder, x: str) -> str:
        return b.add("Add", [x, conv(b, x, "w", 6, 3)])

    assert branches(around(block), Freedom(kernels=True)) == [{"w:2", "w:3"}]
    assert branches(around(block)) == []


def normed() -> onnx.ModelProto:
    """Two norms of the stream inside the branch, before and behind."""

    def block(b: Builder, x: str) -> str:
        return b.add("Add", [x, batch_norm(b, two(b, b.relu(batch_norm(b, x)), "a", "b"))])

    return around(block)


def test_norms_inside_are_counted_while_the_branch_is_open() -> None:
    graph = analyse(normed()).graph
    (branch,) = graph.branches
    closed = [0 if e in branch else edge.size for e, edge in enumerate(graph.edges)]
    params = graph.costs["params"]
    open_ = [1 if e in branch else n for e, n in enumerate(closed)]
    assert params(closed) == 3 * 6 + 6 * 3  # stem and head
    assert params(open_) == params(closed) + 2 * 6 + 4 * 6  # a, b; scale and shift, twice


@pytest.mark.parametrize("resource", ["flops", "params", "bytes"])
def test_rows_of_the_problem_say_the_same(resource: str) -> None:
    graph = analyse(normed()).graph
    cost, rng = graph.costs[resource], np.random.default_rng(0)
    exact = with_closing(cost, graph.dense())
    for _ in range(50):
        counts = [int(rng.integers(0, edge.size + 1)) for edge in graph.edges]
        (row,) = exact.rows
        assert exact(counts) == cost(counts) == row(counts)


def test_a_cost_that_nothing_is_lost_from_stays_as_it_is() -> None:
    cost = analyse(chain()).graph.costs["params"]
    assert isinstance(cost, Polynomial)
    assert with_closing(cost, (8, 6)) is cost


def test_coverage_counts_what_a_branch_loses_as_frozen() -> None:
    """A frozen norm inside a branch goes with it, but no channel of it can leave."""
    b = Builder(0, 17, batch=1)
    x = b.input(1, 4, 6)
    y = b.add("LayerNormalization", [x, weight_of(b, 6), weight_of(b, 6)], axis=-1)
    y = b.relu(b.add("MatMul", [y, weight_of(b, 6, 8)], (1, 4, 8)))
    y = b.add("MatMul", [y, weight_of(b, 8, 6)], (1, 4, 6))
    b.output(b.add("Add", [x, y]))
    graph = analyse(b.model()).graph
    assert len(graph.branches) == 1
    assert graph.costs["params"]((0,)) == 0
    assert frozen_part(graph.costs["params"], 1) == 12
    found = coverage(graph).resources["params"]
    assert found.prunable + sum(found.barriers.values()) == pytest.approx(1)


def weight_of(b: Builder, *shape: int) -> str:
    return b.store(np.ones(shape, np.float32))
