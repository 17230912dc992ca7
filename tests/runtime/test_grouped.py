"""What the runtime knows of grouped plans besides carrying them out."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import onnx_ir as ir
import pytest
from onnx import TensorProto, helper, numpy_helper

import prunec
from prunec.compiler.errors import PlanError, UsageError, VerificationError
from prunec.compiler.partition import REMOVED
from prunec.runtime.check_plan import check_plan
from prunec.runtime.compile import Settings, compile_model, plan_for
from prunec.runtime.grouped import moved_axes, require_masked, slicing
from prunec.runtime.recovery.part import part
from prunec.runtime.session import make_session
from prunec.runtime.subject import Subject, open_model

pytest.importorskip("onnxruntime")
RNG = np.random.default_rng(3)


def in_blocks() -> onnx.ModelProto:
    """Conv, Relu, Conv, Relu, Conv; the second is block-diagonal up to an order of channels."""
    node = helper.make_node
    second = RNG.standard_normal((8, 12, 3, 3)).astype(np.float32)
    second[(RNG.permutation(8) % 4)[:, None] != (RNG.permutation(12) % 4)[None, :]] = 0
    weights = {
        "w1": RNG.standard_normal((12, 3, 3, 3)).astype(np.float32),
        "w2": second,
        "w3": RNG.standard_normal((5, 8, 1, 1)).astype(np.float32),
    }
    graph = helper.make_graph(
        [
            node("Conv", ["x", "w1"], ["c1"], pads=[1] * 4, name="one"),
            node("Relu", ["c1"], ["r1"], name="relu1"),
            node("Conv", ["r1", "w2"], ["c2"], pads=[1] * 4, name="two"),
            node("Relu", ["c2"], ["r2"], name="relu2"),
            node("Conv", ["r2", "w3"], ["y"], name="three"),
        ],
        "net",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", 3, 6, 6])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["n", 5, 6, 6])],
        [numpy_helper.from_array(a, name) for name, a in weights.items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def detected() -> tuple[Subject, prunec.Plan]:
    subject = open_model(in_blocks())
    options = prunec.Options(grouping=prunec.Grouping(detect_groups=True))
    return subject, plan_for(subject, "", options, Settings())


def values(model: ir.Model, names: list[str], x: np.ndarray) -> list[np.ndarray]:
    return make_session(part(model, {"x": x}, names), optimise=False).run({"x": x}, names)


def test_moved_axes_say_where_channels_went() -> None:
    subject, plan = detected()
    made = compile_model(subject, plan, Settings(verify=False)).model
    moved = moved_axes(subject, plan)
    assert {("r1", 1), ("r2", 1)} <= moved.keys()
    x = RNG.standard_normal((2, 3, 6, 6)).astype(np.float32)
    names = ["r1", "r2"]
    for name, dense, own in zip(
        names, values(subject.model, names, x), values(made, names, x), strict=True
    ):
        np.testing.assert_allclose(dense[:, moved[name, 1]], own, rtol=1e-5, atol=1e-5)


def test_the_slicing_of_a_grouped_plan_costs_what_is_sliced() -> None:
    subject, plan = detected()
    dense = subject.graph.costs["flops"](subject.graph.dense())
    assert plan.costs["flops"][1] < dense
    alone = slicing(subject, plan)
    assert alone.costs["flops"] == (dense, dense)
    assert not alone.groups


def test_a_recovery_may_write_nothing_off_the_blocks() -> None:
    subject, plan = detected()
    require_masked(plan, subject.model)
    model = subject.model.clone()
    value = model.graph.initializers["w2"]
    assert value.const_value is not None
    value.const_value = ir.tensor(np.ones_like(value.const_value.numpy()), name="w2")
    with pytest.raises(VerificationError, match="off the groups of w2"):
        require_masked(plan, model)


def test_blocks_must_hold_what_the_plan_keeps() -> None:
    subject, plan = detected()
    own = plan.groups["w2"]
    first = [own.inputs.index(g) for g in range(own.groups)]
    fewer = tuple(REMOVED if k in first else g for k, g in enumerate(own.inputs))
    broken = replace(plan, groups={"w2": replace(own, inputs=fewer)})
    with pytest.raises(PlanError, match=r"\$\.groups\['w2'\]"):
        check_plan(subject, broken)


def test_a_grouped_model_learns_from_the_dense_one(tmp_path: Path) -> None:
    pytest.importorskip("torch")
    pytest.importorskip("accelerate")
    path, small = tmp_path / "net.onnx", tmp_path / "small.onnx"
    path.write_bytes(in_blocks().SerializeToString())
    data = tmp_path / "x.npy"
    np.save(data, RNG.standard_normal((64, 3, 6, 6)).astype(np.float32))
    result = prunec.prune(path, grouping=prunec.Grouping(conv=2, fold="joint"), output=small)
    recipe = prunec.Recipe(features=("^r2$",), validation=0.25)
    training = prunec.TrainSettings(epochs=2, batch=16, device="cpu", threads=1)
    with pytest.raises(UsageError, match="give --plan"):
        prunec.finetune(small, str(data), path, recipe, training)
    tuned = prunec.finetune(small, str(data), path, recipe, training, plan=result.plan)
    groups = [n.attributes["group"].as_int() for n in tuned.model.graph if n.name == "two"]
    assert groups == [2]
    assert prunec.verify(path, tuned.model, result.plan, retrained=True).passed
