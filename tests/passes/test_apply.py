from __future__ import annotations

import numpy as np
import onnx
import onnx_ir as ir
import pytest
from nets import chain, conv, residual, weight
from numpy.typing import NDArray
from onnx import numpy_helper
from properties.builder import Builder
from properties.oracle import analyse, check
from texts import written

from prunec.compiler.walk import initializers, nodes
from prunec.frontends.onnx import load, to_proto
from prunec.passes.apply import prune, remove_dead
from prunec.passes.gate import gate

pytest.importorskip("onnxruntime")


def pruned(model: onnx.ModelProto, **kept: list[int]) -> onnx.ModelProto:
    """Keep these positions of the hyperedges (by order: e0, e1, ...); the oracle must agree."""
    subject = analyse(model)
    mask = np.ones(subject.graph.number_of_groups + 1, bool)
    for e, edge in enumerate(subject.graph.edges):
        own = kept.get(f"e{e}", list(range(edge.size)))
        mask[edge.first : edge.first + edge.size] = np.isin(np.arange(edge.size), own)
    check(subject, mask)
    return to_proto(prune(subject.model, subject.facts, subject.graph, mask))


def stored(model: onnx.ModelProto) -> dict[str, NDArray]:
    return {t.name: numpy_helper.to_array(t) for t in model.graph.initializer}


def node(model: onnx.ModelProto, op: str) -> onnx.NodeProto:
    return next(n for n in model.graph.node if n.op_type == op)


def attributes(model: onnx.ModelProto, op: str) -> dict[str, object]:
    return {a.name: onnx.helper.get_attribute_value(a) for a in node(model, op).attribute}


def image(m: int = 6, opset: int = 17, space: int = 2) -> tuple[Builder, str]:
    b = Builder(0, opset, batch=1)
    return b, conv(b, b.input(1, 3, space, space), "conv.weight", m)


def head(b: Builder, x: str) -> onnx.ModelProto:
    b.output(conv(b, x, "head.weight", 3))
    return b.model()


def test_weights_are_cut_on_every_axis() -> None:
    dense, out = stored(chain()), stored(pruned(chain(), e0=[0, 3], e1=[5]))
    np.testing.assert_array_equal(out["conv1.weight"], dense["conv1.weight"][[0, 3]])
    np.testing.assert_array_equal(out["conv2.weight"], dense["conv2.weight"][[5]][:, [0, 3]])
    np.testing.assert_array_equal(out["bn.mean"], dense["bn.mean"][[0, 3]])
    np.testing.assert_array_equal(out["fc.weight"], dense["fc.weight"][:, [5]])


def test_the_input_model_is_never_touched() -> None:
    subject = analyse(chain())
    before = to_proto(subject.model).SerializeToString()
    mask = np.zeros(subject.graph.number_of_groups + 1, bool)
    mask[[0, 8, -1]] = True
    prune(subject.model, subject.facts, subject.graph, mask)
    gate(subject.model, subject.facts, subject.graph, mask)
    assert to_proto(subject.model).SerializeToString() == before


def test_weights_are_sliced_when_they_are_read() -> None:
    subject = analyse(chain())
    mask = np.zeros(subject.graph.number_of_groups + 1, bool)
    mask[[0, 8, -1]] = True
    out = prune(subject.model, subject.facts, subject.graph, mask)
    assert isinstance(out.graph.initializers["conv1.weight"].const_value, ir.LazyTensor)


def test_the_group_attribute_of_a_depthwise_convolution_follows() -> None:
    out = pruned(residual(), e0=[1, 2, 7])
    groups = [a.i for n in out.graph.node for a in n.attribute if a.name == "group"]
    assert sorted(groups) == [1, 1, 1, 1, 3]


@pytest.mark.parametrize("opset", [11, 13, 18])
@pytest.mark.parametrize("explicit", [True, False])
def test_sizes_of_a_split_follow(opset: int, explicit: bool) -> None:
    b, x = image(6, opset)
    first, second = b.split(x, 1, (3, 3), explicit)
    joined = b.add("Concat", [second, conv(b, first, "a.weight", 4)], (1, 7, 2, 2), axis=1)
    out = pruned(head(b, joined), e0=[0], e1=[1, 2])
    sizes = attributes(out, "Split").get("split")
    if opset >= 13:
        sizes = stored(out)[node(out, "Split").input[1]].tolist()
    assert sizes == [1, 2]
    assert "num_outputs" not in attributes(out, "Split")


