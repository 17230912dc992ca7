"""Pads, dilations and sizes of convolutions that lost positions of their kernels."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from properties.builder import Builder
from properties.oracle import analyse, check

from prunec.compiler.freedom import Freedom
from prunec.frontends.onnx import to_proto
from prunec.passes.apply import prune

pytest.importorskip("onnxruntime")


def conv(op: str = "Conv", space: int = 8, **attributes: object) -> onnx.ModelProto:
    b = Builder(0, 17, batch=1)
    x = b.add(op, [b.input(1, 3, 8, 8), b.integers(3, 3, 3, 3)], (1, 3, space, space), **attributes)
    b.output(x)
    return b.model()


def pruned(model: onnx.ModelProto, rows: list[int], columns: list[int]) -> dict[str, object]:
    """Attributes of the convolution that keeps these; the oracle must agree."""
    subject = analyse(model, Freedom(kernels=True))
    mask = np.ones(subject.graph.number_of_groups + 1, bool)
    for edge in subject.graph.edges:
        kept = rows if edge.name.endswith(":2") else columns
        mask[edge.first : edge.first + edge.size] = np.isin(np.arange(edge.size), kept)
    check(subject, mask)
    (node,) = to_proto(prune(subject.model, subject.facts, subject.graph, mask)).graph.node
    return {a.name: onnx.helper.get_attribute_value(a) for a in node.attribute}


def test_the_middle_row_alone_needs_no_pads_above_and_below() -> None:
    found = pruned(conv(pads=[1] * 4, kernel_shape=[3, 3]), [1], [0, 1, 2])
    assert found == {"kernel_shape": [1, 3], "pads": [0, 1, 0, 1], "dilations": [1, 1]}


def test_a_row_at_the_rim_takes_one_pad() -> None:
    assert pruned(conv(pads=[1] * 4), [0, 1, 2], [1, 2])["pads"] == [1, 0, 1, 1]


def test_the_rim_without_the_middle_is_a_dilated_kernel() -> None:
    found = pruned(conv(pads=[1] * 4), [0, 2], [0, 1, 2])
    assert found["dilations"] == [2, 1]
    assert found["kernel_shape"] == [2, 3]


def test_a_step_multiplies_the_dilation() -> None:
    found = pruned(conv(pads=[2] * 4, dilations=[2, 2]), [0, 2], [1])
    assert found["dilations"] == [4, 2]
    assert found["pads"] == [2, 0, 2, 0]


def test_pads_by_name_become_numbers() -> None:
    found = pruned(conv(auto_pad="SAME_UPPER"), [1], [1])
    assert "auto_pad" not in found
    assert found["pads"] == [0] * 4


def test_strides_stay() -> None:
    found = pruned(conv(space=4, pads=[1] * 4, strides=[2, 2]), [1], [1, 2])
    assert found["strides"] == [2, 2]


def test_a_transposed_convolution_shrinks_alike() -> None:
    attributes = {"pads": [1] * 4, "strides": [2, 2], "output_padding": [1, 1]}
    found = pruned(conv("ConvTranspose", 16, **attributes), [1], [0, 1])
    assert found["pads"] == [0, 1, 0, 0]
    assert found["output_padding"] == [1, 1]


def test_a_kernel_that_stays_is_not_touched() -> None:
    model = conv(auto_pad="SAME_UPPER")
    assert pruned(model, [0, 1, 2], [0, 1, 2]) == {"auto_pad": b"SAME_UPPER"}
