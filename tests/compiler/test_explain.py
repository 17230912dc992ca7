from __future__ import annotations

import time

import onnx
import pytest
from nets import chain, conv, residual
from properties.builder import Builder
from properties.oracle import analyse

from prunec.compiler.errors import UsageError
from prunec.compiler.explain import explain
from prunec.compiler.reasons import Reason


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
    assert text[-2].endswith("Softmax runs over it [Softmax_2]")


def test_the_way_ends_with_the_reason_and_its_remedy() -> None:
    text = lines(softmax_over_channels(), "conv.weight", 0)
    assert text[-1].strip().startswith("softmax-axis: ")
    assert Reason.SOFTMAX_AXIS.remedy in text[-1]


def test_the_way_runs_through_every_tie() -> None:
    text = lines(softmax_over_channels(), "head.weight", 1)
    assert "the summed axis of a Conv [Conv_3]" in text[2]
    assert "Softmax" in text[3]


def test_an_output_of_the_model_is_a_barrier() -> None:
    assert "is an output of the model" in lines(chain(), "fc.weight", 0)[-2]


def test_an_input_is_frozen_where_it_is_made() -> None:
    text = lines(chain(), "x0", 1)
    assert text[-1].startswith("none of them can be removed: graph-input: ")


def test_channels_with_several_barriers_show_each() -> None:
    b = Builder(0, 17, batch=1)
    x = b.relu(conv(b, b.input(1, 3, 2, 2), "conv.weight", 6))
    left, right = b.split(x, 1, [2, 4])
    b.output(left)
    b.output(conv(b, b.add("Softmax", [right], axis=1), "head.weight", 3))
    text = lines(b.model(), "conv.weight", 0)
    assert [t for t in text if "can't be removed" in t] == [
        "2 of them can't be removed:", "4 of them can't be removed:",
    ]  # fmt: skip
    reasons = [t.split(":")[0].strip() for t in text if "would free it" in t]
    assert reasons == ["graph-output", "softmax-axis"]


def test_a_large_graph_is_explained_in_a_second() -> None:
    b = Builder(0, 17, batch=1)
    x = conv(b, b.input(1, 3, 2, 2), "first", 1000)
    for k in range(100):
        x = b.relu(conv(b, x, f"w{k}", 1000, group=1000))
    b.output(x)
    graph = analyse(b.model()).graph
    assert len(graph.trace.groups) > 100_000
    start = time.perf_counter()
    text = explain(graph, "first", 0)
    assert time.perf_counter() - start < 1
    assert len(text) == 2 + 101 + 1  # through every depthwise weight, to the output


def test_a_channel_that_nothing_makes_says_so() -> None:
    b = Builder(0, 17, batch=1)
    own = b.store(b.rng.choice([-1.0, 1.0], (4, 6)).astype("float32"), "own")
    lone = b.store(b.rng.choice([-1.0, 1.0], (1, 6)).astype("float32"), "lone")
    product = b.add("MatMul", [b.input(1, 4), own], (1, 6))
    y = b.add("Concat", [product, lone], (2, 6), axis=0)
    b.output(b.add("ReduceSum", [b.relu(y)], (1, 1)))
    text = lines(b.model(), "own", 0)
    assert "the summed axis of a MatMul" in text[2]
    assert "graph-input" in text[-1]


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


def test_a_hyperedge_says_whether_all_of_it_may_leave() -> None:
    assert "    all may leave with --min-keep 0" in lines(residual(), "block.a.weight", 0)
    (why,) = [line for line in lines(residual(), "stem.weight", 0) if "--min-keep" in line]
    assert why.startswith("    one of them stays, even with --min-keep 0: output ")
