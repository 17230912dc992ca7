"""Attention as exporters write it, operator by operator: whole prunes with their proof."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import onnx
import pytest
from texts import weight, written

from prunec.compiler.coverage import coverage
from prunec.compiler.freedom import Freedom
from prunec.passes.options import Options
from prunec.passes.solvers.greedy import Greedy
from prunec.runtime.compile import Settings, apply_plan, plan_for
from prunec.runtime.subject import Subject, open_model
from prunec.runtime.verify import verify

pytest.importorskip("onnxruntime")

TOKENS, WIDTH, HEADS, DIM = 5, 16, 4, 4
GRAPH = f"g (float[1,{TOKENS},{WIDTH}] x) => (float[1,{TOKENS},3] y) {{{{ {{}} }}}}"
READ = """
  p = Softmax<axis = -1>(s)
  r = MatMul(p, v)
  t = Transpose<perm = [0, 2, 1, 3]>(r)
  merge = Constant<value_ints = [0, 0, -1]>()
  m = Reshape(t, merge)
  y = MatMul(m, wo)
"""
# Q, K and V of one projection: cut by a Reshape and read by Gather, by Split, by Slice.
BY_GATHER = """
  a = MatMul(x, w)
  five = Constant<value_ints = [0, 0, 3, 4, 4]>()
  b = Reshape(a, five)
  c = Transpose<perm = [2, 0, 3, 1, 4]>(b)
  i0 = Constant<value_int = 0>() i1 = Constant<value_int = 1>() i2 = Constant<value_int = 2>()
  q = Gather<axis = 0>(c, i0) k = Gather<axis = 0>(c, i1) v = Gather<axis = 0>(c, i2)
  kt = Transpose<perm = [0, 1, 3, 2]>(k)
  s = MatMul(q, kt)
"""
HEADS_OF = """
  four = Constant<value_ints = [0, 0, 4, 4]>()
  qr = Reshape(qf, four) kr = Reshape(kf, four) vr = Reshape(vf, four)
  q = Transpose<perm = [0, 2, 1, 3]>(qr)
  kt = Transpose<perm = [0, 2, 3, 1]>(kr)
  v = Transpose<perm = [0, 2, 1, 3]>(vr)
  s = MatMul(q, kt)
"""
BY_SPLIT = "a = MatMul(x, w) qf, kf, vf = Split<axis = -1, num_outputs = 3>(a)" + HEADS_OF
BY_SLICE = (
    """
  a = MatMul(x, w)
  n0 = Constant<value_ints = [0]>() n1 = Constant<value_ints = [16]>()
  n2 = Constant<value_ints = [32]>() n3 = Constant<value_ints = [48]>()
  last = Constant<value_ints = [2]>()
  qf = Slice(a, n0, n1, last) kf = Slice(a, n1, n2, last) vf = Slice(a, n2, n3, last)
"""
    + HEADS_OF
)
ONE = {"w": weight(1, WIDTH, 3 * WIDTH), "wo": weight(2, WIDTH, 3)}
# Two key-value heads, each read by two query heads; rotary positions over halves.
TURN = """
  {0}a = Slice({0}, z0, z2, m3) {0}b = Slice({0}, z2, z4, m3)
  {0}n = Neg({0}b) {0}h = Concat<axis = -1>({0}n, {0}a)
  {0}c = Mul({0}, cos) {0}s = Mul({0}h, sin) {0}t = Add({0}c, {0}s)
"""
SPREAD = """
  {0}u = Unsqueeze({0}, two) {0}e = Expand({0}u, repeat) {0}w = Reshape({0}e, wide)
