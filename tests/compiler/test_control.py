from __future__ import annotations

import numpy as np
import onnx_ir as ir
import pytest
from texts import written

from prunec.compiler.control import Branches, Iteration, Scanned, control_of, is_control
from prunec.frontends.onnx import load

LOOP = """
g (float[2] x, int64 n, bool c) => (float[2] y, float[k,2] s) {
  y, s = Loop (n, c, x) <body = b
    (int64 i, bool go, float[2] v) => (bool on, float[2] w, float[2] t) {
    on = Identity(go)
    w = Relu(v)
    t = Neg(v)
  }>
}
"""
SCAN = """
g (float[3,5,2] x, float[3,2] h) => (float[3,2] y, float[3,5,2] s) {
  y, s = Scan <num_scan_inputs = 1, scan_input_axes = [1], scan_output_axes = [1], body = b
    (float[3,2] v, float[3,2] e) => (float[3,2] w, float[3,2] t) {
      w = Add(v, e)
      t = Neg(w)
    }> (h, x)
}
"""
IF = """
g (float[2] x, bool c) => (float[2] y) {
  y = If (c) <then_branch = t () => (float[2] o) { o = Relu(x) },
              else_branch = e () => (float[2] o) { o = Neg(x) }>
}
"""


def control(text: str, **known: object):
    node = load(written(text)).graph[0]
    return node, control_of(node, 18, {name: np.asarray(v) for name, v in known.items()})


def names(values) -> list[str | None]:
    return [value.name for value in values]


def test_an_if_takes_the_branch_of_its_constant() -> None:
    _, unknown = control(IF)
    assert isinstance(unknown, Branches)
    assert unknown.taken is None
    for condition, index in ((True, 0), (False, 1)):
        _, found = control(IF, c=condition)
        assert found.branches[index].name == ("t" if condition else "e")
        assert found.taken is found.branches[index]


def test_a_loop_is_wired_by_position() -> None:
    node, found = control(LOOP)
    assert isinstance(found, Iteration)
    ((start, inner, result, final),) = found.carried
    assert names((start, inner, result, final)) == ["x", "v", "w", "y"]
    assert names(found.stacked(node)) == ["s"]
    assert names(found.body_stacked) == ["t"]


@pytest.mark.parametrize(
    ("known", "trips"),
    [
        ({"n": 3, "c": True, "on": True}, 3),
        ({"n": 3, "c": False, "on": True}, 0),
        ({"n": -1, "c": True, "on": True}, 0),
        ({"n": 3, "on": True}, None),
        ({"n": 3, "c": True}, None),
        ({"c": True, "on": True}, None),
        ({"n": 2**62, "c": True, "on": True}, None),
    ],
)
def test_trips_are_known_where_no_data_decides(known: dict, trips: int | None) -> None:
    _, found = control(LOOP, **known)
    assert found.trips({name: np.asarray(v) for name, v in known.items()}) == trips


def test_a_scan_is_wired_by_position() -> None:
    node, found = control(SCAN)
    assert isinstance(found, Scanned)
    assert [(v.name, axis) for v, axis in found.sequences] == [("x", 1)]
    assert names(found.body_sequences) == ["e"]
    assert [(v.name, axis) for v, axis in found.stacked(node)] == [("s", 1)]
    assert found.trips({"x": (3, 5, 2)}) == 5


def test_other_nodes_and_the_scan_of_opset_8_are_no_control_flow() -> None:
    node = load(written(SCAN)).graph[0]
    assert control_of(node, 8, {}) is None
    relu = ir.Node("", "Relu", [ir.Value(name="x")])
    assert not is_control(relu)
    assert control_of(relu, 18, {}) is None
