"""Sparse tensors made dense when a model is loaded: nothing behind the loader knows them."""

from __future__ import annotations

import math
from functools import partial
from typing import Any

import numpy as np
import onnx
import onnx_ir as ir
from numpy.typing import NDArray

from prunec.compiler.diagnostics import Diagnostic, Severity
from prunec.compiler.errors import ModelError
from prunec.frontends.structure import graphs_of

LARGEST_INSIDE_BYTES = 2**30  # of a tensor that must lie in the proto; models are untrusted


def make_dense(
    model: onnx.ModelProto, label: str
) -> tuple[dict[int, ir.TensorProtocol], tuple[Diagnostic, ...]]:
    """Replace the sparse tensors of a model, in place, by dense ones.

    Returns (initializer index -> contents, for those of the main graph, which are described in the
    proto but not filled in; a note for each). Raises ModelError where one is not well formed.
    """
    lifted: dict[int, ir.TensorProtocol] = {}
    notes = []
    for graph in graphs_of(model):
        for sparse in graph.sparse_initializer:
            tensor = _dense(sparse, f"{label}: sparse initializer {sparse.values.name!r}")
            if graph is model.graph:
                lifted[len(graph.initializer)] = tensor
                dims = tensor.shape.numpy()
                graph.initializer.add(
                    name=sparse.values.name, data_type=int(tensor.dtype), dims=dims
                )
            else:
                graph.initializer.append(_filled(tensor, label))
            notes.append(_note(sparse.values.name, ""))
        if graph.sparse_initializer:
            graph.ClearField("sparse_initializer")
        for node in graph.node:
            for attribute in node.attribute:
                if node.op_type != "Constant" or attribute.name != "sparse_value":
                    continue
                where = f"{label}: Constant {node.output[0]!r}"
                dense = _filled(_dense(attribute.sparse_tensor, where), where)
                new = onnx.helper.make_attribute("value", dense)
                attribute.CopyFrom(new)
                notes.append(_note(node.output[0], node.name))
    return lifted, tuple(notes)


def _note(name: str, node: str) -> Diagnostic:
    text = f"sparse tensor {name!r} is stored dense in the written model"
    return Diagnostic("sparse", node, text, Severity.INFO)


def _dense(sparse: onnx.SparseTensorProto, where: str) -> ir.TensorProtocol:
    """A tensor that is made dense whenever it is read."""
    dims = tuple(sparse.dims)
    if onnx.TensorProto.EXTERNAL in (sparse.values.data_location, sparse.indices.data_location):
        raise ModelError(f"{where}: lies in a data file; store it dense")
    try:
        values = ir.serde.deserialize_tensor(sparse.values).numpy().reshape(-1)
        indices = ir.serde.deserialize_tensor(sparse.indices).numpy().astype(np.int64)
    except (ValueError, TypeError, NotImplementedError) as error:
        raise ModelError(f"{where}: {error}") from error
    if any(dim < 1 for dim in dims) or sparse.values.data_type == onnx.TensorProto.STRING:
        raise ModelError(f"{where}: shape {list(dims)} or its element type is not possible here")
    if indices.ndim == 2 and indices.shape[1] == len(dims):
        legal = bool(((indices >= 0) & (indices < np.array(dims))).all())
        flat = indices @ np.array([math.prod(dims[k + 1 :]) for k in range(len(dims))], np.int64)
    else:
        flat = indices.reshape(-1)
        legal = indices.ndim == 1 and bool(((flat >= 0) & (flat < math.prod(dims))).all())
    if not legal or len(flat) != len(values):
        raise ModelError(f"{where}: indices of shape {indices.shape} do not fit shape {list(dims)}")
    return ir.LazyTensor(
        partial(_spread, values, flat, dims, sparse.values.data_type),
        dtype=ir.DataType(sparse.values.data_type),
        shape=ir.Shape(dims),
        name=sparse.values.name,
    )


def _spread(
    values: NDArray[Any], flat: NDArray[np.int64], dims: tuple[int, ...], element: int
) -> ir.Tensor[Any]:
    out = np.zeros(math.prod(dims), values.dtype)
    out[flat] = values
    return ir.Tensor(out.reshape(dims), dtype=ir.DataType(element))


def _filled(tensor: ir.TensorProtocol, where: str) -> onnx.TensorProto:
    if tensor.nbytes > LARGEST_INSIDE_BYTES:
        raise ModelError(f"{where}: would take {tensor.nbytes} bytes when made dense")
    out = onnx.TensorProto(name=tensor.name, data_type=int(tensor.dtype))
    out.dims.extend(tensor.shape.numpy())
    out.raw_data = tensor.tobytes()
    return out