def test_pads_computed_by_a_subgraph_follow() -> None:
    b, x = image(4)
    y = conv(b, x, "wide.weight", 8)
    counts = [b.add("Gather", [b.add("Shape", [v], (4,)), b.ints([1])], (1,)) for v in (y, x)]
    half = b.add("Div", [b.add("Sub", counts, (1,)), b.ints([2])], (1,))
    zero = b.ints([0])
    pads = b.add("Concat", [zero, half, zero, zero, zero, half, zero, zero], (8,), axis=0)
    total = b.add("Add", [b.add("Pad", [x, pads], (1, 8, 2, 2)), y])
    model = head(b, total)
    subject = analyse(model)
    names = [e.name for e in subject.graph.edges]
    # Channels 2..5 of the sum are those of conv; 0, 1, 6, 7 are padding.
    wide = subject.graph.axes["wide.weight", 0]
    mask = np.ones(subject.graph.number_of_groups + 1, bool)
    mask[wide[[0, 1, 6]]] = False
    check(subject, mask)
    assert len(names) >= 2


def test_a_shape_constant_with_two_readers_is_changed_for_each() -> None:
    b, x = image(6)
    y = conv(b, x, "other.weight", 6)
    target = b.ints([1, 6, 4])
    flat = [b.add("Reshape", [v, target], (1, 6, 4)) for v in (x, y)]
    maps = [conv(b, b.reshape(f, (0, -1, 2, 2), (1, 6, 2, 2)), f"{k}.weight", 3)
            for k, f in zip("ab", flat, strict=True)]  # fmt: skip
    b.output(b.add("Add", maps))
    out = pruned(b.model(), e0=[0, 1], e1=[0, 1, 2, 3])
    targets = [stored(out)[n.input[1]].tolist() for n in out.graph.node if n.op_type == "Reshape"]
    assert [1, 2, 4] in targets
    assert [1, 4, 4] in targets


def test_a_strided_slice_becomes_a_gather_of_what_is_left() -> None:
    b, x = image(6)
    inputs = [x, b.ints([0]), b.ints([6]), b.ints([1]), b.ints([2])]
    model = head(b, b.add("Slice", inputs, (1, 3, 2, 2)))
    subject = analyse(model)
    mask = np.ones(subject.graph.number_of_groups + 1, bool)
    mask[subject.graph.axes["conv.weight", 0][2]] = False
    check(subject, mask)
    out = to_proto(prune(subject.model, subject.facts, subject.graph, mask))
    gather = node(out, "Gather")
    assert gather.name == "Slice_1"
    # Channels that nobody reads are a hyperedge of their own.
    assert len(stored(out)[gather.input[1]]) == 2
    assert all(n.op_type != "Slice" for n in out.graph.node)


def test_a_strided_slice_of_a_whole_axis_stays_a_slice() -> None:
    b, x = image(6)
    inputs = [x, b.ints([-1]), b.ints([-100]), b.ints([1]), b.ints([-1])]
    out = pruned(head(b, b.add("Slice", inputs, (1, 6, 2, 2))))
    assert node(out, "Slice")


def test_bounds_of_a_slice_follow() -> None:
    b, x = image(6)
    inputs = [x, b.ints([2]), b.ints([5]), b.ints([1])]
    model = head(b, b.add("Slice", inputs, (1, 3, 2, 2)))
    subject = analyse(model)
    mask = np.ones(subject.graph.number_of_groups + 1, bool)
    mask[subject.graph.axes["conv.weight", 0][[0, 3]]] = False
    check(subject, mask)
    out = to_proto(prune(subject.model, subject.facts, subject.graph, mask))
    start, end = (int(stored(out)[name][0]) for name in node(out, "Slice").input[1:3])
    assert (start, end) == (1, 3)


def test_gather_indices_become_ranks() -> None:
    b, x = image(6)
    picks = b.ints([5, 4, 3, 2, 1, 0])
    out = pruned(head(b, b.add("Gather", [x, picks], (1, 6, 2, 2), axis=1)), e0=[1, 4, 5])
    assert stored(out)[node(out, "Gather").input[1]].tolist() == [2, 1, 0]


def test_a_single_gather_index_becomes_a_rank() -> None:
    """An index without axes of its own stays one: numpy's scalars are no arrays."""
    b, x = image(6)
    one = b.add("Gather", [x, b.store(np.array(3, np.int64))], (1, 2, 2), axis=1)
    b.output(one)
    out = pruned(head(b, x), e0=[0, 3, 5])
    index = stored(out)[node(out, "Gather").input[1]]
    assert (index.shape, int(index)) == ((), 1)


