"""Inexact nodes in the gated model: they run over the channels that stay."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from numpy.typing import NDArray
from onnx import helper, numpy_helper

from prunec.compiler.freedom import Freedom
from prunec.compiler.interpret import interpret
from prunec.frontends.onnx import load, to_proto
from prunec.frontends.shapes import infer_facts
from prunec.passes.apply import prune
from prunec.passes.gate import gate
from prunec.runtime.session import make_session

pytest.importorskip("onnxruntime")

RANDOM = np.random.default_rng(0)
WIDTH, KEPT = 8, [0, 2, 3, 7]
X = RANDOM.standard_normal((5, 3)).astype(np.float32)
IN, OUT, SCALE, SHIFT = (
    RANDOM.standard_normal(shape).astype(np.float32)
    for shape in ((3, WIDTH), (WIDTH, 4), (WIDTH,), (WIDTH,))
)


def normalised(op: str, *parameters: str, **attributes: object) -> onnx.ModelProto:
    """``x @ IN``, a node over the 8 channels, ``@ OUT``."""
    stored = {"in": IN, "out": OUT, "scale": SCALE, "shift": SHIFT}
    nodes = [
        helper.make_node("MatMul", ["x", "in"], ["wide"]),
        helper.make_node(op, ["wide", *parameters], ["normed"], **attributes),
        helper.make_node("MatMul", ["normed", "out"], ["y"]),
    ]
    info = helper.make_tensor_value_info
    graph = helper.make_graph(
        nodes,
        "net",
        [info("x", 1, [5, 3])],
        [info("y", 1, [5, 4])],
        [numpy_helper.from_array(stored[n], n) for n in ("in", "out", *parameters)],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)


def layer_norm(x: NDArray[np.float32], scale: NDArray[np.float32], shift: NDArray[np.float32]):
    centred = x - x.mean(-1, keepdims=True)
    return centred / np.sqrt((centred**2).mean(-1, keepdims=True) + 1e-5) * scale + shift


def softmax(x: NDArray[np.float32]) -> NDArray[np.float32]:
    e = np.exp(x - x.max(-1, keepdims=True))
    return e / e.sum(-1, keepdims=True)


CASES = {
    "LayerNormalization": (
        normalised("LayerNormalization", "scale", "shift", axis=-1),
        lambda x: layer_norm(x, SCALE[KEPT], SHIFT[KEPT]),
    ),
    "Softmax": (normalised("Softmax", axis=-1), softmax),
}


@pytest.mark.parametrize("op", sorted(CASES))
def test_statistics_run_over_the_kept_channels(op: str) -> None:
    proto, function = CASES[op]
    model = load(proto)
    facts = infer_facts(model)
    graph = interpret(model, facts, freedom=Freedom(residual=True))
    assert len(graph.inexact) == 1
    (edge,) = graph.edges
    mask = np.zeros(edge.size + 1, bool)
    mask[[*KEPT, -1]] = True
    want = function(X @ IN[:, KEPT]) @ OUT[KEPT]
    for rewrite in (gate, prune):
        rewritten = to_proto(rewrite(model, facts, graph, mask)).SerializeToString()
        (got,) = make_session(rewritten, optimise=False).run({"x": X})
        np.testing.assert_allclose(got, want, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("op", sorted(CASES))
def test_without_the_freedom_they_stay(op: str) -> None:
    model = load(CASES[op][0])
    graph = interpret(model, infer_facts(model))
    assert graph.edges == ()
    assert graph.inexact == {}
