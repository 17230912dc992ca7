"""Shapes of onnxruntime's own operators are those that onnxruntime computes."""

from __future__ import annotations

from typing import Any

import onnx
import onnx_ir as ir
import pytest
from properties.builder import feeds
from properties.fused import CONTRIB, FUSED

from prunec.frontends.contrib import SHAPERS, infer, set_apart
from prunec.frontends.onnx import load
from prunec.frontends.shapes import infer_facts

ort = pytest.importorskip("onnxruntime")


def computed(model: onnx.ModelProto) -> dict[str, Any]:
    """Every value of the graph, as onnxruntime computes it."""
    whole = onnx.ModelProto()
    whole.CopyFrom(model)
    del whole.graph.output[:]
    names = [name for node in whole.graph.node for name in node.output if name]
    whole.graph.output.extend(onnx.ValueInfoProto(name=name) for name in names)
    options = ort.SessionOptions()
    options.log_severity_level = 4
    session = ort.InferenceSession(whole.SerializeToString(), options)
    return dict(zip(names, session.run(names, feeds(model, 0)), strict=True))


@pytest.mark.parametrize("name", FUSED)
def test_shapes_and_types_are_those_of_onnxruntime(name: str) -> None:
    model = FUSED[name]()
    facts = infer_facts(load(model))
    for value, array in computed(model).items():
        assert facts.shapes[value] == array.shape
        assert facts.dtypes[value] == array.dtype


def node(op: str, **attributes: Any) -> ir.Node:
    domain, _, op_type = op.rpartition("::")
    return ir.Node(domain, op_type, [], ir.convenience.convert_attributes(attributes))


FLOAT = ir.DataType.FLOAT
GROUPED = {"num_heads": 4, "kv_num_heads": 2}


# Operators and forms without a kernel for CPUs; the sizes are those of their documentation.
@pytest.mark.parametrize(
    ("op", "shapes", "expected", "attributes"),
    [
        ("BiasAdd", [(2, 3, 6), (6,), (2, 3, 6)], [(2, 3, 6)], {}),
        ("BiasSplitGelu", [(2, 3, 6), (6,)], [(2, 3, 3)], {}),
        ("FusedMatMulActivation", [(4, 3), (4, 5)], [(3, 5)], {"transA": 1}),
        ("GatedRelativePositionBias", [(2, 3, 8), (8,), (1, 4, 3, 3)], [(2, 4, 3, 3)], {}),
        ("GroupNorm", [(2, 8, 8, 4), (4,), (4,)], [(2, 8, 8, 4)], {}),
        ("SkipGroupNorm", [(2, 8, 8, 4)], [(2, 8, 8, 4)] * 2, {}),
        ("NhwcConv", [(2, 8, 8, 4), (6, 4, 3, 3)], [(2, 3, 3, 6)], {"strides": [2, 2]}),
        ("NhwcFusedConv", [(2, 8, 8, 4), (6, 4, 3, 3)], [(2, 8, 8, 6)], {"auto_pad": "SAME_UPPER"}),
        ("MultiHeadAttention", [(2, 3, 4, 3, 5)], [(2, 3, 20), (2, 4, 3, 5)], {"num_heads": 4}),
        (
            "MultiHeadAttention",
            [(2, 3, 20), (2, 7, 4, 2, 5)],
            [(2, 3, 20), (2, 4, 7, 5)],
            {"num_heads": 4},
        ),
        ("GroupQueryAttention", [(2, 3, 64), (), ()], [(2, 3, 32), (2, 2, 3, 8)], GROUPED),
        ("Attention", [(2, 3, 7), (7, 24)], [(2, 3, 8), (2, 2, 4, 3, 2)], {"num_heads": 4}),
    ],
)
def test_shapes_of_what_no_cpu_runs(
    op: str, shapes: list, expected: list, attributes: dict
) -> None:
    known = infer(node(f"{CONTRIB}::{op}", **attributes), shapes, [FLOAT] * len(shapes), SHAPERS)
    assert [k[0] for k in known if k is not None][: len(expected)] == expected
    assert known[0] is not None and known[0][1] is FLOAT


def test_a_buffer_that_the_caller_shares_has_its_size() -> None:
    shapes = [(2, 1, 7), (7, 24), (24,), (), (2, 2, 4, 9, 2)]
    options = {"num_heads": 4, "past_present_share_buffer": 1}
    _, present = infer(node(f"{CONTRIB}::Attention", **options), shapes, [FLOAT] * 5, SHAPERS)
    assert present is not None and present[0] == (2, 2, 4, 9, 2)


@pytest.mark.parametrize("shapes", [[], [(3,)], [(2, 3, 7), (7,)]])
def test_a_form_that_fits_no_formula_is_not_known(shapes: list) -> None:
    assert infer(node(f"{CONTRIB}::Attention"), shapes, [FLOAT] * len(shapes), SHAPERS) == ()


def test_other_operators_are_not_known() -> None:
    assert infer(node("custom::Attention"), [(2, 3)], [FLOAT], SHAPERS) == ()


def test_operators_of_onnxruntime_are_set_apart_for_the_checker() -> None:
    model = FUSED["root mean square of onnxruntime"]()
    set_apart(model)
    domains = {n.op_type: n.domain for n in model.graph.node}
    assert (domains["SimplifiedLayerNormalization"], domains["MatMul"]) == (CONTRIB, "")
    assert {o.domain for o in model.opset_import} == {"", CONTRIB}
