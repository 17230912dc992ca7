"""Sparse tensors are dense once a model is loaded."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import pytest
from frontend_models import chain
from onnx import helper, numpy_helper

from prunec.compiler.errors import ModelError
from prunec.frontends.onnx import load, to_proto
from prunec.frontends.origin import origin_of

DENSE = np.array([[0, 2, 0], [3, 0, 0]], np.float32)
FLAT, PAIRS = np.flatnonzero(DENSE), np.argwhere(DENSE)


def sparse(indices: np.ndarray[Any, Any], *dims: int) -> onnx.SparseTensorProto:
    return helper.make_sparse_tensor(
        numpy_helper.from_array(DENSE[DENSE != 0], "w"), numpy_helper.from_array(indices), dims
    )


def with_initializer(tensor: onnx.SparseTensorProto) -> onnx.ModelProto:
    model = chain(helper.make_node("Gemm", ["x", "w"], ["y"]), shape=(1, 2))
    model.graph.sparse_initializer.append(tensor)
    return model


@pytest.mark.parametrize("indices", [FLAT, PAIRS])
def test_initializers(indices: np.ndarray[Any, Any]) -> None:
    model = load(with_initializer(sparse(indices, 2, 3)))
    stored = model.graph.initializers["w"].const_value
    assert stored is not None
    np.testing.assert_array_equal(stored.numpy(), DENSE)
    assert [note.code for note in origin_of(model).notes] == ["sparse"]
    (written,) = to_proto(model).graph.initializer
    np.testing.assert_array_equal(numpy_helper.to_array(written), DENSE)


def test_constants() -> None:
    node = helper.make_node("Constant", [], ["w"], "const", sparse_value=sparse(PAIRS, 2, 3))
    model = load(chain(node, helper.make_node("Gemm", ["x", "w"], ["y"]), shape=(1, 2)))
    constant = next(iter(model.graph))
    np.testing.assert_array_equal(constant.attributes["value"].value.numpy(), DENSE)
    assert [note.node for note in origin_of(model).notes] == ["const"]


@pytest.mark.parametrize(
    ("indices", "dims"),
    [
        (FLAT + 4, (2, 3)),
        (-FLAT, (2, 3)),
        (FLAT[:1], (2, 3)),
        (PAIRS, (2, 1)),
        (PAIRS, (2, 3, 1)),
        (FLAT, (-2, -3)),
    ],
)
def test_indices_that_do_not_fit(indices: np.ndarray[Any, Any], dims: tuple[int, ...]) -> None:
    tensor = sparse(FLAT, 2, 3)
    tensor.indices.CopyFrom(numpy_helper.from_array(indices))
    tensor.dims[:] = dims
    with pytest.raises(ModelError, match="sparse initializer 'w'"):
        load(with_initializer(tensor))
