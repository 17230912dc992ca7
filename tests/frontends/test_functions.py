from __future__ import annotations

import numpy as np
import onnx
import onnx_ir as ir
import pytest
from properties.oracle import random_masks
from texts import weight, written

from prunec.compiler.calls import call_of
from prunec.compiler.walk import nodes
from prunec.frontends import functions
from prunec.frontends.calls import with_calls
from prunec.frontends.functions import calls_in, inlined
from prunec.frontends.onnx import load, to_proto
from prunec.passes.apply import prune
from prunec.runtime.session import make_session
from prunec.runtime.subject import Subject, open_model

ort = pytest.importorskip("onnxruntime")

LAYERS = """
g (float[N,6] x) => (float[N,3] y) {
  h = my.layer <slope = 0.5> (x, w1, b1)
  i = my.layer <slope = 0.25> (h, w2, b2)
  j = my.twice(i)
  k, unused = my.two(j, w3)
  y = MatMul(k, w4)
}
<domain: "my", opset_import: ["" : 18]>
layer <slope: float = 0.125> (x, w, b) => (y) {
  a = MatMul(x, w)
  c = Add(a, b)
  y = LeakyRelu <alpha: float = @slope> (c)
}
<domain: "my", opset_import: ["" : 18, "my" : 1]>
twice (x) => (y) { a = my.half(x) y = my.half(a) }
<domain: "my", opset_import: ["" : 18]>
half (x) => (y) {
  half = Constant <value_float: float = 0.5> ()
  a = Mul(x, half)
  y = Relu(a)
}
<domain: "my", opset_import: ["" : 18]>
two (x, w) => (y, z) { y = MatMul(x, w) z = Relu(y) }
"""


def layers(**changed: object) -> onnx.ModelProto:
    stored: dict[str, object] = {"w1": weight(1, 6, 8), "b1": weight(2, 8), "w2": weight(3, 8, 8)}
    stored |= {"b2": weight(4, 8), "w3": weight(5, 8, 8), "w4": weight(6, 8, 3)}
    return written(LAYERS, **{**stored, **changed})


SHAPED = """
g (float[N,6] x) => (float[N,3] y) {
  h = MatMul(x, w1)
  i = my.split_and_join(h)
  j = my.scaled(i)
  y = MatMul(j, w4)
}
<domain: "my", opset_import: ["" : 18]>
split_and_join (x) => (y) {
  s = Constant <value_ints = [-1, 2, 4]> ()
  a = Reshape(x, s)
  t = Constant <value_ints = [-1, 8]> ()
  y = Reshape(a, t)
}
<domain: "my", opset_import: ["" : 18]>
scaled (x) => (y) { two = Constant <value_float = 2.0> () y = Mul(x, two) }
"""


def run(model: ir.Model, seed: int = 0) -> list[np.ndarray]:
    x = np.random.default_rng(seed).integers(-3, 4, (2, 6)).astype(np.float32)
    return make_session(to_proto(model).SerializeToString(), optimise=False).run({"x": x})


def pruned(subject: Subject, seed: int = 0) -> ir.Model:
    (mask,) = random_masks(subject.graph, seed, 1)
    out = prune(subject.model, subject.facts, subject.graph, mask)
    return with_calls(out, subject.model)


def ops(model: ir.Model) -> list[str]:
    return [node.op_type for node in model.graph]


def test_expanded_calls_compute_the_same() -> None:
    model = load(layers())
    flat = inlined(model)
    assert not any(node.domain == "my" for node in flat.graph)
    assert np.array_equal(run(model)[0], run(flat)[0])


def test_attributes_come_from_the_call_or_from_the_default() -> None:
    text = LAYERS.replace("my.layer <slope = 0.25>", "my.layer")
    stored = {t.name: onnx.numpy_helper.to_array(t) for t in layers().graph.initializer}
    flat = inlined(load(written(text, **stored)))
    slopes = [n.attributes["alpha"].as_float() for n in flat.graph if n.op_type == "LeakyRelu"]
    assert slopes == [0.5, 0.125]


def test_names_inside_are_the_calls_and_the_same_each_time() -> None:
    first, second = (inlined(load(layers())) for _ in range(2))
    names = [v.name for n in first.graph for v in n.outputs]
    assert names == [v.name for n in second.graph for v in n.outputs]
    assert names[:3] == ["layer_0/a", "layer_0/c", "h"]
    assert len(set(names)) == len(names)


