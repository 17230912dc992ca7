"""A gs.Graph passed in can be had back as one."""

from __future__ import annotations

import sys

import numpy as np
import pytest
from frontend_models import conv_relu, weights

from prunec.compiler.errors import MissingDependencyError
from prunec.frontends.graphsurgeon import to_graphsurgeon
from prunec.frontends.onnx import load

gs = pytest.importorskip("onnx_graphsurgeon")


def test_graph_in_graph_out() -> None:
    graph = gs.import_onnx(conv_relu())
    model = load(graph)
    assert list(model.graph.initializers) == ["w1", "b1", "w2"]
    back = to_graphsurgeon(model)
    assert isinstance(back, gs.Graph)
    assert [node.op for node in back.nodes] == ["Conv", "Relu", "Conv"]
    np.testing.assert_array_equal(back.tensors()["w1"].values, weights(16, 3, 3, 3))


def test_the_graph_is_not_changed() -> None:
    graph = gs.import_onnx(conv_relu())
    names = [node.name for node in graph.nodes]
    load(graph)
    assert [node.name for node in graph.nodes] == names


def test_missing_package_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    model = load(conv_relu())
    monkeypatch.setitem(sys.modules, "onnx_graphsurgeon", None)
    with pytest.raises(MissingDependencyError, match=r"prunec\[graphsurgeon\]"):
        to_graphsurgeon(model)
