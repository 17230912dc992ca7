from __future__ import annotations

import onnx
import pytest
from nets import chain, conv, residual
from properties.builder import Builder
from properties.oracle import analyse

from prunec.compiler.errors import UsageError
from prunec.compiler.explain import explain


def lines(model: onnx.ModelProto, value: str, axis: int) -> list[str]:
    return explain(analyse(model).graph, value, axis)


def softmax_over_channels() -> onnx.ModelProto:
    b = Builder(0, 17, batch=1)
    x = b.relu(conv(b, b.input(1, 3, 2, 2), "conv.weight", 4))
    y = b.add("Softmax", [x], axis=1)
    b.output(conv(b, y, "head.weight", 3))
    return b.model()


def test_a_removable_axis_names_its_hyperedge_and_members() -> None:
    text = lines(residual(), "depth.weight", 0)
    assert text[0] == "depth.weight:0 has 8 channels"
    assert text[1].startswith("8 of them belong to hyperedge stem.weight:0: 8 channel groups")
    assert "    head.weight:1 (weight)" in text


def test_a_frozen_axis_leads_to_its_barrier() -> None:
    text = lines(softmax_over_channels(), "conv.weight", 0)
    assert text[1] == "4 of them can't be removed:"
    assert text[-1].endswith("inexact: Softmax mixes it [Softmax_2]")


def test_the_way_runs_through_every_tie() -> None:
    text = lines(softmax_over_channels(), "head.weight", 1)
    assert "the summed axis of a Conv [Conv_3]" in text[2]
    assert "Softmax" in text[-1]


def test_an_output_of_the_model_is_a_barrier() -> None:
    assert "is an output of the model" in lines(chain(), "fc.weight", 0)[-1]


def test_an_input_is_frozen_where_it_is_made() -> None:
    assert "frozen where it is made" in lines(chain(), "x0", 1)[-1]


def test_a_channel_that_nothing_makes_says_so() -> None:
    b = Builder(0, 17, batch=1)
    own = b.store(b.rng.choice([-1.0, 1.0], (4, 6)).astype("float32"), "own")
    lone = b.store(b.rng.choice([-1.0, 1.0], (1, 6)).astype("float32"), "lone")
    product = b.add("MatMul", [b.input(1, 4), own], (1, 6))
    y = b.add("Concat", [product, lone], (2, 6), axis=0)
    b.output(b.add("ReduceSum", [b.relu(y)], (1, 1)))
    text = lines(b.model(), "own", 0)
    assert "frozen" in text[-1] or "summed axis" in text[-1]


@pytest.mark.parametrize(
    ("value", "axis", "message"),
    [
        ("conv1.weigth", 0, "did you mean 'conv1.weight'"),
        ("conv1.weight", 4, "has 4 axes; there is no axis 4"),
        ("conv1.weight", -1, "there is no axis -1"),
    ],
)
def test_an_unknown_axis_is_an_error(value: str, axis: int, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        lines(chain(), value, axis)
