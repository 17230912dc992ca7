from __future__ import annotations

import numpy as np
import onnx
import pytest
from properties.builder import Builder
from properties.oracle import analyse, check, random_masks

from prunec.frontends.onnx import load
from prunec.passes.simplify.picks import picks
from prunec.passes.simplify.unshare import unshare

pytest.importorskip("onnxruntime")

T, N, H = 3, 2, 4


def last_states(
    index: int | list[int],
    *,
    directions: int = 1,
    axis: int = 0,
    also: bool = False,
    constant: bool = False,
) -> onnx.ModelProto:
    """Two GRU layers; one of the joined last states is classified."""
    b = Builder(0, 17, batch=N)
    x, ends = b.input(T, N, H), []
    direction = "bidirectional" if directions == 2 else "forward"
    for _ in range(2):
        width = b.shapes[x][2]
        weights = [b.integers(directions, 3 * H, width), b.integers(directions, 3 * H, H)]
        shapes = [(T, directions, N, H), (directions, N, H)]
        y, end = b.many("GRU", [x, *weights], shapes, hidden_size=H, direction=direction)
        y = b.transpose(y, 0, 2, 1, 3)
        x = b.reshape(y, (0, 0, -1), (T, N, directions * H))
        ends.append(end)
    joined = b.add("Concat", ends, (2 * directions, N, H), axis=0)
    picked = np.array(index, np.int64)
    if constant:
        value = onnx.numpy_helper.from_array(picked)
        where = b.add("Constant", [], picked.shape, value=value)
    else:
        where = b.store(picked)
    shape = list(b.shapes[joined])
    shape[axis : axis + 1] = picked.shape
    h = b.add("Gather", [joined, where], shape, axis=axis)
    b.output(b.add("MatMul", [h, b.integers(H, 5)], (*shape[:-1], 5)))
    if also:
        b.output(joined)
    return b.model()


@pytest.mark.parametrize(
    ("index", "directions", "part", "inside"),
    [(0, 1, 0, 0), (1, 1, 1, 0), (-1, 1, 1, 0), ([-2], 1, 0, 0), (2, 2, 1, 0), (-1, 2, 1, 1)],
)
@pytest.mark.parametrize("constant", [False, True])
def test_one_state_is_read_from_its_layer(
    index: int | list[int], directions: int, part: int, inside: int, constant: bool
) -> None:
    proto = last_states(index, directions=directions, constant=constant)
    model = unshare(load(proto))
    ends = [node.outputs[1] for node in model.graph if node.op_type == "GRU"]
    gather = next(node for node in model.graph if node.op_type == "Gather")
    assert gather.inputs[0] is ends[part]
    stored = gather.inputs[1].const_value.numpy()
    assert (stored.tolist(), stored.shape) == (
        np.full_like(index, inside).tolist(),
        np.shape(index),
    )
    assert all(node.op_type != "Concat" for node in model.graph)


def test_layers_come_apart_and_the_oracle_agrees() -> None:
    subject = analyse(last_states(-1))
    assert len(subject.graph.edges) == 2
    for mask in random_masks(subject.graph, 0, 2):
        check(subject, mask)


def test_the_first_layer_alone_remains_if_it_is_picked() -> None:
    subject = analyse(last_states(0))
    assert [node.op_type for node in subject.model.graph] == ["GRU", "Gather", "MatMul"]
    for mask in random_masks(subject.graph, 0, 2):
        check(subject, mask)


def test_a_join_that_is_an_output_stays() -> None:
    model = unshare(load(last_states(-1, also=True)))
    assert any(node.op_type == "Concat" for node in model.graph)
    assert analyse(last_states(-1, also=True)).graph.edges == ()


@pytest.mark.parametrize("options", [{"index": [0, 1]}, {"index": 0, "axis": 1}])
def test_several_elements_or_another_axis_are_left_alone(options: dict) -> None:
    model = load(last_states(**options))
    assert list(picks(model.graph)) == []
