from __future__ import annotations

import numpy as np
import onnx
from nets import conv
from properties.builder import Builder
from properties.oracle import analyse

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
