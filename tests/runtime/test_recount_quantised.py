from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np
import onnx
import pytest
from onnx import TensorProto
from properties.builder import Builder
from properties.integers import quantised, scales, small
from properties.oracle import analyse

from prunec.runtime.recount import COUNTERS, recount

FLOAT, UINT8 = TensorProto.FLOAT, TensorProto.UINT8
Layer = Callable[[Builder, str], str]


def scale_and_zero(b: Builder, kind: str = "u1") -> list[str]:
    return [b.store(np.float32(1)), b.store(np.array(1, kind))]


def convolved(op: str) -> Layer:
    def layer(b: Builder, x: str) -> str:
        q, scale, zero = quantised(b, x, np.uint8)
        w, out = small(b, 6, 2, 3, 3), (2, 6, 4, 4)
        if op == "ConvInteger":
            return b.add(op, [q, w, zero], out, group=2, pads=[1] * 4)
        inputs = [q, scale, zero, w, *scale_and_zero(b, "i1"), *scale_and_zero(b)]
        if op.startswith("com"):
            return b.contrib("QLinearConv", inputs, out, UINT8, group=2, pads=[1] * 4)
        return b.add(op, inputs, out, group=2, pads=[1] * 4)

    return layer


def multiplied(op: str) -> Layer:
    def layer(b: Builder, x: str) -> str:
        if op == "DynamicQuantizeMatMul":
            return b.contrib(op, [x, small(b, 4, 5), scales(b)], (2, 4, 4, 5), FLOAT)
        if op == "MatMulNBits":
            packed = b.store(b.rng.integers(0, 256, (5, 1, 8), np.uint8))
            sizes = {"K": 4, "N": 5, "bits": 4, "block_size": 16}
            return b.contrib(op, [x, packed, scales(b, 5)], (2, 4, 4, 5), FLOAT, **sizes)
        q, scale, zero = quantised(b, x, np.uint8)
        w, out = small(b, 4, 5), (2, 4, 4, 5)
        if op == "MatMulInteger":
            return b.add(op, [q, w, zero], out)
        if op == "MatMulIntegerToFloat":
            return b.contrib(op, [q, w, scale, scales(b), zero], out, FLOAT)
        inputs = [q, scale, zero, w, *scale_and_zero(b, "i1"), *scale_and_zero(b)]
        if op == "QGemm":
            inputs[0] = b.reshape(q, (32, 4), (32, 4))
            return b.contrib(op, inputs, (32, 5), UINT8)
        return b.add(op, inputs, out)

    return layer


CONVOLVED, MULTIPLIED = 2 * 6 * 16 * 2 * 9, 2 * 16 * 4 * 5
LAYERS: Mapping[str, tuple[Layer, int]] = {
    **{
        op: (convolved(op), CONVOLVED)
        for op in ("ConvInteger", "QLinearConv", "com.microsoft::QLinearConv")
    },
    **{op: (multiplied(op), MULTIPLIED) for op in ("MatMulInteger", "QLinearMatMul")},
    **{
        f"com.microsoft::{op}": (multiplied(op), MULTIPLIED)
        for op in ("DynamicQuantizeMatMul", "MatMulIntegerToFloat", "MatMulNBits", "QGemm")
    },
}


def model(op: str) -> onnx.ModelProto:
    b = Builder(0, 17, batch=2)
    y = LAYERS[op][0](b, b.input(2, 4, 4, 4))
    kind = {"ConvInteger": TensorProto.INT32, "MatMulInteger": TensorProto.INT32}.get(op, FLOAT)
    b.output(y, b.told.get(y, UINT8 if op.startswith("QLinear") else kind))
    return b.model()


@pytest.mark.parametrize("op", LAYERS)
def test_integers_are_counted_like_floats(op: str) -> None:
    assert op in COUNTERS
    subject = analyse(model(op))
    counted = recount(subject.model, subject.facts, subject.graph.weights, subject.graph.held)
    assert counted["flops"] == LAYERS[op][1]
    assert subject.graph.costs["flops"](subject.graph.dense()) == LAYERS[op][1]
