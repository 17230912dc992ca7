"""Places: what becomes integers, what stays float and why."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper
from quantised_nets import found, residual_net, store

from prunec.passes.quantize.recipe import Recipe, Rule

STREAM = {"block.w": ("hyperedge:stream",)}


def test_a_residual_net_is_integers_from_its_input_to_its_last_layer() -> None:
    _, _, where = found(residual_net(), "w8a8")
    assert [p.node for p in where.nodes] == ["stem", "block", "add", "gap", "fc"]
    # Relu is part of the layer before it, pools and Flatten hand integers through.
    assert where.activations == {"x": 8, "r": 8, "c": 8, "ar": 8, "g": 8}
    assert where.same == {"m": "ar", "f": "g"}
    assert where.floats == {}
    stem, fc = where.nodes[0], where.nodes[-1]
    assert (stem.weight, stem.bias, stem.output, stem.fused) == ("stem.w", "stem.b", "r", "relu")
    assert (fc.weight, fc.bias, fc.output) == ("fc.w", "fc.b", "")


def test_weights_have_a_scale_per_output() -> None:
    _, _, where = found(residual_net(), "w4a8")
    assert {n: (w.axis, w.bits) for n, w in where.weights.items()} == {
        "stem.w": (0, 4),
        "block.w": (0, 4),
        "fc.w": (0, 4),
    }
    _, _, whole = found(residual_net(), Recipe(channels=False))
    assert {w.axis for w in whole.weights.values()} == {None}


def test_weights_alone_leave_activations_float() -> None:
    _, _, where = found(residual_net(), "weights=int8")
    assert where.activations == {} and set(where.weights) == {"stem.w", "block.w", "fc.w"}
    assert where.floats["add"] == "activations stay float"


def test_the_first_and_the_last_layer_stay_float_where_that_is_asked_for() -> None:
    _, _, where = found(residual_net(), Recipe(first=False, last=False))
    assert where.floats["stem"] == "first layer" and where.floats["fc"] == "last layer"
    assert set(where.weights) == {"block.w"}


def test_patterns_name_nodes_weights_and_hyperedges() -> None:
    _, facts, where = found(residual_net(), Recipe(exclude=("^block",)))
    assert where.floats["block"] == "excluded by '^block'"
    assert "block.w" not in where.weights
    rules = (Rule(r"fc\.w", weights=4, activations=16), Rule("stem", skip=True))
    _, _, where = found(residual_net(), Recipe(rules=rules))
    assert where.weights["fc.w"].bits == 4
    assert where.floats["stem"] == "rule 'stem' says so"
    # What the rule asks of the Flatten's result is asked of where its integers come from.
    assert where.activations["g"] == 16 and where.same["f"] == "g"
    from prunec.passes.quantize.places import places

    model, facts, _ = found(residual_net(), "w8a8")
    named = places(model, facts, Recipe(exclude=("hyperedge:^stream$",)), STREAM)
    assert named.floats["block"] == "excluded by 'hyperedge:^stream$'"
    assert "block" not in places(model, facts, Recipe(exclude=("^stream$",)), STREAM).floats


def flat(nodes: list[onnx.NodeProto], kind: int = TensorProto.FLOAT) -> onnx.ModelProto:
    """x (2, 3, 8) through nodes to y, with w (8, 6), b (6,) and v (6, 4)."""
    stored = [store((8, 6), "w"), store((6,), "b"), store((6, 4), "v")]
    if kind == TensorProto.DOUBLE:
        for tensor in stored:
            array = onnx.numpy_helper.to_array(tensor).astype(np.float64)
            tensor.CopyFrom(onnx.numpy_helper.from_array(array, tensor.name))
    graph = helper.make_graph(
        nodes,
        "flat",
        [helper.make_tensor_value_info("x", kind, [2, 3, 8])],
        [helper.make_tensor_value_info("y", kind, None)],
        stored,
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def test_the_addition_behind_a_matrix_product_is_its_bias() -> None:
    nodes = [
        helper.make_node("MatMul", ["x", "w"], ["p"], "product"),
        helper.make_node("Add", ["b", "p"], ["q"], "plus"),
        helper.make_node("Relu", ["q"], ["r"], "relu"),
        helper.make_node("MatMul", ["r", "v"], ["y"], "head"),
    ]
    _, _, where = found(flat(nodes), "w8a8")
    first = where.nodes[0]
    assert (first.bias, first.adds) == ("b", "plus")
    assert set(where.activations) == {"x", "r"} and "plus" not in where.floats


def test_products_of_activations_are_quantised_where_that_is_asked_for() -> None:
    nodes = [
        helper.make_node("MatMul", ["x", "w"], ["p"], "product"),
        helper.make_node("Transpose", ["p"], ["t"], "turn", perm=[0, 2, 1]),
        helper.make_node("MatMul", ["p", "t"], ["y"], "pair"),
    ]
    _, _, where = found(flat(nodes), "w8a8")
    assert "two activations" in where.floats["pair"]
    _, _, where = found(flat(nodes), Recipe(products=True))
    assert where.nodes[-1].inputs == (0, 1) and where.nodes[-1].weight == ""
    assert {"p", "t"} <= {*where.activations, *where.same}


def test_doubles_stay_floats() -> None:
    nodes = [helper.make_node("MatMul", ["x", "w"], ["y"], "product")]
    _, _, where = found(flat(nodes, TensorProto.DOUBLE), "w8a8")
    assert where.floats == {"product": "it computes in float64"} and not where.weights


def test_what_has_no_layer_behind_it_stays_float() -> None:
    model = residual_net()
    del model.graph.node[5:]
    model.graph.output[0].name = "ar"
    _, _, where = found(model, "w8a8")
    assert where.floats["add"] == "no layer is behind it"


@pytest.mark.parametrize("mode", ["nearest", "linear", "cubic"])
def test_enlarging_moves_integers_unless_it_overshoots(mode: str) -> None:
    model = residual_net()
    resize = helper.make_node("Resize", ["r", "", "scales"], ["big"], "resize", mode=mode)
    model.graph.node.insert(2, resize)
    model.graph.node[3].input[0] = "big"
    model.graph.node[4].input[1] = "big"
    scales = onnx.numpy_helper.from_array(np.array([1, 1, 2, 2], np.float32), "scales")
    model.graph.initializer.append(scales)
    _, _, where = found(model, "w8a8")
    assert where.same.get("big") == (None if mode == "cubic" else "r")
    assert ("big" in where.activations) == (mode == "cubic")


def test_recurrent_layers_stay_float_and_count_as_layers() -> None:
    nodes = [
        helper.make_node("RNN", ["x", "rw", "rr"], ["h"], "rnn", hidden_size=4),
        helper.make_node("Squeeze", ["h", "one"], ["s"], "squeeze"),
        helper.make_node("MatMul", ["s", "v"], ["y"], "head"),
    ]
    stored = [store((1, 4, 8), "rw"), store((1, 4, 4), "rr"), store((4, 5), "v")]
    stored.append(onnx.numpy_helper.from_array(np.array([1]), "one"))
    ends = [("x", [3, 2, 8]), ("y", [3, 2, 5])]
    values = [helper.make_tensor_value_info(name, TensorProto.FLOAT, s) for name, s in ends]
    graph = helper.make_graph(nodes, "rnn", values[:1], values[1:], stored)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    _, _, where = found(model, Recipe(first=False))
    assert where.floats == {"rnn": "recurrent layers have no integer kernel"}
    assert set(where.weights) == {"v"}
