"""Two graphs that choose by comparing floats: a choice may turn around, what is chosen may not."""

from __future__ import annotations

import numpy as np
import onnx
import onnx_ir as ir
import pytest
from onnx import TensorProto, helper, numpy_helper
from properties.graphs import one_block
from texts import weight, written

from prunec.compiler.interpret import interpret
from prunec.frontends.onnx import load
from prunec.frontends.shapes import infer_facts
from prunec.passes.options import Options
from prunec.passes.solvers.greedy import Greedy
from prunec.runtime.compile import Settings, apply_plan, plan_for
from prunec.runtime.selection import Pair, choices, with_same_choices
from prunec.runtime.subject import open_model
from prunec.runtime.verify import verify

pytest.importorskip("onnxruntime")

ROWS = np.arange(12, dtype=np.float32).reshape(4, 3)
SCORES = np.array([[1], [1 / 3], [1 / 7]], np.float32)


def picking(scores: np.ndarray, rows: np.ndarray, k: int = 2) -> ir.Model:
    """The rows with the best scores, times a weight."""
    nodes = [
        helper.make_node("MatMul", ["x", "scores"], ["s"], "score"),
        helper.make_node("Squeeze", ["s", "one"], ["flat"], "flat"),
        helper.make_node("TopK", ["flat", "k"], ["best", "places"], "top"),
        helper.make_node("Gather", ["x", "places"], ["chosen"], "pick"),
        helper.make_node("MatMul", ["chosen", "rows"], ["y"], "layer"),
    ]
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [4, 3])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [None, 3])],
        [
            numpy_helper.from_array(scores, "scores"),
            numpy_helper.from_array(rows, "rows"),
            numpy_helper.from_array(np.array([1]), "one"),
            numpy_helper.from_array(np.array([k]), "k"),
        ],
    )
    proto = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.checker.check_model(proto)
    return load(proto)


def pair(first: ir.Model, second: ir.Model) -> Pair:
    facts = infer_facts(first)
    graph = interpret(first, facts)
    return Pair(first, second, facts, graph, np.ones(graph.number_of_groups + 1, bool))


def test_choices_are_integers_that_floats_decide() -> None:
    found = choices(pair(*[picking(SCORES, np.eye(3, dtype=np.float32))] * 2))
    assert found.chosen == {"places": "TopK"}
    assert found.deciding == ("flat",)


def compare(second: ir.Model) -> dict[str, float]:
    """Largest difference by value, where the second graph gets the first one's choices."""
    # The scores of the first two rows are equal but for rounding.
    x = np.array([[1, 3, 0], [2, 0, 0], [0, 0, 7], [0, 0, -7]], np.float32)
    both = pair(picking(SCORES, np.eye(3, dtype=np.float32)), second)
    values = with_same_choices(both, {"x": x}, ["y"])
    assert values is not None
    return {name: float(np.abs(a - b).max()) for name, a, b in values}


def test_a_choice_that_rounding_turns_around_is_no_difference() -> None:
    turned = SCORES * np.array([[1 - 1e-6], [1 + 1e-6], [1]], np.float32)
    found = compare(picking(turned, np.eye(3, dtype=np.float32)))
    assert found["y"] == 0
    assert 0 < found["flat"] < 1e-5


def test_what_decides_must_be_equal() -> None:
    found = compare(picking(SCORES * np.float32(1.5), np.eye(3, dtype=np.float32)))
    assert found["flat"] > 0.5


def test_what_follows_a_choice_must_be_equal() -> None:
    assert compare(picking(SCORES, np.eye(3, dtype=np.float32)[::-1].copy()))["y"] > 0.5


def test_a_choice_of_another_size_is_not_given() -> None:
    both = pair(picking(SCORES, np.eye(3, dtype=np.float32)), picking(SCORES, ROWS[:3], k=3))
    assert with_same_choices(both, {"x": ROWS}, ["y"]) is None


def test_nothing_is_chosen_where_nothing_is_compared() -> None:
    node = helper.make_node("Relu", ["x"], ["y"], "relu")
    values = [helper.make_tensor_value_info(n, TensorProto.FLOAT, [4, 3]) for n in "xy"]
    graph = helper.make_graph([node], "g", values[:1], values[1:])
    model = load(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)]))
    assert with_same_choices(pair(model, model), {"x": ROWS}, ["y"]) is None


def test_a_layer_behind_a_selection_is_pruned_and_proven() -> None:
    subject = open_model(one_block("selected_rows", 8))
    plan = plan_for(subject, "flops=0.5", Options(solver=Greedy(), align=1), Settings())
    result = verify(subject, plan, apply_plan(subject, plan))
    result.require()
    checks = {check.name: check.detail for check in result.checks}
    assert "decide what is selected" in checks["gated == pruned"]
    assert "assumed-size" in {d.code for d in subject.graph.diagnostics}


HEAD_OF_BOXES = """
g (float[1,3,4,4] x) => (float[n,6] y) {
  a = Conv(x, w) r = Relu(a)
  b = Conv(r, wb) s = Conv(r, ws)
  four = Constant<value_ints = [1, 4, 16]>() two = Constant<value_ints = [1, 2, 16]>()
  br = Reshape(b, four) sr = Reshape(s, two)
  boxes = Transpose<perm = [0, 2, 1]>(br)
  scores = Sigmoid(sr)
  most = Constant<value_int = 10>()
  picked = NonMaxSuppression(boxes, scores, most)
  last = Constant<value_ints = [2]>() zero = Constant<value_ints = [0]>()
  who = Gather<axis = 1>(picked, last)
  rest = Constant<value_ints = [1, -1, 16]>()
  f = Reshape(r, rest) t = Transpose<perm = [0, 2, 1]>(f) rows = Squeeze(t, zero)
  chosen = GatherND(rows, who)
  y = MatMul(chosen, wo)
}
"""


def test_what_is_before_and_beside_a_suppression_of_boxes_stays_prunable() -> None:
    shapes = {"w": (16, 3, 1, 1), "wb": (4, 16, 1, 1), "ws": (2, 16, 1, 1), "wo": (16, 6)}
    stored = {name: weight(k, *shape) for k, (name, shape) in enumerate(shapes.items())}
    subject = open_model(written(HEAD_OF_BOXES, **stored))
    plan = plan_for(subject, "flops=0.5", Options(solver=Greedy(), align=1), Settings())
    pruned = apply_plan(subject, plan)
    verify(subject, plan, pruned).require()
    left = {n: v.const_value.shape.numpy() for n, v in pruned.graph.initializers.items()}
    assert left["w"][0] == left["wb"][1] == left["wo"][0] < 16
    assert left["wb"][0] == 4
    assert left["ws"][0] == 2