def test_calls_of_calls_belong_to_the_outermost() -> None:
    flat = inlined(load(layers()))
    assert {call_of(n) for n in flat.graph if n.op_type == "Mul"} == {"twice_2"}
    assert list(calls_in(flat)) == ["layer_0", "layer_1", "twice_2", "two_3"]


def test_what_an_output_that_nobody_reads_needs_is_left_out() -> None:
    assert ops(inlined(load(layers()))).count("Relu") == 2


def test_the_pruned_model_keeps_calls_and_functions() -> None:
    subject = open_model(layers())
    model = pruned(subject)
    assert ops(model) == ["layer", "layer", "twice", "two", "MatMul"]
    assert [key[1] for key in model.functions] == ["layer", "twice", "half", "two"]
    onnx.checker.check_model(to_proto(model), full_check=True)
    assert np.array_equal(run(model)[0], run(inlined(model))[0])


def test_expanding_again_gives_the_same_names() -> None:
    subject = open_model(layers())
    again = inlined(load(to_proto(pruned(subject))))
    assert [n.name for n in again.graph] == [n.name for n in subject.model.graph]


def test_a_call_stays_expanded_where_its_function_would_have_to_change() -> None:
    subject = open_model(written(SHAPED, w1=weight(1, 6, 8), w4=weight(2, 8, 3)))
    model = pruned(subject)
    assert ops(model) == ["MatMul", "Reshape", "Reshape", "scaled", "MatMul"]
    assert [key[1] for key in model.functions] == ["scaled"]
    onnx.checker.check_model(to_proto(model), full_check=True)


def test_a_weight_inside_a_function_is_pruned() -> None:
    text = """
    g (float[N,6] x) => (float[N,3] y) { h = MatMul(x, w1) i = my.biased(h) y = MatMul(i, w4) }
    <domain: "my", opset_import: ["" : 18]>
    biased (x) => (y) {
      b = Constant <value_floats = [1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0, 8.0]> ()
      y = Add(x, b)
    }
    """
    subject = open_model(written(text, w1=weight(1, 6, 8), w4=weight(2, 8, 3)))
    assert [w.value for w in subject.graph.weights] == ["w1", "biased_1/b", "w4"]
    model = pruned(subject)
    assert "biased" not in ops(model)
    run(model)


def test_vectors_merged_over_the_inputs_of_a_call_come_apart() -> None:
    ones = np.ones(8, np.float32)
    proto = layers()
    for k, name in ((0, "b1"), (1, "b1")):
        proto.graph.node[k].input[2] = name
    del proto.graph.initializer[3]
    proto.graph.initializer[1].CopyFrom(onnx.numpy_helper.from_array(ones, "b1"))
    subject = open_model(proto)
    assert subject.graph.axes["w1", 1].tolist() != subject.graph.axes["w2", 1].tolist()
    model = pruned(subject)
    assert [v.name for v in model.graph[1].inputs if v is not None] == ["h", "w2", "b1.1"]


def test_the_digest_is_that_of_the_source() -> None:
    from prunec.frontends.digest import graph_digest

    assert open_model(layers()).digest == graph_digest(load(layers()))


def test_a_function_inside_a_branch_is_expanded_and_kept() -> None:
    text = """
    g (float[N,6] x, bool c) => (float[N,3] y) {
      h = MatMul(x, w1)
      z = If (c) <then_branch = t () => (float[N,8] o) { o = my.gone(h) },
                  else_branch = e () => (float[N,8] o) { o = my.gone(h) }>
      y = MatMul(z, w4)
    }
    <domain: "my", opset_import: ["" : 18]>
    gone (x) => (y) { a = Relu(x) y = Neg(a) }
    """
    subject = open_model(written(text, w1=weight(1, 6, 8), w4=weight(2, 8, 3)))
    assert subject.graph.edges
    model = pruned(subject)
    assert [n.op_type for n in nodes(model.graph)] == ["MatMul", "gone", "gone", "If", "MatMul"]
    onnx.checker.check_model(to_proto(model), full_check=True)