"""
GROUPED = (
    """
  z0 = Constant<value_ints = [0]>() z2 = Constant<value_ints = [2]>()
  z4 = Constant<value_ints = [4]>() m3 = Constant<value_ints = [3]>()
  two = Constant<value_ints = [2]>() repeat = Constant<value_ints = [1, 2, 2, 5, 4]>()
  wide = Constant<value_ints = [1, 4, 5, 4]>()
  qs = Constant<value_ints = [0, 0, 4, 4]>() ks = Constant<value_ints = [0, 0, 2, 4]>()
  qf = MatMul(x, wq) kf = MatMul(x, wk) vf = MatMul(x, wv)
  qr = Reshape(qf, qs) kr = Reshape(kf, ks) vr = Reshape(vf, ks)
  qh = Transpose<perm = [0, 2, 1, 3]>(qr)
  kh = Transpose<perm = [0, 2, 1, 3]>(kr)
  vh = Transpose<perm = [0, 2, 1, 3]>(vr)
"""
    + TURN.format("qh")
    + TURN.format("kh")
    + SPREAD.format("kht")
    + SPREAD.format("vh")
    + """
  v = Identity(vhw)
  kt = Transpose<perm = [0, 1, 3, 2]>(khtw)
  s = MatMul(qht, kt)
"""
)
ANGLES = np.tile(np.outer(np.arange(TOKENS), [1.0, 0.1]), 2).astype(np.float32)
FOUR = {
    "wq": weight(3, WIDTH, HEADS * DIM),
    "wk": weight(4, WIDTH, 2 * DIM),
    "wv": weight(5, WIDTH, 2 * DIM),
    "wo": weight(6, HEADS * DIM, 3),
    "cos": np.cos(ANGLES),
    "sin": np.sin(ANGLES),
}
FORMS: Mapping[str, tuple[str, Mapping[str, Any]]] = {
    "gather": (BY_GATHER, ONE),
    "split": (BY_SPLIT, ONE),
    "slice": (BY_SLICE, ONE),
    "grouped": (GROUPED, FOUR),
}


def model(form: str) -> onnx.ModelProto:
    text, stored = FORMS[form]
    return written(GRAPH.format(text + READ), **stored)


def pruned(subject: Subject, budget: str) -> dict[str, list[int]]:
    """Shapes of what is left of the weights; the oracle agrees."""
    plan = plan_for(subject, budget, Options(solver=Greedy(), align=1), Settings())
    out = apply_plan(subject, plan)
    verify(subject, plan, out).require()
    tensors = out.graph.initializers.items()
    return {n: list(v.const_value.shape.numpy()) for n, v in tensors if v.const_value is not None}


@pytest.mark.parametrize("heads", [False, True])
@pytest.mark.parametrize("form", FORMS)
def test_half_of_the_macs_can_leave(form: str, heads: bool) -> None:
    subject = open_model(model(form), freedom=Freedom(heads=heads))
    assert coverage(subject.graph).resources["flops"].smallest <= 0.5
    pruned(subject, "flops=0.5")


@pytest.mark.parametrize("form", ["gather", "split", "slice"])
def test_values_lose_other_positions_than_queries_and_keys(form: str) -> None:
    left = pruned(open_model(model(form)), "flops=0.5")
    assert left["wo"][0] % HEADS == 0
    assert left["wo"][0] < WIDTH or left["w"][1] < 3 * WIDTH
    if form != "gather":  # one axis of positions for all three, as the Reshape makes it
        queries_and_keys = left["w"][1] - left["wo"][0]
        assert queries_and_keys % (2 * HEADS) == 0


def test_a_key_value_head_leaves_with_its_query_heads() -> None:
    left = pruned(open_model(model("grouped"), freedom=Freedom(heads=True)), "flops=0.6")
    assert left["wk"][1] == left["wv"][1] == DIM
    assert left["wq"][1] == left["wo"][0] == 2 * DIM


def test_rotary_pairs_leave_together() -> None:
    left = pruned(open_model(model("grouped")), "flops=0.5")
    assert left["wq"][1] % (2 * HEADS) == 0
    assert left["cos"][1] == left["sin"][1] == left["wq"][1] // HEADS
