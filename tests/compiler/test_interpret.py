from __future__ import annotations

import onnx
from nets import chain, conv
from onnx import helper
from properties.builder import Builder
from properties.oracle import analyse

from prunec.compiler.facts import Facts
from prunec.compiler.interpret import interpret
from prunec.compiler.rules import RULES
from prunec.frontends.onnx import load
from prunec.frontends.shapes import infer_facts


def unknown_domain() -> onnx.ModelProto:
    b = Builder(0, 17, batch=1)
    x = conv(b, b.input(1, 3, 2, 2), "conv.weight", 4)
    y = b.relu(conv(b, x, "mid.weight", 6))
    b.output(conv(b, y, "head.weight", 3))
    model = b.model()
    node = helper.make_node("Blur", ["v0"], ["blurred"], "blur", domain="com.example")
    model.graph.node.insert(1, node)
    model.graph.node[2].input[0] = "blurred"
    model.graph.value_info.append(
        helper.make_tensor_value_info("blurred", onnx.TensorProto.FLOAT, [1, 4, 2, 2])
    )
    model.opset_import.append(helper.make_opsetid("com.example", 1))
    return model


def test_an_operator_without_a_rule_freezes_what_it_touches() -> None:
    model = load(unknown_domain())
    graph = interpret(model, infer_facts(model))
    assert ("conv.weight", 0) not in graph.axes
    assert graph.axes["mid.weight", 0].size == 6


def test_an_operator_without_a_rule_leaves_a_diagnostic() -> None:
    model = load(unknown_domain())
    found = {d.node: d for d in interpret(model, infer_facts(model)).diagnostics}
    assert found["blur"].code == "opaque-op"
    assert "com.example::Blur: no coupling rule" in found["blur"].message


def test_a_missing_row_is_a_missing_rule() -> None:
    subject = analyse(chain())
    fewer = {op: rule for op, rule in RULES.items() if op != "BatchNormalization"}
    graph = interpret(subject.model, subject.facts, fewer)
    assert [e.name for e in graph.edges] == ["conv2.weight:0"]
    assert [d.node for d in graph.diagnostics] == ["BatchNormalization_1"]


def test_an_unknown_shape_freezes_with_its_name() -> None:
    subject = analyse(chain())
    shapes = {name: shape for name, shape in subject.facts.shapes.items() if name != "v1"}
    facts = Facts(shapes, subject.facts.dtypes, subject.facts.constants, {})
    graph = interpret(subject.model, facts)
    assert "the shape of v1 is not known" in graph.diagnostics[0].message
    assert [e.name for e in graph.edges] == ["conv2.weight:0"]


def test_a_weight_that_a_branch_reads_is_frozen() -> None:
    b = Builder(0, 17, batch=1)
    x = conv(b, b.input(1, 3, 2, 2), "conv.weight", 4)
    b.output(conv(b, x, "head.weight", 3))
    model = b.model()
    kind = onnx.TensorProto.FLOAT
    branch = helper.make_graph(
        [helper.make_node("Relu", ["conv.weight"], ["inner"])],
        "branch",
        [],
        [helper.make_tensor_value_info("inner", kind, [4, 3, 1, 1])],
    )
    model.graph.initializer.append(helper.make_tensor("yes", onnx.TensorProto.BOOL, [], [True]))
    model.graph.node.append(
        helper.make_node("If", ["yes"], ["chosen"], "if", then_branch=branch, else_branch=branch)
    )
    model.graph.output.append(helper.make_tensor_value_info("chosen", kind, [4, 3, 1, 1]))
    assert analyse(model).graph.edges == ()


def test_a_rule_that_gives_a_wrong_shape_freezes_and_says_so() -> None:
    subject = analyse(chain())
    wrong = {**RULES, "Relu": lambda site, ins, c: [ins[0][1:]]}
    graph = interpret(subject.model, subject.facts, wrong)
    assert "its rule gives the shape" in graph.diagnostics[0].message


def test_reads_are_known_by_consumer_too() -> None:
    """A stream that two convolutions sum over, and an addition and a Relu hand on."""
    b = Builder(0, 17, batch=1)
    x = conv(b, b.input(1, 3, 2, 2), "stem.weight", 4)
    y = b.relu(b.add("Add", [conv(b, x, "left.weight", 4), x]))
    b.output(conv(b, y, "right.weight", 3))
    case = analyse(b.model())
    weights = {node.inputs[1].name: node for node in case.model.graph if node.op_type == "Conv"}
    readers = [(str(weights[name].name), 0, 1) for name in ("left.weight", "right.weight")]
    assert list(case.graph.read_by) == readers
    assert case.graph.reads == ((x, 1), (y, 1))
