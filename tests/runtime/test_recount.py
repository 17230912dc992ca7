from __future__ import annotations

import numpy as np
import onnx
import pytest
from nets import chain
from properties.builder import Builder
from properties.oracle import analyse
from test_recount_fused import LAYERS as FUSED
from test_recount_quantised import LAYERS as QUANTISED

from prunec.runtime.recount import COUNTERS, recount


def counted(model: onnx.ModelProto) -> dict[str, int]:
    subject = analyse(model)
    return recount(subject.model, subject.facts, subject.graph.weights, subject.graph.held)


def test_a_network_is_counted_by_hand() -> None:
    params = 8 * 3 * 9 + 2 * 8 + 6 * 8 + 5 * 6 + 5
    assert counted(chain()) == {
        "flops": 16 * 8 * 3 * 9 + 16 * 6 * 8 + 5 * 6,
        "params": params,
        "bytes": 4 * params,
        "activations": 3 * 16 * 8 + 2 * 16 * 6 + 6 + 5,
        "memory": 4 * (16 * 8 + 16 * 6),
    }


GATES = {"GRU": 3, "LSTM": 4, "RNN": 1}


def layer(op: str) -> tuple[onnx.ModelProto, int]:
    """One layer of each kind, and its multiply-accumulates."""
    b = Builder(0, 17, batch=2)
    if op == "Conv":
        b.output(b.conv(b.input(2, 4, 4, 4), 6, k=3, group=2))
        return b.model(), 2 * 6 * 16 * 2 * 9
    if op == "ConvTranspose":
        x = b.input(2, 4, 4, 4)
        y = b.add(op, [x, b.integers(4, 3, 2, 2)], (2, 6, 8, 8), group=2, strides=[2, 2])
        b.output(y)
        return b.model(), 2 * 4 * 16 * 3 * 4
    if op == "DeformConv":
        b.opset = 19
        inputs = [b.input(2, 4, 4, 4), b.integers(6, 2, 1, 1), b.input(2, 2, 4, 4)]
        b.output(b.add(op, inputs, (2, 6, 4, 4), group=2))
        return b.model(), 2 * 6 * 16 * 2
    if op == "Gemm":
        b.output(b.add(op, [b.input(5, 2), b.integers(5, 3)], (2, 3), transA=1))
        return b.model(), 2 * 5 * 3
    if op == "MatMul":
        b.output(b.add(op, [b.input(2, 4, 5), b.integers(5, 3)], (2, 4, 3)))
        return b.model(), 2 * 4 * 5 * 3
    if op in GATES:
        rows = 3 * GATES[op]
        weights = [b.integers(2, rows, 5), b.integers(2, rows, 3)]
        settings = {"hidden_size": 3, "direction": "bidirectional"}
        b.output(b.add(op, [b.input(4, 2, 5), *weights], (4, 2, 2, 3), **settings))
        return b.model(), 4 * 2 * 2 * rows * (5 + 3)
    b.output(b.add(op, [b.input(2, 4, 5), b.integers(3, 5)], (2, 3), equation="nab, cb -> nc"))
    return b.model(), 2 * 4 * 5 * 3


@pytest.mark.parametrize("op", sorted(COUNTERS.keys() - QUANTISED.keys() - {f[0] for f in FUSED}))
def test_every_counter_agrees_with_its_formula_and_with_the_polynomial(op: str) -> None:
    model, macs = layer(op)
    subject = analyse(model)
    assert counted(model)["flops"] == macs
    assert subject.graph.costs["flops"](subject.graph.dense()) == macs


@pytest.mark.parametrize(
    ("equation", "macs"), [("...ij,jk->...ik", 2 * 3 * 4 * 5 * 6), ("...bij,jk", 2 * 3 * 4 * 5 * 6)]
)
def test_axes_of_an_ellipsis_count(equation: str, macs: int) -> None:
    b = Builder(0, 17, batch=2)
    inputs = [b.input(2, 3, 4, 5), b.integers(5, 6)]
    b.output(b.add("Einsum", inputs, (2, 3, 4, 6), equation=equation))
    subject = analyse(b.model())
    assert (
        counted(b.model())["flops"] == macs == subject.graph.costs["flops"](subject.graph.dense())
    )


def test_a_product_of_activations_costs_too() -> None:
    b = Builder(0, 17, batch=1)
    b.output(b.add("MatMul", [b.input(1, 4, 5), b.input(1, 5, 6)], (1, 4, 6)))
    assert counted(b.model()) == {
        "flops": 120, "params": 0, "bytes": 0, "activations": 24, "memory": 96,
    }  # fmt: skip


def test_integers_scalars_and_shapes_are_no_parameters() -> None:
    b = Builder(0, 17, batch=1)
    x = b.reshape(b.input(1, 4), (1, 2, 2))
    b.output(b.add("Mul", [x, b.store(np.array(2, np.float32))]))
    assert counted(b.model())["params"] == 0


def test_a_weight_read_twice_is_counted_once() -> None:
    b = Builder(0, 17, batch=1)
    w = b.integers(4, 4, 1, 1)
    b.output(b.conv_with(b.conv_with(b.input(1, 4, 2, 2), w, bias=False), w, bias=False))
    assert counted(b.model()) == {
        "flops": 2 * 64, "params": 16, "bytes": 64, "activations": 2 * 16, "memory": 2 * 64,
    }  # fmt: skip
