"""Models in element types that onnxruntime has no kernels for are proven in others."""

from __future__ import annotations

from typing import Any

import ml_dtypes
import numpy as np
import onnx
import pytest
from onnx import helper, numpy_helper

from prunec.passes.options import Options
from prunec.passes.solvers.greedy import Greedy
from prunec.runtime.compile import Settings, apply_plan, plan_for
from prunec.runtime.subject import open_model
from prunec.runtime.verify import Verification, verify
from prunec.runtime.widen import runnable

pytest.importorskip("onnxruntime")


def net(dtype: Any, opset: int = 22) -> onnx.ModelProto:
    kind = helper.np_dtype_to_tensor_dtype(np.dtype(dtype))
    rng = np.random.default_rng(0)

    def stored(name: str, *shape: int) -> onnx.TensorProto:
        return numpy_helper.from_array((rng.standard_normal(shape) / 4).astype(dtype), name)

    half = numpy_helper.from_array(np.array(0.5, dtype))
    graph = helper.make_graph(
        [
            helper.make_node("Conv", ["x", "a"], ["h"]),
            helper.make_node("Constant", [], ["half"], value=half),
            helper.make_node("Mul", ["h", "half"], ["m"]),
            helper.make_node("Cast", ["m"], ["c"], to=kind),
            helper.make_node("Relu", ["c"], ["r"]),
            helper.make_node("Conv", ["r", "b"], ["y"]),
        ],
        "net",
        [helper.make_tensor_value_info("x", kind, ["n", 3, 4, 4])],
        [helper.make_tensor_value_info("y", kind, ["n", 2, 4, 4])],
        [stored("a", 8, 3, 1, 1), stored("b", 2, 8, 1, 1)],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=10)


def prune(model: onnx.ModelProto) -> Verification:
    subject = open_model(model)
    plan = plan_for(subject, "flops=0.5", Options(solver=Greedy(), align=1), Settings())
    return verify(subject, plan, apply_plan(subject, plan))


@pytest.mark.parametrize("dtype", [ml_dtypes.bfloat16, np.float64])
def test_both_graphs_are_compared_in_a_type_that_runs(dtype: Any) -> None:
    result = prune(net(dtype))
    result.require()
    details = {check.name: check.detail for check in result.checks}
    assert "as float" in details["load"]
    assert result.max_error == 0


def test_what_the_checker_says_of_the_dense_model_is_not_held_against_the_pruned() -> None:
    result = prune(net(ml_dtypes.bfloat16, opset=21))  # Conv has bfloat16 since 22
    result.require()
    details = {check.name: check.detail for check in result.checks}
    assert "refuses the dense model" in details["checker"]


def test_a_model_that_runs_is_taken_as_it_is() -> None:
    subject = open_model(net(np.float16))
    assert runnable(subject, subject.model).note == ""


def test_the_models_own_types_stay_as_they_are() -> None:
    subject = open_model(net(ml_dtypes.bfloat16))
    before = {v.name: v.dtype for node in subject.model.graph for v in node.outputs}
    ran = runnable(subject, subject.model)
    assert ran.subject is not subject
    assert {v.name: v.dtype for node in subject.model.graph for v in node.outputs} == before
