"""The oracle looks at other sizes than those that a model is analysed at."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from prunec.frontends.onnx import load, to_proto
from prunec.passes.options import Options
from prunec.runtime.compile import Settings, apply_plan, plan_for
from prunec.runtime.sizes import other_sizes
from prunec.runtime.subject import open_model
from prunec.runtime.verify import verify

pytest.importorskip("onnxruntime")


def folded(batch: int | str) -> onnx.ModelProto:
    """Rows of all channels, ``(6 * height, width)``, through a Relu and back to an image."""
    rng = np.random.default_rng(0)
    stored = {
        "a": rng.standard_normal((6, 3, 1, 1)).astype("f4"),
        "b": rng.standard_normal((2, 6, 1, 1)).astype("f4"),
        **{f"n{k}": np.array([k], "i8") for k in (0, 1, 2, 3, 6)},
    }
    node = helper.make_node
    nodes = [
        node("Conv", ["x", "a"], ["h"], name="first"),
        node("Shape", ["h"], ["shape"]),
        *(node("Gather", ["shape", f"n{k}"], [f"d{k}"]) for k in (0, 2, 3)),
        node("Mul", ["d0", "n6"], ["planes"]),
        node("Mul", ["planes", "d2"], ["rows"]),
        node("Concat", ["rows", "d3"], ["flat_shape"], axis=0),
        node("Reshape", ["h", "flat_shape"], ["flat"], name="flatten"),
        node("Relu", ["flat"], ["fires"]),
        node("Concat", ["d0", "n6", "d2", "d3"], ["image_shape"], axis=0),
        node("Reshape", ["fires", "image_shape"], ["image"], name="restore"),
        node("Conv", ["image", "b"], ["y"], name="second"),
    ]
    graph = helper.make_graph(
        nodes,
        "folded",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [batch, 3, "H", "W"])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [batch, 2, "H", "W"])],
        [numpy_helper.from_array(array, name) for name, array in stored.items()],
    )
    imports = [helper.make_opsetid("", 17)]
    return helper.make_model(graph, opset_imports=imports, ir_version=8)


def test_all_symbols_change_then_the_batch_alone() -> None:
    both = other_sizes(open_model(folded("N"), {"x": (1, 3, 10, 2)}))
    assert both == [{"x": (3, 3, 5, 4)}, {"x": (3, 3, 10, 2)}]
    assert other_sizes(open_model(folded(1), {"x": (1, 3, 10, 2)})) == [{"x": (1, 3, 5, 4)}]


def test_a_model_without_symbols_has_no_other_sizes() -> None:
    fixed = folded(1)
    for dim, number in zip(
        fixed.graph.input[0].type.tensor_type.shape.dim, (1, 3, 8, 8), strict=True
    ):
        dim.dim_value = number
    assert other_sizes(open_model(fixed)) == []


@pytest.mark.parametrize("batch", ["N", 1])
def test_a_size_that_holds_at_the_bound_height_only_is_noticed(batch: int | str) -> None:
    subject = open_model(folded(batch))
    plan = plan_for(subject, "flops=0.5", Options(align=1), Settings())
    pruned = to_proto(apply_plan(subject, plan))
    assert verify(subject, plan, load(pruned)).passed
    flatten = next(n for n in pruned.graph.node if n.name == "flatten")
    rows = len(next(iter(plan.hyperedges.values())).positions) * 64
    flatten.input[1] = "frozen_shape"
    pruned.graph.initializer.append(numpy_helper.from_array(np.array([rows, 64]), "frozen_shape"))
    failed = [c.name for c in verify(subject, plan, load(pruned)).checks if not c.passed]
    assert failed == ["other sizes"]


def test_a_bound_that_counts_from_the_end_still_does() -> None:
    """The roll of a shifted window, over rows that were stretched: -2 must not become H - 2."""
    rng = np.random.default_rng(0)
    stored = {
        "a": rng.standard_normal((6, 3, 1, 1)).astype("f4"),
        "b": rng.standard_normal((2, 6, 1, 1)).astype("f4"),
        **{name: np.array([n]) for name, n in (("z", 0), ("minus", -2), ("huge", 99), ("two", 2))},
    }
    node = helper.make_node
    nodes = [
        node("Conv", ["x", "a"], ["h"], name="first"),
        node("ReduceMean", ["h"], ["mean"], axes=[2]),
        node("Shape", ["h"], ["shape"]),
        node("Expand", ["mean", "shape"], ["rows"]),
        node("Mul", ["rows", "h"], ["image"]),
        node("Slice", ["image", "minus", "huge", "two"], ["tail"]),
        node("Slice", ["image", "z", "minus", "two"], ["front"]),
        node("Concat", ["tail", "front"], ["rolled"], axis=2),
        node("Conv", ["rolled", "b"], ["y"], name="second"),
    ]
    graph = helper.make_graph(
        nodes,
        "rolled",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 3, "H", 8])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [1, 2, "H", 8])],
        [numpy_helper.from_array(array, name) for name, array in stored.items()],
    )
    imports = [helper.make_opsetid("", 17)]
    subject = open_model(helper.make_model(graph, opset_imports=imports, ir_version=8))
    plan = plan_for(subject, "flops=0.5", Options(align=1), Settings())
    verify(subject, plan, apply_plan(subject, plan)).require()
