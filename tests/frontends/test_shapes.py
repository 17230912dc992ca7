"""Shapes, types and constants of every value, for one binding of the symbolic dimensions."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from frontend_models import chain, conv_relu, finish, weights
from onnx import TensorProto, helper, numpy_helper

from prunec.compiler.errors import UsageError
from prunec.frontends.bindings import DATA_DEPENDENT
from prunec.frontends.onnx import load
from prunec.frontends.shapes import infer_facts, parse_shapes


def ints(name: str, *values: int) -> onnx.TensorProto:
    return numpy_helper.from_array(np.array(values, np.int64), name)


def test_options_are_parsed() -> None:
    texts = ["image:1,3,224,224", "scope/x:0:2x5", "s:7"]
    expected = {"image": (1, 3, 224, 224), "scope/x:0": (2, 5), "s": (7,)}
    assert parse_shapes(texts) == expected
    assert parse_shapes([]) == {}


@pytest.mark.parametrize(
    "text", ["image", "image:", ":1,2", "image:1,,2", "image:1,-2", "image:a", "image:0,3", "", ":"]
)
def test_malformed_options_are_usage_errors(text: str) -> None:
    with pytest.raises(UsageError, match="--shape"):
        parse_shapes([text])


def test_an_input_bound_twice_is_a_usage_error() -> None:
    with pytest.raises(UsageError, match="given twice"):
        parse_shapes(["x:1,2", "x:1,3"])


def test_unbound_dimensions_get_the_documented_numbers() -> None:
    model = conv_relu()
    for dim in model.graph.input[0].type.tensor_type.shape.dim[2:]:
        dim.dim_param = "side"
    facts = infer_facts(load(model))
    assert facts.bound == {"N": 1, "side": 64}
    assert facts.shapes["h"] == (1, 16, 62, 62)


def test_dimensions_without_a_symbol_are_bound_by_position() -> None:
    model = conv_relu()
    model.graph.input[0].type.tensor_type.shape.dim[0].Clear()
    facts = infer_facts(load(model), {"x": (5, 3, 8, 8)})
    assert facts.bound == {"x:0": 5}
    assert facts.shapes["y"] == (5, 4, 4, 4)


def test_bindings_reach_every_value_and_type() -> None:
    facts = infer_facts(load(conv_relu()), {"x": [3, 3, 8, 8]})
    assert facts.bound == {"N": 3}
    assert facts.shapes["y"] == (3, 4, 4, 4)
    assert facts.shapes["w1"] == (16, 3, 3, 3)
    assert {str(dtype) for dtype in facts.dtypes.values()} == {"float32"}
    assert sorted(facts.constants) == ["b1", "w1", "w2"]


@pytest.mark.parametrize(
    ("bindings", "match"),
    [
        ({"X": (1, 3, 8, 8)}, "no input named 'X'; did you mean 'x'"),
        ({"w1": (16, 3, 3, 3)}, "no input named 'w1'"),
        ({"x": (1, 3, 8)}, "has rank 4"),
        ({"x": (1, 3, 8, 9)}, "axis 3 is fixed at 8"),
        ({"x": (0, 3, 8, 8)}, "at least 1"),
    ],
)
def test_bindings_that_do_not_fit(bindings: dict[str, tuple[int, ...]], match: str) -> None:
    with pytest.raises(UsageError, match=match):
        infer_facts(load(conv_relu()), bindings)


def test_one_symbol_has_one_number() -> None:
    model = chain(helper.make_node("Add", ["x", "z"], ["y"]), shape=("B", 4))
    model.graph.input.append(helper.make_tensor_value_info("z", TensorProto.FLOAT, ["B", 4]))
    assert infer_facts(load(model), {"z": (7, 4)}).shapes["x"] == (7, 4)
    with pytest.raises(UsageError, match="symbol 'B' is already 7"):
        infer_facts(load(model), {"x": (7, 4), "z": (8, 4)})


def test_inputs_that_are_initializers_are_weights() -> None:
    model = conv_relu()
    model.graph.input.append(helper.make_tensor_value_info("w1", TensorProto.FLOAT, ["M", 3, 3, 3]))
    facts = infer_facts(load(model))
    assert facts.shapes["w1"] == (16, 3, 3, 3)
    assert "M" not in facts.bound


def test_shape_arithmetic_is_evaluated() -> None:
    model = chain(
        helper.make_node("Shape", ["x"], ["s"]),
        helper.make_node("Gather", ["s", "zero"], ["n"]),
        helper.make_node("Unsqueeze", ["n", "zeros"], ["n1"]),
        helper.make_node("Constant", [], ["rest"], value_ints=[2, -1]),
        helper.make_node("Concat", ["n1", "rest"], ["to"], axis=0),
        helper.make_node("Reshape", ["x", "to"], ["y"]),
        shape=("B", 12),
    )
    model.graph.initializer.append(numpy_helper.from_array(np.array(0, np.int64), "zero"))
    model.graph.initializer.append(ints("zeros", 0))
    facts = infer_facts(load(model), {"x": (5, 12)})
    assert facts.constants["to"].tolist() == [5, 2, -1]
    assert facts.shapes["y"] == (5, 2, 6)
    assert facts.shapes["n"] == ()


def test_constant_nodes_are_known_whichever_attribute_holds_them() -> None:
    tensor = numpy_helper.from_array(weights(2, 2), "t")
    model = chain(
        helper.make_node("Constant", [], ["a"], value=tensor),
        helper.make_node("Constant", [], ["b"], value_int=3),
        helper.make_node("Constant", [], ["c"], value_floats=[1.0, 2.0]),
        helper.make_node("Constant", [], ["d"], value_float=1.5),
        helper.make_node("Constant", [], ["e"], value_strings=["no"]),
        helper.make_node("Relu", ["x"], ["y"]),
    )
    facts = infer_facts(load(model))
    assert sorted(facts.constants) == ["a", "b", "c", "d"]
    assert [facts.shapes[name] for name in "abcd"] == [(2, 2), (), (2,), ()]
    assert [str(facts.dtypes[name]) for name in "abd"] == ["float32", "int64", "float32"]


def test_resize_scales_are_used() -> None:
    model = chain(
        helper.make_node("Resize", ["x", "", "scales"], ["y"], mode="nearest"), shape=(1, 2, 4, 4)
    )
    scales = numpy_helper.from_array(np.array([1, 1, 2, 2.5], np.float32), "scales")
    model.graph.initializer.append(scales)
    assert infer_facts(load(model)).shapes["y"] == (1, 2, 8, 10)


def test_declared_shapes_help_where_inference_cannot() -> None:
    model = chain(
        helper.make_node("Magic", ["x"], ["m"], domain="com.example"),
        helper.make_node("Relu", ["m"], ["y"]),
        shape=("B", 4),
    )
    model.opset_import.append(helper.make_opsetid("com.example", 1))
    assert "m" not in infer_facts(load(model)).shapes
    model.graph.value_info.append(helper.make_tensor_value_info("m", TensorProto.FLOAT, ["B", 9]))
    facts = infer_facts(load(model), {"x": (2, 4)})
    assert facts.shapes["m"] == facts.shapes["y"] == (2, 9)


def test_sizes_that_depend_on_data_get_one_number() -> None:
    model = chain(
        helper.make_node("NonZero", ["x"], ["where"]),
        helper.make_node("Cast", ["where"], ["y"], to=TensorProto.FLOAT),
    )
    facts = infer_facts(load(model))
    assert facts.shapes["where"] == facts.shapes["y"] == (2, DATA_DEPENDENT)
    assert facts.bound == {"where:1": DATA_DEPENDENT}
    assert str(facts.dtypes["where"]) == "int64"


def test_contents_that_come_from_such_a_size_are_marked() -> None:
    model = chain(
        helper.make_node("NonZero", ["x"], ["where"]),
        helper.make_node("Shape", ["where"], ["size"]),
        helper.make_node("Shape", ["x"], ["known"]),
        helper.make_node("Transpose", ["where"], ["y"]),
    )
    facts = infer_facts(load(model))
    assert facts.assumed == {"size"}
    assert facts.constants["known"].tolist() == list(facts.shapes["x"])


def test_an_operator_picks_no_more_than_there_is() -> None:
    model = chain(
        helper.make_node("ReduceSum", ["x"], ["sum"], keepdims=0),
        helper.make_node("Cast", ["sum"], ["i"], to=TensorProto.INT64),
        helper.make_node("Reshape", ["i", "unit"], ["k"]),
        helper.make_node("TopK", ["x", "k"], ["y", "places"]),
    )
    model.graph.initializer.append(ints("unit", 1))
    facts = infer_facts(load(model))
    assert facts.shapes["y"] == facts.shapes["x"]
    assert "y:1" in facts.bound


def test_a_shape_by_data_may_leave_one_size_to_find() -> None:
    model = chain(
        helper.make_node("NonZero", ["x"], ["where"]),
        helper.make_node("ReduceMax", ["where"], ["top"], keepdims=0),
        helper.make_node("Unsqueeze", ["top", "zero"], ["dim"]),
        helper.make_node("Concat", ["dim", "two"], ["to"], axis=0),
        helper.make_node("Reshape", ["where", "to"], ["r"]),
        helper.make_node("Cast", ["r"], ["y"], to=TensorProto.FLOAT),
    )
    model.graph.initializer.extend([ints("zero", 0), ints("two", 2)])
    model.graph.value_info.append(helper.make_tensor_value_info("r", TensorProto.INT64, ["a", 2]))
    assert infer_facts(load(model)).shapes["y"] == (DATA_DEPENDENT, 2)


def test_a_wrong_number_leaves_the_shape_unknown() -> None:
    model = chain(
        helper.make_node("NonZero", ["x"], ["where"]),
        helper.make_node("Reshape", ["where", "to"], ["r"]),
        helper.make_node("Cast", ["r"], ["y"], to=TensorProto.FLOAT),
    )
    model.graph.initializer.append(ints("to", -1, 7))
    del model.graph.output[0].type.tensor_type.shape.dim[:]
    facts = infer_facts(load(model))
    assert "r" not in facts.shapes or facts.shapes["r"][1] == 7


def test_a_literal_condition_says_how_many_it_picks() -> None:
    model = chain(helper.make_node("Compress", ["x", "keep"], ["y"], axis=1))
    model.graph.initializer.append(numpy_helper.from_array(np.array([True, False, True]), "keep"))
    facts = infer_facts(load(model))
    assert facts.shapes["y"][1] == 2
    assert facts.bound == {} or "y:1" not in facts.bound


def test_an_expanded_axis_keeps_its_size() -> None:
    model = chain(
        helper.make_node("Shape", ["x"], ["size"]),
        helper.make_node("NonZero", ["x"], ["where"]),
        helper.make_node("ReduceMin", ["where", "one"], ["low"], keepdims=0),
        helper.make_node("Max", ["size", "low"], ["to"]),
        helper.make_node("Expand", ["x", "to"], ["y"]),
    )
    model.graph.initializer.append(ints("one", 1))
    model.opset_import[0].version = 18
    facts = infer_facts(load(model))
    assert facts.shapes["y"][1] == facts.shapes["x"][1]


def test_a_rank_that_is_lost_is_found_again() -> None:
    model = chain(
        helper.make_node("NonZero", ["x"], ["where"]),
        helper.make_node("Cast", ["where"], ["f"], to=TensorProto.FLOAT),
        helper.make_node("Reshape", ["f", "to"], ["r"]),
        helper.make_node("Relu", ["r"], ["y"]),
    )
    model.graph.initializer.append(ints("to", 2, 4))
    assert infer_facts(load(model)).shapes["y"] == (2, 4)


def test_the_branch_taken_decides_where_the_condition_is_known() -> None:
    def branch(name: str, axis: int) -> onnx.GraphProto:
        nodes = [
            helper.make_node("Constant", [], [f"{name}_axes"], value_ints=[axis]),
            helper.make_node("Unsqueeze", ["x", f"{name}_axes"], [name]),
        ]
        output = helper.make_tensor_value_info(name, TensorProto.FLOAT, ["a", "b", "c"])
        return helper.make_graph(nodes, name, [], [output])

    model = chain(
        helper.make_node("Size", ["x"], ["size"]),
        helper.make_node("Equal", ["size", "eight"], ["cond"]),
        helper.make_node(
            "If", ["cond"], ["z"], then_branch=branch("p", 0), else_branch=branch("q", 2)
        ),
        helper.make_node("Relu", ["z"], ["y"]),
        shape=("B", 4),
    )
    model.graph.initializer.append(numpy_helper.from_array(np.array(8, np.int64), "eight"))
    loaded = load(model)
    assert infer_facts(loaded, {"x": (2, 4)}).shapes["y"] == (1, 2, 4)
    assert infer_facts(loaded, {"x": (3, 4)}).shapes["y"] == (3, 4, 1)
    # What never runs at these sizes is followed too: it must load.
    assert infer_facts(loaded, {"x": (2, 4)}).shapes["q"] == (2, 4, 1)


def test_element_types_outside_the_schema_do_not_stop_inference() -> None:
    node = helper.make_node("MaxPool", ["x"], ["y"], kernel_shape=[2, 2], strides=[2, 2])
    graph = helper.make_graph(
        [node],
        "pool",
        [helper.make_tensor_value_info("x", TensorProto.BFLOAT16, [1, 3, 8, 8])],
        [helper.make_tensor_value_info("y", TensorProto.BFLOAT16, ["a", "b", "c", "d"])],
    )
    facts = infer_facts(load(finish(graph)))
    assert facts.shapes["y"] == (1, 3, 4, 4)
    assert str(facts.dtypes["y"]) == "bfloat16"


def test_huge_results_are_not_computed() -> None:
    model = chain(
        helper.make_node("ConstantOfShape", ["to"], ["z"]),
        helper.make_node("Expand", ["x", "to"], ["y"]),
        shape=(1, 1),
    )
    model.graph.initializer.append(ints("to", 1_000_000, 1_000_000))
    facts = infer_facts(load(model))
    assert "z" not in facts.constants
    assert facts.shapes["z"] == facts.shapes["y"] == (1_000_000, 1_000_000)


def test_contradictory_graphs_end_in_unknown_shapes() -> None:
    model = chain(
        helper.make_node("Reshape", ["x", "to"], ["r"]), helper.make_node("Relu", ["r"], ["y"])
    )
    model.graph.initializer.append(ints("to", 3, -7))
    assert "r" not in infer_facts(load(model)).shapes


def table_of_positions(rows: int) -> onnx.ModelProto:
    """Adds a table of `rows` positions to a sequence of unknown length."""
    graph = helper.make_graph(
        [helper.make_node("Add", ["x", "table"], ["y"])],
        "net",
        [helper.make_tensor_value_info("x", 1, ["batch", "time", 4])],
        [helper.make_tensor_value_info("y", 1, ["batch", "time", 4])],
        [numpy_helper.from_array(np.ones((rows, 4), np.float32), "table")],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)


def flattened(side: int) -> onnx.ModelProto:
    """A Gemm over a flattened image of unknown sides; only one side fits its weight."""
    graph = helper.make_graph(
        [
            helper.make_node("Flatten", ["x"], ["flat"]),
            helper.make_node("Gemm", ["flat", "w"], ["y"], transB=1),
        ],
        "net",
        [helper.make_tensor_value_info("x", 1, ["batch", 1, "height", "width"])],
        [helper.make_tensor_value_info("y", 1, ["batch", 2])],
        [numpy_helper.from_array(np.ones((2, side * side), np.float32), "w")],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)


def one_node(op: str, shape: list[int | str], *stored: np.ndarray, **attributes: object):
    """A model of one node over an input of unknown length."""
    names = [f"w{k}" for k in range(len(stored))]
    graph = helper.make_graph(
        [helper.make_node(op, ["x", *names], ["y"], **attributes)],
        "net",
        [helper.make_tensor_value_info("x", 1, shape)],
        [helper.make_tensor_value_info("y", 1, None)],
        [numpy_helper.from_array(a, n) for a, n in zip(stored, names, strict=True)],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)


@pytest.mark.parametrize(
    ("model", "symbol", "number"),
    [
        (table_of_positions(8), "time", 8),
        (table_of_positions(77), "time", 77),
        (table_of_positions(16), "time", 16),
        (flattened(224), "height", 224),
        (flattened(32), "height", 32),
        (flattened(33), "height", 64),  # none of the numbers fits: the default stays
        (one_node("Conv", [1, 1, "time"], np.ones((2, 1, 20), np.float32)), "time", 32),
        (one_node("Gather", [2, "time"], np.array([40]), axis=1), "time", 64),
    ],
)
def test_a_size_that_contradicts_the_model_gives_way(
    model: onnx.ModelProto, symbol: str, number: int
) -> None:
    assert infer_facts(load(model)).bound[symbol] == number


def test_what_the_user_binds_stays() -> None:
    facts = infer_facts(load(table_of_positions(8)), {"x": (1, 16, 4)})
    assert facts.bound == {"batch": 1, "time": 16}


@pytest.mark.parametrize(
    "name", ["MatMulonnx::Transpose_5_dim_1", "a b", "it's", "9**9**9**9", "(" * 3000, "N/0"]
)
def test_a_declared_size_that_is_no_expression_is_a_mere_name(name: str) -> None:
    node = helper.make_node("Unheard", ["x"], ["y"], domain="example")
    inputs = [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["N", 3])]
    sizes = [["N", name], ["N", "2*N + 1"]]
    found = []
    for size in sizes:
        outputs = [helper.make_tensor_value_info("y", TensorProto.FLOAT, size)]
        graph = helper.make_graph([node], "odd", inputs, outputs)
        imports = [helper.make_opsetid("", 17), helper.make_opsetid("example", 1)]
        model = helper.make_model(graph, opset_imports=imports, ir_version=8)
        found.append(infer_facts(load(model), {"x": (4, 3)}).shapes.get("y"))
    assert found == [(DATA_DEPENDENT, DATA_DEPENDENT), (4, 9)]  # a number that nothing tells


def test_an_operator_that_keeps_the_shape_and_that_onnx_does_not_infer() -> None:
    facts = infer_facts(load(one_node("MeanVarianceNormalization", [2, 3, 4, 5])))
    assert facts.shapes["y"] == (2, 3, 4, 5)
