"""Whole prunes of forms that exporters of several ages write, proven by the oracle."""

from __future__ import annotations

import numpy as np
import pytest
from onnx import TensorProto
from row_nets import Net, prune

pytest.importorskip("onnxruntime")


@pytest.mark.parametrize("opset", [7, 8, 9])
def test_opsets_before_where_are_gated_by_a_product(opset: int) -> None:
    net = Net(opset, [1, 3, 4, 4])
    y = net.conv(net.add("Relu", [net.conv("x", "a", 8, 3)], ["r"]), "b", 2, 8)
    kept, result = prune(net.model(y, [1, 2, 4, 4]))
    assert kept["a.w:0"] < 8
    result.require()


def test_an_unread_mask_of_dropout_freezes_nothing() -> None:
    net = Net(9, [1, 3, 4, 4])
    net.add("Dropout", [net.conv("x", "a", 8, 3)], ["d", "mask"], ratio=0.5)
    kept, result = prune(net.model(net.conv("d", "b", 2, 8), [1, 2, 4, 4]))
    assert kept["a.w:0"] < 8
    result.require()


def test_group_normalization_needs_no_stored_shape() -> None:
    net = Net(21, [1, 3, 4, 4])
    scale, bias = net.weight("scale", 8), net.weight("bias", 8)
    normed = [net.conv("x", "a", 8, 3), scale, bias]
    net.add("GroupNormalization", normed, ["n"], num_groups=4)
    kept, result = prune(net.model(net.conv("n", "b", 2, 8), [1, 2, 4, 4]))
    assert kept["a.w:0"] < 4
    result.require()


def test_channels_merged_with_a_symbolic_batch() -> None:
    net = Net(13, ["n", 3, 8, 8])
    net.add("Reshape", [net.conv("x", "a", 8, 3), net.store("up", np.array([-1, 1, 8, 8]))], ["u"])
    net.add("AveragePool", ["u"], ["p"], kernel_shape=[2, 2], strides=[2, 2])
    net.add("Reshape", ["p", net.store("down", np.array([-1, 8, 4, 4]))], ["d"])
    kept, result = prune(net.model(net.conv("d", "b", 2, 8), ["n", 2, 4, 4]))
    assert kept["a.w:0"] < 8
    result.require()


def test_counts_of_channels_keep_their_terms() -> None:
    """A gated integer would not be zero: what is summed as integers stays."""
    net = Net(13, [1, 3, 4, 4])
    a = net.add("Relu", [net.conv("x", "a", 8, 3)], ["r"])
    net.add("Greater", [a, net.store("low", np.array(-1, np.float32))], ["g"])
    net.add("Cast", ["g"], ["i"], to=TensorProto.INT32)
    net.add("ReduceSum", ["i", net.store("axes", np.array([1]))], ["s"])
    net.add("Cast", ["s"], ["f"], to=TensorProto.FLOAT)
    c = net.conv(net.conv(a, "b", 8, 8), "c", 2, 8)
    kept, result = prune(net.model(net.add("Mul", [c, "f"], ["y"]), [1, 2, 4, 4]), "flops=0.8")
    assert set(kept) == {"b.w:0"}
    result.require()


def test_a_product_of_weights_is_stored_as_such() -> None:
    net = Net(13, [2, 6])
    first, second = net.weight("e1", 6, 8), net.weight("e2", 8, 3)
    net.add("Einsum", [first, second], ["w"], equation="ij,jk->ik")
    net.add("MatMul", ["x", "w"], ["u"])
    net.add("MatMul", [net.add("MatMul", ["x", first], ["h"]), second], ["v"])
    net.add("MatMul", [net.add("MatMul", ["x", net.weight("m1", 6, 8)], ["k"]),
                       net.weight("m2", 8, 3)], ["z"])  # fmt: skip
    net.add("Sum", ["u", "v", "z"], ["y"])
    kept, result = prune(net.model("y", [2, 3]), "flops=0.9")
    assert set(kept) == {"e1:1", "m1:1"}
    result.require()


