"""Models that compute with the values that integers stand for."""

from __future__ import annotations

import numpy as np
import onnx
import onnx_ir as ir
import pytest
from onnx import TensorProto, helper

from prunec.compiler.quantisation import Grid
from prunec.frontends.shapes import infer_facts
from prunec.passes.quantize.quantisers import Line
from prunec.passes.quantize.simulate import simulated
from prunec.runtime.session import make_session

pytest.importorskip("onnxruntime")
RNG = np.random.default_rng(0)


def model(kind: int = TensorProto.FLOAT) -> ir.Model:
    """`y = -relu(x)` and the value between as an output too."""
    infos = [helper.make_tensor_value_info(name, kind, (2, 3, 4)) for name in "xay"]
    nodes = [helper.make_node("Relu", ["x"], ["a"]), helper.make_node("Neg", ["a"], ["y"])]
    graph = helper.make_graph(nodes, "g", infos[:1], infos[1:])
    made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)
    return ir.serde.deserialize_model(onnx.ModelProto.FromString(made.SerializeToString()))


@pytest.mark.parametrize("axis", [None, 1])
@pytest.mark.parametrize("bits", [2, 4, 8, 16])
def test_readers_get_what_the_integers_stand_for(bits: int, axis: int | None) -> None:
    x = RNG.normal(size=(2, 3, 4)).astype(np.float32)
    size = 1 if axis is None else 3
    first = Line()(np.full(size, -1.5), np.linspace(1, 1.5, size), bits, axis)
    second = Line()(np.zeros(size), np.linspace(0.5, 1, size), bits, axis)
    own = model()
    facts = infer_facts(own, {"x": x.shape})
    session = make_session(simulated(own, facts, {"x": first, "a": second}))
    between, out = session.run({"x": x})
    inner = np.maximum(first.fake(x), 0)
    np.testing.assert_array_equal(between, inner)  # an output of the model is as it was
    np.testing.assert_array_equal(out, -second.fake(inner))
    assert [node.op_type for node in own.graph] == ["Relu", "Neg"]


def test_halves_are_computed_with_as_floats() -> None:
    x = RNG.normal(size=(2, 3, 4)).astype(np.float16)
    own = model(TensorProto.FLOAT16)
    grid = Grid(8, True, np.float32([0.02]), np.array([0]))
    fake = simulated(own, infer_facts(own, {"x": x.shape}), {"x": grid})
    _, out = make_session(fake).run({"x": x})
    np.testing.assert_array_equal(out, -np.maximum(grid.fake(x).astype(np.float16), 0))
