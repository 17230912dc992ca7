"""Copies of stored tensors: what shares a weight reads the weight."""

from __future__ import annotations

import onnx
from onnx import helper
from quantised_nets import residual_net

from prunec.frontends.onnx import load
from prunec.passes.quantize.copies import without_copies


def test_readers_of_a_copy_read_the_weight_itself() -> None:
    proto = residual_net()
    # As exporters write a layer that is called twice.
    proto.graph.node.insert(0, helper.make_node("Identity", ["block.w"], ["twin.w"], "copy"))
    twin = helper.make_node("Conv", ["c", "twin.w"], ["t"], "twin", pads=[1] * 4)
    proto.graph.node.insert(4, twin)
    proto.graph.node[5].input[0] = "t"
    onnx.checker.check_model(proto)
    model = load(proto)
    assert without_copies(model) == ("copy",)
    readers = {user.name for user, _ in model.graph.initializers["block.w"].uses()}
    assert readers == {"block", "twin"}


def test_a_copy_that_is_an_output_stays() -> None:
    proto = residual_net()
    proto.graph.node.append(helper.make_node("Identity", ["fc.w"], ["shown"], "copy"))
    proto.graph.output.append(helper.make_tensor_value_info("shown", 1, [5, 8]))
    model = load(proto)
    assert without_copies(model) == ()
    assert [value.name for value in model.graph.outputs] == ["y", "shown"]
