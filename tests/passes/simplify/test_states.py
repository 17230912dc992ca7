from __future__ import annotations

import numpy as np
import onnx
import pytest
from properties.builder import Builder
from properties.oracle import analyse

from prunec.frontends.onnx import load
from prunec.passes.simplify.states import is_zero, zero_states
from prunec.passes.simplify.unshare import unshare

T, N, H = 3, 2, 4


def stretched(b: Builder, value: float) -> str:
    stored = b.store(np.full((1, 1, H), value, np.float32))
    return b.add("Expand", [stored, b.ints((1, N, H))], (1, N, H))


def filled(b: Builder, value: float) -> str:
    content = onnx.numpy_helper.from_array(np.array([value], np.float32))
    return b.add("ConstantOfShape", [b.ints((1, N, H))], (1, N, H), value=content)


def stored(b: Builder, value: float) -> str:
    return b.store(np.full((1, N, H), value, np.float32))


def made(b: Builder, value: float) -> str:
    """Of the input, whatever it is."""
    return b.add("Mul", [b.input(1, N, H), b.store(np.array(value, np.float32))])


def layers(kind: object, value: float) -> onnx.ModelProto:
    """Two GRU layers that start from one state."""
    b = Builder(0, 17, batch=N)
    x = b.input(T, N, H)
    state = kind(b, value)
    for _ in range(2):
        inputs = [x, b.integers(1, 3 * H, H), b.integers(1, 3 * H, H), "", "", state]
        y, _last = b.many("GRU", inputs, [(T, 1, N, H), (1, N, H)], hidden_size=H)
        x = b.axes("Squeeze", y, [1], (T, N, H))
    b.output(b.add("MatMul", [x, b.integers(H, 5)], (T, N, 5)))
    return b.model()


def states(model: onnx.ModelProto) -> int:
    return len(list(zero_states(load(model).graph)))


@pytest.mark.parametrize("kind", [stretched, filled, stored])
def test_a_zero_state_goes_and_layers_come_apart(kind: object) -> None:
    assert states(layers(kind, 0.0)) == 2
    model = unshare(load(layers(kind, 0.0)))
    assert {node.op_type for node in model.graph} == {"GRU", "Squeeze", "MatMul"}
    assert all(node.inputs[5] is None for node in model.graph if node.op_type == "GRU")
    assert len(analyse(layers(kind, 0.0)).graph.edges) == 2


@pytest.mark.parametrize("kind", [stretched, stored])
def test_a_state_that_is_not_zero_stays(kind: object) -> None:
    assert states(layers(kind, 1.0)) == 0
    model = unshare(load(layers(kind, 1.0)))
    assert all(node.inputs[5] is not None for node in model.graph if node.op_type == "GRU")
    assert len(analyse(layers(kind, 1.0)).graph.edges) == 1


def test_a_computed_state_stays() -> None:
    assert states(layers(made, 0.0)) == 0


def cells(fill: object) -> onnx.ModelProto:
    """Two unrolled layers of one step that start from one state."""
    b = Builder(0, 17, batch=N)
    x = b.input(N, H)
    state = fill(b)
    for _ in range(2):
        inputs = [x, b.integers(H, H)]
        x = b.add("Add", [b.add("MatMul", inputs, (N, H)), state])
    b.output(b.add("MatMul", [x, b.integers(H, 5)], (N, 5)))
    return b.model()


@pytest.mark.parametrize(
    "fill",
    [
        lambda b: b.store(np.zeros((N, H), np.float32)),
        lambda b: b.add("ConstantOfShape", [b.ints((N, H))], (N, H)),
        lambda b: b.add("Expand", [b.store(np.array(0, np.float32)), b.ints((N, H))], (N, H)),
    ],
    ids=["stored", "filled", "stretched"],
)
def test_unrolled_layers_get_a_state_each(fill: object) -> None:
    assert len(analyse(cells(fill)).graph.edges) == 2


def test_a_matrix_of_numbers_stays_shared() -> None:
    assert len(analyse(cells(lambda b: b.integers(N, H))).graph.edges) == 1


def test_weights_that_begin_with_zeros_are_not_zero() -> None:
    b = Builder(0, 17)
    array = np.zeros((2, 100), np.float32)
    array[1, 99] = 1
    name = b.store(array)
    b.output(b.add("Add", [b.input(2, 100), name]))
    assert not is_zero(load(b.model()).graph.initializers[name])
