from __future__ import annotations

import json
from collections.abc import Callable

import numpy as np
import onnx
import pytest
from nets import chain, residual
from onnx import TensorProto, helper, numpy_helper
from properties.builder import Builder

from prunec.compiler.errors import PlanError, VerificationError
from prunec.compiler.plan import Plan
from prunec.frontends.onnx import load, to_proto
from prunec.passes.options import Options
from prunec.passes.solvers.greedy import Greedy
from prunec.runtime.compile import Settings, apply_plan, plan_for
from prunec.runtime.subject import Subject, open_model
from prunec.runtime.verify import Verification, verify

pytest.importorskip("onnxruntime")


def made(model: onnx.ModelProto) -> tuple[Subject, Plan, onnx.ModelProto]:
    subject = open_model(model)
    plan = plan_for(subject, "flops=0.5", Options(solver=Greedy()), Settings())
    return subject, plan, to_proto(apply_plan(subject, plan))


def failing(result: Verification) -> set[str]:
    return {check.name for check in result.checks if not check.passed}


def initializer(model: onnx.ModelProto, name: str) -> TensorProto:
    return next(t for t in model.graph.initializer if t.name == name)


def rewrite(model: onnx.ModelProto, name: str, edit: Callable[[np.ndarray], np.ndarray]) -> None:
    tensor = initializer(model, name)
    tensor.CopyFrom(numpy_helper.from_array(edit(numpy_helper.to_array(tensor)).copy(), name))


@pytest.mark.parametrize("model", [chain(), residual()], ids=["chain", "residual"])
def test_a_right_rewriting_passes_every_check(model: onnx.ModelProto) -> None:
    subject, plan, pruned = made(model)
    result = verify(subject, plan, load(pruned))
    assert result.passed
    result.require()
    assert {"cost", "gated == pruned", "exact weights"} <= {c.name for c in result.checks}


def test_the_result_is_json() -> None:
    subject, plan, pruned = made(chain())
    body = json.loads(json.dumps(verify(subject, plan, load(pruned)).to_dict()))
    assert body["passed"] is True
    assert body["max_error"] <= body["tolerance"]


def test_swapped_channels_are_noticed() -> None:
    subject, plan, pruned = made(chain())
    rewrite(pruned, "conv1.weight", lambda w: w[::-1])
    result = verify(subject, plan, load(pruned))
    assert failing(result) == {"gated == pruned"}
    with pytest.raises(VerificationError, match="gated == pruned: outputs differ"):
        result.require()


def test_a_cut_in_the_wrong_place_is_noticed_even_with_equal_shapes() -> None:
    subject, plan, pruned = made(chain())
    dense = numpy_helper.to_array(initializer(chain(), "conv2.weight"))
    rewrite(pruned, "conv2.weight", lambda w: dense[: w.shape[0], : w.shape[1]] + 1)
    assert "gated == pruned" in failing(verify(subject, plan, load(pruned)))


def test_a_weight_of_the_wrong_shape_is_noticed() -> None:
    subject, plan, pruned = made(chain())
    rewrite(pruned, "bn.bias", lambda w: np.concatenate([w, w[:1]]))
    result = verify(subject, plan, load(pruned))
    assert {"weights", "load"} <= failing(result)


def test_a_model_that_is_dense_still_is_noticed() -> None:
    subject, plan, _ = made(chain())
    assert {"weights", "cost"} <= failing(verify(subject, plan, load(chain())))


def set_metadata(model: onnx.ModelProto) -> None:
    model.metadata_props[0].value = "someone else"


def set_producer(model: onnx.ModelProto) -> None:
    model.producer_name = "other"


def rename_output(model: onnx.ModelProto) -> None:
    old = model.graph.output[0].name
    model.graph.output[0].name = "renamed"
    for node in model.graph.node:
        node.output[:] = ["renamed" if name == old else name for name in node.output]


def free_batch(model: onnx.ModelProto) -> None:
    model.graph.input[0].type.tensor_type.shape.dim[0].dim_param = "batch"


def raise_opset(model: onnx.ModelProto) -> None:
    model.opset_import[0].version = 18


@pytest.mark.parametrize(
    "edit", [set_metadata, set_producer, rename_output, free_batch, raise_opset]
)
def test_a_changed_interface_is_noticed(edit: Callable[[onnx.ModelProto], None]) -> None:
    subject, plan, pruned = made(chain())
    edit(pruned)
    assert "interface" in failing(verify(subject, plan, load(pruned)))


def test_a_stale_shape_is_noticed() -> None:
    subject, plan, pruned = made(chain())
    stale = next(v for v in pruned.graph.value_info if v.name == "v0")
    stale.type.tensor_type.shape.dim[1].dim_value = 8
    assert failing(verify(subject, plan, load(pruned))) & {"checker", "load"}


def test_a_wrong_cost_in_the_plan_is_noticed() -> None:
    subject, plan, pruned = made(chain())
    body = json.loads(plan.to_json())
    body["costs"]["flops"]["pruned"] -= 1
    wrong = Plan.from_json(json.dumps(body))
    result = verify(subject, wrong, load(pruned))
    assert failing(result) == {"cost"}


def test_a_broken_budget_is_noticed() -> None:
    subject, plan, pruned = made(chain())
    body = json.loads(plan.to_json())
    body["budget"]["flops"] = plan.costs["flops"][1] - 1
    result = verify(subject, Plan.from_json(json.dumps(body)), load(pruned))
    assert failing(result) == {"cost"}
    assert "exceeds the budget" in next(c.detail for c in result.checks if not c.passed)


def test_a_plan_of_another_model_is_refused() -> None:
    _, plan, _ = made(chain())
    subject = open_model(residual())
    with pytest.raises(PlanError, match="made for another model"):
        verify(subject, plan, load(residual()))


def test_an_extra_node_is_noticed() -> None:
    subject, plan, pruned = made(chain())
    # A product by two of the last activation.
    two = numpy_helper.from_array(np.array(2, np.float32), "two")
    pruned.graph.initializer.append(two)
    gemm = next(n for n in pruned.graph.node if n.op_type == "Gemm")
    pruned.graph.node.insert(
        list(pruned.graph.node).index(gemm),
        helper.make_node("Mul", [gemm.input[0], "two"], ["doubled"], "twice"),
    )
    gemm = next(n for n in pruned.graph.node if n.op_type == "Gemm")
    gemm.input[0] = "doubled"
    assert "gated == pruned" in failing(verify(subject, plan, load(pruned)))


def test_a_random_dropout_is_switched_off_for_the_comparison() -> None:
    b = Builder(0, 17, batch=1)
    x = b.relu(b.conv(b.input(1, 3, 4, 4), 8))
    shape = b.shapes[x]
    ratio = b.store(np.array(0.5, np.float32), "ratio")
    training = b.store(np.array(True), "training")
    b.output(b.conv(b.add("Dropout", [x, ratio, training], shape), 2))
    subject, plan, pruned = made(b.model())
    assert verify(subject, plan, load(pruned)).passed


def test_one_term_weights_without_a_signal_prove_nothing_and_say_so() -> None:
    """Outputs that do not depend on the input are equal whatever was cut."""
    b = Builder(0, 17, batch=1)
    x = b.conv(b.relu(b.conv(b.input(1, 3, 4, 4), 8)), 2)
    b.output(b.add("Mul", [x, b.store(np.zeros((), np.float32), "nothing")]))
    subject, plan, pruned = made(b.model())
    details = {check.name: check.detail for check in verify(subject, plan, load(pruned)).checks}
    assert "proves nothing" in details["exact weights"]