def test_resizing_in_channels_last_layout_lets_channels_through() -> None:
    net = Net(13, [1, 3, 4, 4])
    net.add("Transpose", [net.conv("x", "a", 8, 3)], ["t"], perm=[0, 2, 3, 1])
    net.add(
        "Resize",
        ["t", "", net.store("scales", np.array([1, 2, 2, 1], np.float32))],
        ["z"],
        mode="nearest",
    )
    net.add("Transpose", ["z"], ["back"], perm=[0, 3, 1, 2])
    kept, result = prune(net.model(net.conv("back", "b", 2, 8), [1, 2, 8, 8]))
    assert kept["a.w:0"] < 8
    result.require()


def test_a_model_that_draws_random_numbers_is_named_as_such() -> None:
    net = Net(13, [1, 3, 4, 4])
    a = net.conv("x", "a", 8, 3)
    noisy = net.add("Add", [a, net.add("RandomNormalLike", [a], ["noise"])], ["s"])
    _, result = prune(net.model(net.conv(noisy, "b", 2, 8), [1, 2, 4, 4]))
    details = {check.name: check.detail for check in result.checks if not check.passed}
    assert "draws random numbers" in details["dense runs"]


def test_grid_sampling_lets_channels_through() -> None:
    net = Net(16, [1, 3, 4, 4])
    grid = net.store("grid", np.zeros((1, 5, 5, 2), np.float32))
    net.add("GridSample", [net.conv("x", "a", 8, 3), grid], ["g"])
    kept, result = prune(net.model(net.conv("g", "b", 2, 8), [1, 2, 5, 5]))
    assert kept["a.w:0"] < 8
    result.require()


def test_standardised_weights_are_stored_as_such() -> None:
    """NFNets: BatchNormalization in training mode over a reshaped weight."""
    net = Net(15, [1, 3, 4, 4])
    weight = net.weight("b.w", 6, 8, 1, 1)
    net.add("Reshape", [weight, net.store("flat", np.array([1, 6, -1]))], ["flat.w"])
    ones, zeros = np.ones(6, np.float32), np.zeros(6, np.float32)
    stored = [net.store(f"s{k}", a.copy()) for k, a in enumerate((ones, zeros, zeros, ones))]
    net.add("BatchNormalization", ["flat.w", *stored], ["n", "m", "v"], training_mode=1)
    net.add("Reshape", ["n", net.store("back", np.array([6, 8, 1, 1]))], ["w"])
    net.add("Conv", [net.conv("x", "a", 8, 3), "w"], ["c"])
    kept, result = prune(net.model(net.conv("c", "d", 2, 6), [1, 2, 4, 4]), "flops=0.8")
    assert set(kept) == {"a.w:0", "w:0"}
    result.require()


@pytest.mark.parametrize("step", [1, 4])
def test_coordinates_that_are_sliced_one_by_one_stay(step: int) -> None:
    """Box decoders read channel 0, 1, 2, 3 of every four by slices."""
    net = Net(13, [1, 3, 4, 4])
    boxes = net.conv(net.conv("x", "a", 8, 3), "boxes", 4, 8)
    parts = []
    for k in range(4):
        ends = {"from": k, "to": k + 1 if step == 1 else 2**40, "axis": 1, "step": step}
        bounds = [net.store(f"{name}{k}", np.array([end])) for name, end in ends.items()]
        parts.append(net.add("Slice", [boxes, *bounds], [f"part{k}"]))
    y = net.add("Sub", [net.add("Exp", parts[:1], ["e"]), parts[1]], ["y"])
    y = net.add("Mul", [y, net.add("Add", parts[2:], ["s"])], ["z"])
    kept, result = prune(net.model(y, [1, 1, 4, 4]))
    assert set(kept) == {"a.w:0"}
    result.require()