def test_a_weight_in_a_constant_node_is_sliced() -> None:
    b, x = image(6)
    array = np.arange(24, dtype=np.float32).reshape(4, 6, 1, 1)
    w = b.add("Constant", [], (4, 6, 1, 1), value=numpy_helper.from_array(array))
    out = pruned(head(b, b.conv_with(x, w, bias=False)), e0=[0, 2], e1=[1, 3])
    (value,) = node(out, "Constant").attribute
    np.testing.assert_array_equal(numpy_helper.to_array(value.t), array[[1, 3]][:, [0, 2]])


def test_a_constant_filled_to_the_shape_of_its_reader_shrinks() -> None:
    # The contents are as dense: only the shape follows.
    b, x = image(6)
    one = numpy_helper.from_array(np.ones(1, np.float32))
    like = b.add("ConstantOfShape", [b.add("Shape", [x], (4,))], (1, 6, 2, 2), value=one)
    pruned(head(b, b.add("Add", [like, x])), e0=[0, 1])


def test_a_size_that_is_used_as_a_number_keeps_its_dense_value() -> None:
    b, x = image(4)
    count = b.add("Gather", [b.add("Shape", [x], (4,)), b.store(np.array(1))], ())
    scale = b.add("Cast", [count], (), to=onnx.TensorProto.FLOAT)
    pruned(head(b, b.add("Mul", [x, scale])), e0=[0, 1])


def test_a_number_keeps_its_dense_value_where_its_bounds_are_written_anew() -> None:
    b, x = image()
    shape = b.add("Gather", [b.add("Shape", [x], (4,)), b.ints([0, 2, 1, 3])], (4,))
    size = b.add("Slice", [shape, b.ints([-2]), b.ints([-1])], (1,))  # the channels
    x = b.add("Div", [x, b.add("Cast", [size], (1,), to=onnx.TensorProto.FLOAT)])
    pruned(head(b, b.tame(x)), e0=[0, 1])


@pytest.mark.parametrize("opset", [11, 17])
def test_a_squeeze_without_axes_keeps_the_one_channel_that_is_left(opset: int) -> None:
    b = Builder(0, opset, batch=2)
    x = conv(b, b.input(2, 3, 2, 2), "conv.weight", 4)
    flat = b.add("Squeeze", [b.pooled(x)], (2, 4))
    b.output(b.add("Gemm", [flat, weight(b, "fc.weight", 4, 3)], (2, 3)))
    pruned(b.model(), e0=[2])


def test_dead_nodes_and_weights_go() -> None:
    b, x = image(4)
    b.add("Relu", [x])
    b.store(np.ones(3, np.float32), "unused")
    out = pruned(head(b, x), e0=[0, 1])
    assert [n.op_type for n in out.graph.node] == ["Conv", "Conv"]
    assert "unused" not in stored(out)


def test_weights_that_are_inputs_too_stay() -> None:
    subject = analyse(chain())
    graph = subject.model.graph
    graph.inputs.append(ir.Value(name="free"))
    remove_dead(graph)
    assert "free" in [v.name for v in graph.inputs]


def test_gating_uses_where_so_that_infinity_becomes_zero() -> None:
    b, x = image(4)
    zero = b.store(np.zeros((4, 1, 1), np.float32), "zero")
    pruned_ = pruned(head(b, b.add("Div", [x, b.add("Add", [zero, b.vector(x)])])), e0=[0, 3])
    assert stored(pruned_)["zero"].shape == (2, 1, 1)


def test_a_bias_over_a_frozen_axis_is_left_alone() -> None:
    b, x = image(4)
    bias = weight(b, "bias", 1, 1, 2)
    out = pruned(head(b, b.add("Add", [x, bias])), e0=[1])
    assert stored(out)["bias"].shape == (1, 1, 2)


DEAD = """
g (float[2,3] x, bool c) => (float[2,3] y) {
  h = Relu(x)
  gone = Neg(x)
  unread = If (c) <then_branch = t () => (float[2,3] o) { o = Neg(gone) },
                   else_branch = e () => (float[2,3] o) { o = Abs(gone) }>
  z = If (c) <then_branch = t () => (float[2,3] o) <float[3] idle = {1, 2, 3}> {
                a = Neg(h) b = Exp(h) o = Abs(a) },
              else_branch = e () => (float[2,3] o) { o = Abs(x) }>
  y = Neg(z)
}
"""


def test_dead_nodes_go_in_branches_too_and_what_a_branch_reads_stays() -> None:
    graph = load(written(DEAD)).graph
    remove_dead(graph)
    assert [node.op_type for node in graph] == ["Relu", "If", "Neg"]
    assert sorted(n.op_type for n in nodes(graph)) == ["Abs", "Abs", "If", "Neg", "Neg", "Relu"]
    assert not initializers(graph)
