"""What is left of a branch that has no channels: nothing, or one stored operand."""

from __future__ import annotations

import numpy as np
import onnx
import onnx_ir as ir
import pytest
from nets import conv, residual, weight
from numpy.typing import NDArray
from onnx import numpy_helper
from properties.builder import Builder
from properties.oracle import Case, Mask, analyse, check

from prunec.compiler.freedom import Freedom
from prunec.frontends.onnx import load, to_proto
from prunec.frontends.shapes import infer_facts
from prunec.passes.apply import prune
from prunec.passes.gate import gate
from prunec.runtime.session import make_session

pytest.importorskip("onnxruntime")


def closed(model: onnx.ModelProto, runs: bool = True) -> onnx.ModelProto:
    """The model without its branches; the oracle must agree, where it knows how to run it."""
    subject = analyse(model)
    mask = all_closed(subject)
    if runs:
        check(subject, mask)
    return to_proto(prune(subject.model, subject.facts, subject.graph, mask))


def all_closed(subject: Case) -> Mask:
    mask = np.ones(subject.graph.number_of_groups + 1, bool)
    assert subject.graph.branches
    for e in (e for branch in subject.graph.branches for e in branch):
        edge = subject.graph.edges[e]
        mask[edge.first : edge.first + edge.size] = False
    return mask


def ops(model: onnx.ModelProto) -> list[str]:
    return [n.op_type for n in model.graph.node]


def stored(model: onnx.ModelProto) -> dict[str, NDArray]:
    return {t.name: numpy_helper.to_array(t) for t in model.graph.initializer}


def stem(opset: int = 17) -> tuple[Builder, str]:
    b = Builder(0, opset, batch=1)
    return b, conv(b, b.input(1, 3, 4, 4), "stem", 6)


def branch(b: Builder, x: str, bias: bool = True) -> str:
    y = b.relu(conv(b, x, "a", 4))
    inputs = [y, weight(b, "b", b.shapes[x][1], 4, 1, 1)]
    inputs += [weight(b, "b.bias", b.shapes[x][1])] if bias else []
    return b.add("Conv", inputs, b.shapes[x])


def head(b: Builder, x: str) -> onnx.ModelProto:
    b.output(conv(b, x, "head", 3))
    return b.model()


def test_a_branch_without_a_bias_leaves_nothing() -> None:
    out = closed(residual())
    assert ops(out) == ["Conv", "Conv", "Relu", "Conv"]
    assert stored(out).keys() == {"stem.weight", "depth.weight", "head.weight"}


def test_a_bias_is_left_as_an_operand_of_the_sum() -> None:
    b, x = stem()
    model = head(b, b.add("Add", [branch(b, x), x]))
    out = closed(model)
    assert ops(out) == ["Conv", "Add", "Conv"]
    (name,) = set(stored(out)) - {"stem", "head"}
    assert stored(out)[name].shape == (1, 6, 1, 1)
    np.testing.assert_array_equal(stored(out)[name].reshape(-1), stored(model)["b.bias"])


def test_what_follows_the_bias_is_folded() -> None:
    b, x = stem()
    y = b.relu(branch(b, x))
    y = b.add("Mul", [y, weight(b, "scale", 6, 1, 1)])
    model = head(b, b.add("Add", [x, y]))
    out = closed(model)
    assert ops(out) == ["Conv", "Add", "Conv"]
    (name,) = set(stored(out)) - {"stem", "head"}
    want = np.maximum(stored(model)["b.bias"], 0) * stored(model)["scale"].reshape(-1)
    np.testing.assert_array_equal(stored(out)[name].reshape(-1), want)


def test_a_factor_is_left_where_a_gate_was() -> None:
    b, x = stem()
    gate_ = b.add("HardSigmoid", [branch(b, b.pooled(x))], alpha=0.25, beta=0.5)
    out = closed(head(b, b.add("Mul", [x, gate_])))
    assert ops(out) == ["Conv", "Mul", "Conv"]


def test_a_difference_from_nothing_keeps_its_sign() -> None:
    b, x = stem()
    out = closed(head(b, b.add("Sub", [branch(b, x, bias=False), x])))
    assert ops(out) == ["Conv", "Sub", "Conv"]
    b, x = stem()
    out = closed(head(b, b.add("Sub", [x, branch(b, x, bias=False)])))
    assert ops(out) == ["Conv", "Conv"]


def test_a_concatenation_gets_shorter() -> None:
    b, x = stem()
    parts = [b.relu(conv(b, x, "new", 4)), x, conv(b, x, "more", 5)]
    out = closed(head(b, b.add("Concat", parts, (1, 15, 4, 4), axis=1)))
    assert ops(out) == ["Conv", "Conv"]
    assert stored(out)["head"].shape == (3, 6, 1, 1)


def test_a_sum_that_is_an_output_keeps_its_name() -> None:
    b, x = stem()
    y = b.add("Add", [x, branch(b, x, bias=False)])
    b.output(y)
    out = closed(b.model())
    assert [v.name for v in out.graph.output] == [y]
    assert ops(out) == ["Conv", "Add"]