def test_control_flow_inside_a_function() -> None:
    text = """
    g (float[2,6] x, bool c) => (float[2,3] y) {
      h = MatMul(x, w1)
      i = my.maybe(h, c)
      j = my.maybe(i, c)
      y = MatMul(j, w4)
    }
    <domain: "my", opset_import: ["" : 18]>
    maybe (x, c) => (y) {
      y = If (c) <then_branch = t () => (o) { a = Relu(x) o = Neg(a) },
                  else_branch = e () => (o) { o = Abs(x) }>
    }
    """
    proto = written(text, w1=weight(1, 6, 8), w4=weight(2, 8, 3))
    subject = open_model(proto)
    assert subject.graph.edges
    model = pruned(subject)
    assert ops(model) == ["MatMul", "maybe", "maybe", "MatMul"]
    flat = [n.name for n in nodes(subject.model.graph)]
    assert len(set(flat)) == len(flat)


def test_an_older_import_of_the_same_operators_is_no_obstacle() -> None:
    proto = layers()
    proto.functions[0].opset_import[0].version = 17
    assert "layer" not in ops(inlined(load(proto)))


def test_a_call_with_a_graph_as_attribute_stays() -> None:
    proto = layers()
    body = onnx.helper.make_graph([], "body", [], [])
    proto.graph.node[0].attribute.append(onnx.helper.make_attribute("body", body))
    proto.functions[0].attribute.append("body")
    assert ops(inlined(load(proto))).count("layer") == 1


def test_expansion_has_an_end(monkeypatch) -> None:
    monkeypatch.setattr(functions, "MOST_NODES", 20)
    left = ops(inlined(load(layers())))
    assert "layer" not in left
    assert "two" in left
    assert open_model(layers()).graph.diagnostics[0].message.startswith("my::")


FOLDED = """
g (float[N,6] x) => (float[N,3] y) {
  h = my.turned(x, w1)
  i = my.shifted(h)
  y = MatMul(i, w4)
}
<domain: "my", opset_import: ["" : 18]>
turned (x, w) => (y) { t = Transpose(w) y = MatMul(x, t) }
<domain: "my", opset_import: ["" : 18]>
shifted (x) => (y) {
  b = Constant <value_floats = [1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0, 8.0]> ()
  c = Neg(b)
  d = Exp(c)
  y = Add(x, d)
}
"""


def test_what_a_function_computes_from_its_own_weights_is_pruned_too() -> None:
    proto = written(FOLDED, w1=weight(1, 8, 6), w4=weight(2, 8, 3))
    subject = open_model(proto)
    assert subject.graph.edges
    (mask,) = random_masks(subject.graph, 1, 1)
    out = prune(subject.model, subject.facts, subject.graph, mask)
    whole = with_calls(out, subject.model)
    assert "shifted" not in ops(whole)
    assert np.array_equal(run(out)[0], run(whole)[0])


SUMMED = """
g (float[N,6] x) => (float[N,3] y) {
  s = MatMul(x, w1)
  h = MatMul(s, w2)
  i = my.tail(h, s, w3)
  y = MatMul(i, w4)
}
<domain: "my", opset_import: ["" : 18]>
tail (h, s, w) => (y) {
  a = MatMul(h, w)
  b = Add(a, s)
  y = Relu(b)
}
"""


def test_a_call_stands_behind_what_was_put_between_its_nodes() -> None:
    """A rewriting that brings the operand of an addition inside to other channels, say."""
    subject = open_model(
        written(
            SUMMED, w1=weight(1, 6, 8), w2=weight(2, 8, 8), w3=weight(3, 8, 8), w4=weight(4, 8, 3)
        )
    )
    changed = subject.model.clone()
    add = next(node for node in changed.graph if node.op_type == "Add")
    brought = ir.Node("", "Identity", [add.inputs[1]], name="brought")
    brought.outputs[0].name = "brought"
    changed.graph.insert_before(add, brought)
    add.replace_input_with(1, brought.outputs[0])
    whole = with_calls(changed, subject.model)
    assert ops(whole) == ["MatMul", "MatMul", "Identity", "tail", "MatMul"]
    onnx.checker.check_model(to_proto(whole))
    assert np.allclose(run(whole)[0], run(subject.model)[0], atol=1e-4)
