"""Shapes and types of quantised operators are those that onnxruntime computes."""

from __future__ import annotations

from typing import Any

import onnx
import onnx_ir as ir
import pytest
from properties.builder import feeds
from properties.contrib import CONTRIB
from properties.graphs import one_block

from prunec.frontends.contrib import SHAPERS, infer
from prunec.frontends.onnx import load
from prunec.frontends.shapes import infer_facts
from prunec.runtime.session import make_session


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("name", CONTRIB)
def test_shapes_and_types_are_inferred_without_being_told(name: str, seed: int) -> None:
    model = one_block(name, seed)
    del model.graph.value_info[:]
    facts = infer_facts(load(model))
    whole = onnx.ModelProto()
    whole.CopyFrom(model)
    names = [name for node in model.graph.node for name in node.output]
    del whole.graph.output[:]
    whole.graph.output.extend(onnx.ValueInfoProto(name=name) for name in names)
    computed = make_session(whole.SerializeToString(), optimise=False).run(feeds(model, 0))
    for value, array in zip(names, computed, strict=True):
        assert facts.shapes[value] == array.shape
        if array.dtype.itemsize > 1 or facts.dtypes[value].kind != "V":
            assert facts.dtypes[value] == array.dtype


FLOAT, UINT8 = ir.DataType.FLOAT, ir.DataType.UINT8


def node(op: str, **attributes: Any) -> ir.Node:
    return ir.Node("com.microsoft", op, [], ir.convenience.convert_attributes(attributes))


@pytest.mark.parametrize("op", ["DequantizeLinear", "QuantizeLinear"])
def test_quantising_keeps_the_shape(op: str) -> None:
    types = [UINT8, FLOAT, UINT8]
    ((shape, kind),) = {k for k in infer(node(op), [(2, 3), (), ()], types, SHAPERS) if k}
    assert (shape, kind) == ((2, 3), FLOAT if op == "DequantizeLinear" else UINT8)


def test_packed_products_have_their_columns() -> None:
    (known,) = infer(node("MatMulBnb4", N=7, K=64), [(2, 3, 64), (99,)], [FLOAT, UINT8], SHAPERS)
    assert known == ((2, 3, 7), FLOAT)


def test_attention_gives_a_third_of_its_projection() -> None:
    shapes = [(2, 4, 6), (6, 36), (36,), ()]
    (known,) = infer(node("QAttention", num_heads=3), shapes, [UINT8, UINT8, FLOAT, FLOAT], SHAPERS)
    assert known == ((2, 4, 12), FLOAT)