def halved(proto: onnx.ModelProto) -> onnx.ModelProto:
    """The model in float16."""
    for tensor in proto.graph.initializer:
        array = numpy_helper.to_array(tensor).astype(np.float16)
        tensor.CopyFrom(numpy_helper.from_array(array, tensor.name))
    for value in (*proto.graph.input, *proto.graph.output, *proto.graph.value_info):
        value.type.tensor_type.elem_type = onnx.TensorProto.FLOAT16
    return proto


def test_half_precision_stays_half() -> None:
    proto = halved(residual())
    bias = np.array([1, 2, 3, 4, -1, -2, -3, -4], np.float16)
    proto.graph.initializer.append(numpy_helper.from_array(bias, "bias"))
    reader = next(n for n in proto.graph.node if "block.b.weight" in n.input)
    reader.input[:] = [*reader.input[:2], "bias"]
    assert {a.dtype for a in stored(closed(proto)).values()} == {np.dtype(np.float16)}


def test_zeros_have_the_type_that_is_inferred() -> None:
    """Exporters may leave out the types of what is computed."""
    b, x = stem()
    gate_ = b.add("HardSigmoid", [branch(b, b.pooled(x), bias=False)])
    proto = halved(head(b, b.add("Mul", [x, gate_])))
    del proto.graph.value_info[:]
    assert {a.dtype for a in stored(closed(proto)).values()} == {np.dtype(np.float16)}


def test_shapes_that_only_the_branch_asks_for_go_with_it() -> None:
    b, x = stem()
    y = b.relu(conv(b, x, "a", 4))
    flat = b.add("Reshape", [y, b.ints([1, 4, 16])], (1, 4, 16))
    y = b.add("Reshape", [flat, b.add("Shape", [y], (4,))], (1, 4, 4, 4))
    out = closed(head(b, b.add("Add", [x, conv(b, y, "b", 6)])))
    assert ops(out) == ["Conv", "Conv"]


def test_a_norm_over_nothing_is_gated_as_nothing() -> None:
    """Under `residual` a norm inside a closed branch has no channels to run over."""
    b, x = stem(17)
    y = b.transpose(x, 0, 2, 3, 1)
    y = b.add("MatMul", [y, weight(b, "a", 6, 4)], (1, 4, 4, 4))
    y = b.add("LayerNormalization", [y, weight(b, "g", 4), weight(b, "h", 4)], axis=-1)
    y = b.transpose(b.add("MatMul", [y, weight(b, "b", 4, 6)], (1, 4, 4, 6)), 0, 3, 1, 2)
    subject = analyse(head(b, b.add("Add", [x, y])), Freedom(residual=True))
    mask = all_closed(subject)
    check(subject, mask)
    gated = gate(subject.model, subject.facts, subject.graph, mask)
    made = make_session(to_proto(gated).SerializeToString(), optimise=False)
    (result,) = made.run({subject.model.graph.inputs[0].name: np.ones((1, 3, 4, 4), np.float32)})
    assert np.isfinite(result).all()


def test_a_mean_over_nothing_is_gated_as_nothing() -> None:
    """What it gives has no channels that could be gone: what it reads has."""
    b, x = stem(18)
    y = b.transpose(conv(b, x, "a", 4), 0, 2, 3, 1)
    # Over nothing onnxruntime's mean along a last axis has no elements at all.
    y = b.add("Mul", [y, b.axes("ReduceMean", y, [-1], (1, 4, 4, 1))])
    y = conv(b, b.transpose(y, 0, 3, 1, 2), "b", 6)
    subject = analyse(head(b, b.add("Add", [x, y])), Freedom(residual=True))
    check(subject, all_closed(subject))


@pytest.mark.parametrize("op", ["Max", "Mean", "Min", "Sum"])
def test_operands_that_can_not_stretch_stay(op: str) -> None:
    """Before opset 8 all inputs of these have one shape: the constant would be too small."""
    for opset in (7, 8):
        b, x = stem(opset)
        graph = analyse(head(b, b.add(op, [x, branch(b, x)]))).graph
        assert bool(graph.branches) == (opset == 8)


def test_sizes_that_are_free_stay_free() -> None:
    """The constant is as small as it can be: it fits whatever comes."""
    b, x = stem()
    model = head(b, b.add("Add", [x, branch(b, x)]))
    for value in (*model.graph.input, *model.graph.output):
        value.type.tensor_type.shape.dim[2].dim_param = "height"
    del model.graph.value_info[:]
    out = closed(model, runs=False)
    session = make_session(out.SerializeToString())
    (y,) = session.run({model.graph.input[0].name: np.ones((1, 3, 9, 4), np.float32)})
    assert y.shape == (1, 3, 9, 4)
    assert infer_facts(load(out)).shapes[out.graph.output[0].name][1] == 3


def test_an_open_branch_is_left_alone() -> None:
    subject = analyse(residual())
    mask = np.ones(subject.graph.number_of_groups + 1, bool)
    out = prune(subject.model, subject.facts, subject.graph, mask)
    assert isinstance(out, ir.Model)
    assert [n.op_type for n in out.graph] == [n.op_type for n in subject.model.graph]
