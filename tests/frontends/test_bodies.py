from __future__ import annotations

import numpy as np
from texts import written

from prunec.frontends.onnx import load
from prunec.frontends.shapes import infer_facts

LOOP = """
g (float[2,4] x) => (float[a,b] y, float[a,b,c] s) {{
  y, s = Loop ({count}, , x) <body = b
    (int64 i, bool go, float[m,n] v) => (bool on, float[p,q] w, float[r,t] u) {{
      on = Identity(go)
      w = {step}
      u = Relu(v)
    }}>
}}
"""


def loop(step: str, count: str = "three"):
    return infer_facts(load(written(LOOP.format(step=step, count=count), three=np.array(3))))


def test_values_inside_a_loop_have_shapes() -> None:
    facts = loop("Neg(v)")
    assert facts.shapes["v"] == facts.shapes["w"] == facts.shapes["u"] == (2, 4)
    assert facts.shapes["i"] == facts.shapes["go"] == ()


def test_what_is_stacked_has_the_trip_count_in_front() -> None:
    facts = loop("Neg(v)")
    assert facts.shapes["y"] == (2, 4)
    assert facts.shapes["s"] == (3, 2, 4)


def test_a_shape_that_changes_over_the_iterations_is_not_known() -> None:
    facts = loop("Concat <axis = 1> (v, x)")
    assert "v" not in facts.shapes
    assert facts.dtypes["v"] == np.float32
    assert facts.shapes.get("w") is None or facts.shapes["w"] != (2, 8)


def test_a_condition_holds_wherever_the_body_runs() -> None:
    assert loop("Neg(v)").constants["on"].all()


def test_values_of_both_branches_have_shapes() -> None:
    text = """
    g (float[2,4] x, bool c) => (float[a,b] y) {
      y = If (c) <then_branch = t () => (float[m,n] o) { o = Concat <axis = 1> (x, x) },
                  else_branch = e () => (float[m,n] o) <float[8] own = {1,2,3,4,5,6,7,8}> {
                    p = Concat <axis = 1> (x, x) o = Add(p, own) }>
    }
    """
    facts = infer_facts(load(written(text)))
    assert facts.shapes["y"] == (2, 8)
    inside = {name: shape for name, shape in facts.shapes.items() if name[0] in "op"}
    assert sorted(inside.values()) == [(2, 8), (2, 8), (2, 8), (8,)]


def test_an_element_of_a_scan_has_no_scanned_axis() -> None:
    text = """
    g (float[3,5,2] x, float[3,2] h) => (float[a,b] y, float[c,d,e] s) {
      y, s = Scan <num_scan_inputs = 1, scan_input_axes = [-2], scan_output_axes = [-1], body = b
        (float[i,j] v, float[k,l] e) => (float[m,n] w, float[o,p] t) {
          w = Add(v, e) t = Neg(w)
        }> (h, x)
    }
    """
    facts = infer_facts(load(written(text)))
    assert facts.shapes["e"] == facts.shapes["w"] == (3, 2)
    assert facts.shapes["y"] == (3, 2)
    assert facts.shapes["s"] == (3, 2, 5)
