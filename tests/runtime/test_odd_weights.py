"""Weights in odd places are still weights: both sides of them can be pruned, proven."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from onnx import TensorProto, numpy_helper
from row_nets import Net, prune

pytest.importorskip("onnxruntime")

Make = Callable[[Net], str]


def behind_transpose(net: Net) -> str:
    return net.add("Transpose", [net.weight("k", 1, 1, 8, 6)], ["w"], perm=[3, 2, 0, 1])


def behind_cast(net: Net) -> str:
    return net.add("Cast", [net.store("k", np.ones((6, 8, 1, 1), np.float16))], ["w"], to=1)


def behind_identities(net: Net) -> str:
    return net.add("Identity", [net.add("Identity", [net.weight("k", 6, 8, 1, 1)], ["i"])], ["w"])


def behind_reshape(net: Net) -> str:
    return net.add(
        "Reshape", [net.weight("k", 6, 8), net.store("s", np.array([-1, 8, 1, 1]))], ["w"]
    )


def behind_unsqueeze(net: Net) -> str:
    return net.add("Unsqueeze", [net.weight("k", 6, 8), net.store("s", np.array([2, 3]))], ["w"])


def behind_squeeze(net: Net) -> str:
    return net.add(
        "Squeeze", [net.weight("k", 1, 6, 8, 1, 1), net.store("s", np.array([0]))], ["w"]
    )


def joined(net: Net) -> str:
    parts = [net.weight("k", 4, 8, 1, 1), net.weight("k2", 2, 8, 1, 1)]
    return net.add("Concat", parts, ["w"], axis=0)


def part_of_a_packed_one(net: Net) -> str:
    net.add("Split", [net.weight("k", 12, 8, 1, 1)], ["w", "rest"], axis=0)
    return "w"


def sliced(net: Net) -> str:
    bounds = [net.store(f"s{n}", np.array([n])) for n in (2, 8, 0)]
    return net.add("Slice", [net.weight("k", 10, 8, 1, 1), *bounds], ["w"])


def picked(net: Net) -> str:
    return net.add("Gather", [net.weight("k", 3, 6, 8, 1, 1), net.store("s", np.array(1))], ["w"])


def scaled(net: Net) -> str:
    return net.add("Mul", [net.weight("k", 6, 8, 1, 1), net.weight("s", 6, 1, 1, 1)], ["w"])


def constant(net: Net) -> str:
    array = np.random.default_rng(3).standard_normal((6, 8, 1, 1)).astype(np.float32)
    return net.add("Constant", [], ["w"], value=numpy_helper.from_array(array))


def constant_numbers(net: Net) -> str:
    numbers = np.random.default_rng(3).standard_normal(48).tolist()
    net.add("Constant", [], ["k"], value_floats=numbers)
    return net.add("Reshape", ["k", net.store("s", np.array([6, 8, 1, 1]))], ["w"])


def normalised(net: Net) -> str:
    net.add("ReduceL2", [net.weight("k", 6, 8, 1, 1)], ["n"], axes=[1, 2, 3])
    net.add("Div", ["k", "n"], ["u"])
    return net.add("Mul", ["u", net.weight("g", 6, 1, 1, 1)], ["w"])


def of_two_factors(net: Net) -> str:
    net.add("MatMul", [net.weight("k", 6, 3), net.weight("k2", 3, 8)], ["m"])
    return net.add("Reshape", ["m", net.store("s", np.array([6, 8, 1, 1]))], ["w"])


@pytest.mark.parametrize(
    "place",
    [
        behind_transpose,
        behind_cast,
        behind_identities,
        behind_reshape,
        behind_unsqueeze,
        behind_squeeze,
        joined,
        part_of_a_packed_one,
        sliced,
        picked,
        scaled,
        constant,
        constant_numbers,
        normalised,
        of_two_factors,
    ],
)
def test_both_sides_of_the_weight_are_pruned(place: Make) -> None:
    net = Net(17, [1, 3, 4, 4])
    a = net.add("Relu", [net.conv("x", "a", 8, 3)], ["r"])
    b = net.add("Conv", [a, place(net)], ["b"])
    y = net.conv(net.add("Relu", [b], ["rb"]), "c", 3, 6)
    kept, result = prune(net.model(y, [1, 3, 4, 4]), "flops=0.2")  # of one side alone: above 0.26
    result.require()
    (before, *after) = kept
    assert before == "a.w:0"
    assert kept[before] < 8
    assert sum(kept[name] for name in after) < 6


def test_a_decoder_that_shares_the_weight_of_its_encoder() -> None:
    net = Net(17, [1, 3, 4, 4])
    weight = net.weight("k", 8, 3, 3, 3)
    net.add("Conv", ["x", weight], ["h"], pads=[1] * 4)
    net.add("ConvTranspose", [net.add("Relu", ["h"], ["r"]), weight], ["y"], pads=[1] * 4)
    kept, result = prune(net.model("y", [1, 3, 4, 4]), "flops=0.5")
    assert kept == {"k:0": 4}
    result.require()


def test_a_weight_that_is_an_activation_too() -> None:
    net = Net(17, [4, 6])
    weight = net.weight("k", 6, 8)
    net.add("ReduceSum", [weight, net.store("axes", np.array([0]))], ["sum"])
    net.add("Add", [net.add("MatMul", ["x", weight], ["h"]), "sum"], ["s"])
    net.add("MatMul", [net.add("Relu", ["s"], ["r"]), net.weight("m", 8, 3)], ["y"])
    kept, result = prune(net.model("y", [4, 3]), "flops=0.5")
    assert kept == {"k:1": 4}
    result.require()


@pytest.mark.parametrize("version", [3, 8])
def test_weights_that_are_graph_inputs_with_a_default(version: int) -> None:
    net = Net(8, [1, 3, 4, 4])
    y = net.conv(net.add("Relu", [net.conv("x", "a", 8, 3)], ["r"]), "b", 2, 8)
    model = net.model(y, [1, 2, 4, 4])
    model.ir_version = version
    for tensor in net.tensors:
        entry = model.graph.input.add(name=tensor.name)
        entry.type.tensor_type.elem_type = TensorProto.FLOAT
        for dim in tensor.dims:
            entry.type.tensor_type.shape.dim.add(dim_value=dim)
    kept, result = prune(model, "flops=0.5")
    assert kept == {"a.w:0": 4}
    result.require()


@pytest.mark.parametrize("axis", [0, 1])
def test_a_stored_tensor_without_elements_stops_nothing(axis: int) -> None:
    """What a loop that collects its results starts from: ``torch.zeros(2, 0, 8)``."""
    net = Net(17, [2, 1, 6])
    net.add("MatMul", ["x", net.weight("k", 6, 8)], ["h"])
    nothing = np.zeros((2, 0, 8) if axis else (0, 1, 8), np.float32)
    net.add("Concat", [net.store("nothing", nothing), "h"], ["j"], axis=axis)
    net.add("MatMul", [net.add("Relu", ["j"], ["r"]), net.weight("m", 8, 3)], ["y"])
    kept, result = prune(net.model("y", [2, 1, 3]), "flops=0.5")
    assert list(kept.values()) == [4]
    result.require()
