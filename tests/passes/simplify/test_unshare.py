from __future__ import annotations

import numpy as np
import onnx
from nets import conv
from properties.builder import Builder
from properties.oracle import analyse, check, random_masks
from texts import weight, written

from prunec.frontends.onnx import load
from prunec.passes.simplify.unshare import unshare


def net(copies: bool, value: np.ndarray) -> onnx.ModelProto:
    """Two layers of 4 channels whose BatchNorm scale is one tensor, or Identity copies of it."""
    b = Builder(0, 17, batch=1)
    shared = b.store(value.astype(np.float32), "shared")
    x = b.input(1, 3, 2, 2)
    for layer in ("a", "b"):
        x = conv(b, x, f"{layer}.weight", 4)
        scale = b.add("Identity", [shared]) if copies else shared
        rest = [b.integers(4), b.integers(4), b.store(np.arange(1, 5).astype(np.float32))]
        x = b.add("BatchNormalization", [x, scale, *rest])
    b.output(conv(b, x, "head.weight", 3))
    return b.model()


def test_one_repeated_number_with_two_readers_is_stored_twice() -> None:
    model = unshare(load(net(False, np.ones(4))))
    assert {"shared", "shared.1"} <= set(model.graph.initializers)
    assert len(analyse(net(False, np.ones(4))).graph.edges) == 2


def test_a_shared_vector_of_different_numbers_stays_shared() -> None:
    assert len(analyse(net(False, np.arange(4))).graph.edges) == 1


def test_identity_copies_get_storage_and_their_own_name() -> None:
    model = unshare(load(net(True, np.arange(4))))
    assert "shared" not in model.graph.initializers
    assert all(node.op_type != "Identity" for node in model.graph)
    assert len(analyse(net(True, np.arange(4))).graph.edges) == 2


def test_a_model_without_merged_vectors_comes_back_as_it_is() -> None:
    model = load(net(False, np.arange(4)))
    assert unshare(model) is model


def test_the_input_model_is_not_changed() -> None:
    model = load(net(False, np.ones(4)))
    unshare(model)
    assert "shared.1" not in model.graph.initializers


def test_nodes_that_nothing_reads_tie_and_cost_nothing() -> None:
    b = Builder(0, 17, batch=1)
    x = conv(b, b.input(1, 3, 2, 2), "a.weight", 8)
    b.add("Add", [x, conv(b, x, "dead.weight", 8)])
    b.output(conv(b, x, "head.weight", 3))
    subject = analyse(b.model())
    assert set(subject.model.graph.initializers) == {"a.weight", "head.weight"}
    for mask in random_masks(subject.graph, 0, 2):
        check(subject, mask)


BRANCHES = """
g (float[1,3] x, bool c) => (float[1,2] y) {
  h = MatMul(x, w1)
  z = If (c) <then_branch = t () => (float[1,4] o) { a = Add(h, shared) o = MatMul(a, w2) },
              else_branch = e () => (float[1,4] o) { o = MatMul(h, w2) }>
  s = Add(z, shared)
  y = MatMul(s, w3)
}
"""


def test_a_vector_merged_between_a_branch_and_outside_is_stored_twice() -> None:
    stored = {"w1": weight(1, 3, 4), "w2": weight(2, 4, 4), "w3": weight(3, 4, 2)}
    model = written(BRANCHES, **stored, shared=np.ones(4, np.float32))
    assert {"shared", "shared.1"} <= set(unshare(load(model)).graph.initializers)
    case = analyse(model)
    assert len(case.graph.edges) == 2
    for mask in random_masks(case.graph, 0, 3):
        check(case, mask)
