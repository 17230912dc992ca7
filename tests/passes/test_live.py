"""Sizes that a model computes from symbols, after channels have left."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from prunec.compiler.interpret import interpret
from prunec.frontends.onnx import load, to_proto
from prunec.frontends.shapes import infer_facts
from prunec.passes.apply import prune
from prunec.passes.live import scaled

pytest.importorskip("onnxruntime")


def merged(batch: int | str) -> onnx.ModelProto:
    """Rows of all channels, ``(batch * 6 * height, width)``, doubled, and back to an image."""
    rng = np.random.default_rng(0)
    stored = {
        "a": rng.standard_normal((6, 3, 1, 1)).astype("f4"),
        "b": rng.standard_normal((2, 6, 1, 1)).astype("f4"),
        "six": np.array([6], "i8"),
        "two": np.array([2.0], "f4"),
        **{f"at{k}": np.array([k], "i8") for k in range(4)},
    }
    node = helper.make_node
    nodes = [
        node("Conv", ["x", "a"], ["h"], name="first"),
        node("Shape", ["h"], ["shape"]),
        *(node("Gather", ["shape", f"at{k}"], [f"d{k}"]) for k in (0, 2, 3)),
        node("Mul", ["d0", "six"], ["planes"]),
        node("Mul", ["planes", "d2"], ["rows"]),
        node("Concat", ["rows", "d3"], ["flat_shape"], axis=0),
        node("Reshape", ["h", "flat_shape"], ["flat"], name="flatten"),
        node("Mul", ["flat", "two"], ["doubled"]),
        node("Concat", ["d0", "six", "d2", "d3"], ["image_shape"], axis=0),
        node("Reshape", ["doubled", "image_shape"], ["image"], name="restore"),
        node("Conv", ["image", "b"], ["y"], name="second"),
    ]
    graph = helper.make_graph(
        nodes,
        "merged",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [batch, 3, "H", "W"])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [batch, 2, "H", "W"])],
        [numpy_helper.from_array(array, name) for name, array in stored.items()],
    )
    imports = [helper.make_opsetid("", 17)]
    return helper.make_model(graph, opset_imports=imports, ir_version=8)


def run(model: onnx.ModelProto, x: np.ndarray) -> np.ndarray:
    import onnxruntime

    session = onnxruntime.InferenceSession(model.SerializeToString())
    return session.run(None, {"x": x})[0]


@pytest.mark.parametrize("batch", ["N", 1])
def test_a_product_with_a_symbol_shrinks_by_a_factor(batch: int | str) -> None:
    model = load(merged(batch))
    facts = infer_facts(model)
    graph = interpret(model, facts)
    mask = np.ones(graph.number_of_groups + 1, bool)
    edge = next(e for e in graph.edges if e.size == 6)
    mask[edge.first + 1 : edge.first + 5] = False
    small = to_proto(prune(model, facts, graph, mask))
    # Other numbers than those that the symbols are bound to while the model is analysed.
    x = np.random.default_rng(1).standard_normal((3 if batch == "N" else 1, 3, 5, 7)).astype("f4")
    dense = merged(batch)
    weights = {t.name: numpy_helper.to_array(t) for t in dense.graph.initializer}
    hidden = np.einsum("oi,nihw->nohw", weights["a"][[0, 5], :, 0, 0], x)
    want = np.einsum("oi,nihw->nohw", weights["b"][:, [0, 5], 0, 0], 2 * hidden)
    np.testing.assert_allclose(run(small, x), want, rtol=1e-5, atol=1e-5)


def test_other_sizes_shrink_by_a_number() -> None:
    have, want = np.array([72, 20, 7]), np.array([24, 16, 7])
    up, down, change = scaled(have, want, np.array([True, False, False]))
    np.testing.assert_array_equal(have * up // down + change, want)
    assert (up[0], down[0], change[0]) == (1, 3, 0)
    assert change[1] == -4


def test_a_number_made_of_a_size_keeps_its_contents_where_it_has_no_axes() -> None:
    """``x / sqrt(channels)``, with a scalar, beside a symbolic batch."""
    rng = np.random.default_rng(0)
    node = helper.make_node
    nodes = [
        node("MatMul", ["x", "a"], ["h"], name="first"),
        node("Shape", ["h"], ["shape"]),
        node("Gather", ["shape", "last"], ["size"]),
        node("Cast", ["size"], ["count"], to=TensorProto.FLOAT),
        node("Sqrt", ["count"], ["root"]),
        node("Div", ["h", "root"], ["scaled"]),
        node("MatMul", ["scaled", "b"], ["y"], name="second"),
    ]
    stored = {
        "a": rng.standard_normal((3, 9)).astype("f4"),
        "b": rng.standard_normal((9, 2)).astype("f4"),
        "last": np.array(1, "i8"),
    }
    graph = helper.make_graph(
        nodes,
        "scaled",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["N", 3])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["N", 2])],
        [numpy_helper.from_array(array, name) for name, array in stored.items()],
    )
    imports = [helper.make_opsetid("", 17)]
    model = load(helper.make_model(graph, opset_imports=imports, ir_version=8))
    facts = infer_facts(model)
    coupled = interpret(model, facts)
    mask = np.ones(coupled.number_of_groups + 1, bool)
    mask[1:6] = False
    x = rng.standard_normal((4, 3)).astype("f4")
    kept = np.r_[0, 6:9]
    want = x @ stored["a"][:, kept] / 3 @ stored["b"][kept]
    got = run(to_proto(prune(model, facts, coupled, mask)), x)
    np.testing.assert_allclose(got, want, rtol=1e-5, atol=1e-5)
