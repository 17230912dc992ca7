"""Control flow as a whole: a rule for an If needs an interpretation around it."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from properties.oracle import Case, analyse, check, random_masks
from texts import weight, written

from prunec.compiler.hypergraph import Hypergraph
from prunec.compiler.interpret import interpret
from prunec.frontends.bindings import DATA_DEPENDENT

pytest.importorskip("onnxruntime")

BRANCH = """
g (float[2,6] x, bool c) => (float[2,3] y) {{
  h = MatMul(x, w1)
  z = If (c) <
    then_branch = then () => (float[2,8] o)
      <float[8] own = {{1, 2, 3, 4, 5, 6, 7, 8}}> {{ a = MatMul(h, w2) o = Add(a, own) }},
    else_branch = other () => (float[2,8] o)
      <float[8] own = {{8, 7, 6, 5, 4, 3, 2, 1}}> {{ a = MatMul(h, {0}) o = Sub(a, own) }}
  >
  y = MatMul(z, w4)
}}
"""


def branches(second: str = "w3") -> onnx.ModelProto:
    stored = {"w1": weight(1, 6, 8), "w2": weight(2, 8, 8), "w4": weight(4, 8, 3)}
    if second == "w3":
        stored["w3"] = weight(3, 8, 8)
    return written(BRANCH.format(second), **stored)


LOOP = """
g (float[2,6] x) => (float[2,3] y, float[k,2,3] ys) {
  h = MatMul(x, w1)
  z, u, s = Loop (count, yes, h, start) <body = b
    (int64 i, bool go, float[2,8] h_in, float[2,8] u_in)
    => (bool goes_on, float[2,8] h_out, float[2,8] u_out, float[2,8] both) {
      goes_on = Identity(go)
      a = MatMul(h_in, w2)
      h_out = Clip(a, low, high)
      b = MatMul(u_in, w3)
      u_out = Clip(b, low, high)
      both = Add(h_out, u_out)
    }>
  v = Add(z, u)
  y = MatMul(v, w4)
  ys = MatMul(s, w4)
}
"""


def loop(**changed: object) -> onnx.ModelProto:
    stored: dict[str, object] = {
        "w1": weight(1, 6, 8),
        "w2": weight(2, 8, 8),
        "w3": weight(3, 8, 8),
        "w4": weight(4, 8, 3),
        "start": weight(5, 2, 8),
        "count": np.array(3),
        "yes": np.array(True),
        "low": np.float32(-8),
        "high": np.float32(8),
    }
    return written(LOOP, **{**stored, **changed})


SCAN = """
g (float[5,2,6] x) => (float[2,3] y, float[2,5,3] ys) {
  z, s = Scan <num_scan_inputs: int = 1, scan_output_axes: ints = [1], body = b
    (float[2,8] h_in, float[2,6] e) => (float[2,8] h_out, float[2,8] seen) {
      p = MatMul(e, w1)
      a = MatMul(h_in, w2)
      q = Add(a, p)
      h_out = Clip(q, low, high)
      seen = Relu(h_out)
    }> (start, x)
  y = MatMul(z, w4)
  ys = MatMul(s, w4)
}
"""


def scan() -> onnx.ModelProto:
    return written(
        SCAN,
        w1=weight(1, 6, 8),
        w2=weight(2, 8, 8),
        w4=weight(4, 8, 3),
        start=weight(5, 2, 8),
        low=np.float32(-8),
        high=np.float32(8),
    )


def smallest(graph: Hypergraph) -> float:
    """The least share of the MACs that can be reached."""
    flops = graph.costs["flops"]
    return flops([1] * len(graph.edges)) / flops(graph.dense())


def prove(case: Case) -> None:
    for seed in range(2):
        for mask in random_masks(case.graph, seed, 2):
            check(case, mask, seed)


def groups(case: Case, *axes: tuple[str, int]) -> list[list[int]]:
    return [case.graph.axes[axis].tolist() for axis in axes]


def test_both_branches_of_an_if_are_pruned_and_proven() -> None:
    case = analyse(branches())
    assert [e.name for e in case.graph.edges] == ["w1:1", "w2:1"]
    assert smallest(case.graph) < 0.5
    prove(case)


def test_what_leaves_an_if_is_tied_over_its_branches() -> None:
    case = analyse(branches())
    then, other, after = groups(case, ("w2", 1), ("w3", 1), ("w4", 0))
    assert then == other == after


def test_weights_inside_a_branch_are_weights() -> None:
    case = analyse(branches())
    inside = [w for w in case.graph.weights if w.value.startswith("own")]
    assert [w.shape for w in inside] == [(8,), (8,)]
    assert all(w.counted for w in inside)
    assert groups(case, *((w.value, 0) for w in inside)) == groups(case, ("w2", 1)) * 2


def test_a_weight_that_both_branches_read_is_one_weight() -> None:
    case = analyse(branches("w2"))
    assert case.graph.costs["params"](case.graph.dense()) == 6 * 8 + 8 * 8 + 8 * 3 + 2 * 8
    prove(case)


def test_both_branches_of_an_if_count() -> None:
    case = analyse(branches())
    assert case.graph.costs["flops"](case.graph.dense()) == 2 * (6 * 8 + 2 * 8 * 8 + 8 * 3)


def test_the_branch_of_a_constant_condition_counts_alone() -> None:
    proto = branches()
    del proto.graph.input[1]
    proto.graph.initializer.append(onnx.numpy_helper.from_array(np.array(False), "c"))
    case = analyse(proto)
    assert case.graph.costs["flops"](case.graph.dense()) == 2 * (6 * 8 + 8 * 8 + 8 * 3)
    assert ("w2", 0) in case.graph.axes  # what never runs must load all the same
    prove(case)


def test_branches_of_other_widths_are_frozen_with_a_reason() -> None:
    text = """
    g (float[2,6] x, bool c) => (float[2,3] y) {
      h = MatMul(x, w1)
      z = If (c) <
        then_branch = then () => (float[2,8] o) { o = MatMul(h, w2) },
        else_branch = other () => (float[2,4] o) { o = MatMul(h, w3) }
      >
      s = ReduceMax(z, one)
      y = MatMul(s, w4)
    }
    """
    stored = {"w1": weight(1, 6, 8), "w2": weight(2, 8, 8), "w3": weight(3, 8, 4)}
    case = analyse(written(text, **stored, w4=weight(4, 1, 3), one=np.array([1])))
    assert [e.name for e in case.graph.edges] == ["w1:1"]
    assert any("differs from body to body" in tie.reason for tie in case.graph.trace.ties)
    prove(case)


def test_what_a_loop_carries_is_tied_to_itself() -> None:
    case = analyse(loop())
    assert [e.name for e in case.graph.edges] == ["w1:1"]
    rows, columns, start = groups(case, ("w2", 0), ("w2", 1), ("start", 1))
    assert rows == columns == start
    prove(case)


def test_a_loop_counts_once_an_iteration() -> None:
    flops = analyse(loop()).graph.costs["flops"]
    assert flops([8]) == 2 * 6 * 8 + 3 * 2 * (2 * 8 * 8) + 2 * 8 * 3 + 3 * 2 * 8 * 3


def test_a_loop_that_data_stops_counts_once() -> None:
    text = LOOP.replace("goes_on = Identity(go)", "").replace(
        "both = Add(h_out, u_out)",
        "both = Add(h_out, u_out) t = ReduceSum <keepdims = 0> (a) goes_on = Greater(t, low)",
    )
    stored = {"w1": weight(1, 6, 8), "w2": weight(2, 8, 8), "w3": weight(3, 8, 8)}
    stored |= {"w4": weight(4, 8, 3), "start": weight(5, 2, 8)}
    numbers = {"count": np.array(3), "low": np.float32(-8), "high": np.float32(8)}
    case = analyse(written(text, **stored, **numbers, yes=np.array(True)))
    flops = case.graph.costs["flops"]
    assert flops([8]) == 2 * 6 * 8 + 2 * (2 * 8 * 8) + 2 * 8 * 3 + DATA_DEPENDENT * 2 * 8 * 3
    prove(case)


def test_a_scan_runs_along_a_frozen_axis() -> None:
    case = analyse(scan())
    assert [e.name for e in case.graph.edges] == ["w1:1"]
    assert case.graph.axes.keys() >= {("z", 1), ("s", 2), ("start", 1)}
    assert case.graph.costs["flops"]([8]) == 2 * (5 * (6 * 8 + 8 * 8) + 8 * 3 + 5 * 8 * 3)
    assert smallest(case.graph) < 0.5
    prove(case)


def test_an_if_within_a_loop_within_a_branch() -> None:
    text = """
    g (float[2,6] x, bool c, bool d) => (float[2,3] y) {
      h = MatMul(x, w1)
      z = If (c) <
        then_branch = then () => (float[2,8] o) {
          o = Loop (count, , h) <body = b
            (int64 i, bool go, float[2,8] s) => (bool on, float[2,8] n) {
            r = If (d) <then_branch = t () => (float[2,8] q) { q = MatMul(s, w2) },
                        else_branch = e () => (float[2,8] q) { q = Relu(s) }>
            on = Identity(go)
            n = Clip(r, low, high)
          }>
        },
        else_branch = other () => (float[2,8] o) { o = Neg(h) }
      >
      y = MatMul(z, w4)
    }
    """
    numbers = {"count": np.array(2), "low": np.float32(-8), "high": np.float32(8)}
    weights = {"w1": weight(1, 6, 8), "w2": weight(2, 8, 8), "w4": weight(4, 8, 3)}
    case = analyse(written(text, **weights, **numbers))
    assert [e.name for e in case.graph.edges] == ["w1:1"]
    assert case.graph.costs["flops"]([8]) == 2 * (6 * 8 + 2 * 8 * 8 + 8 * 3)
    prove(case)


def test_a_condition_that_reads_a_pruned_size_stays_what_it_was() -> None:
    text = """
    g (float[2,6] x) => (float[2,3] y) {
      h = MatMul(x, w1)
      s = Shape <start = 1> (h)
      e = Equal(s, eight)
      c = Squeeze(e)
      z = If (c) <then_branch = t () => (float[2,8] o) { o = MatMul(h, w2) },
                  else_branch = e () => (float[2,8] o) { o = Relu(h) }>
      y = MatMul(z, w4)
    }
    """
    weights = {"w1": weight(1, 6, 8), "w2": weight(2, 8, 8), "w4": weight(4, 8, 3)}
    case = analyse(written(text, **weights, eight=np.array([8])))
    assert case.graph.edges
    prove(case)


@pytest.mark.parametrize("op", ["If", "Loop", "Scan"])
def test_bodies_that_do_not_fit_freeze_what_they_read(op: str) -> None:
    model = {"If": branches(), "Loop": loop(), "Scan": scan()}[op]
    case = analyse(model)
    node = next(node for node in case.model.graph if node.op_type == op)
    for attribute in node.attributes.values():
        if attribute.type.name == "GRAPH":
            attribute.value.outputs.pop()
            break
    if op != "If":
        attribute.value.outputs.clear()
    graph = interpret(case.model, case.facts)
    assert "do not fit its bodies" in "".join(d.message for d in graph.diagnostics)
    assert ("w2", 0) not in graph.axes
