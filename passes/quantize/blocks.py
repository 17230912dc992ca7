"""Products of a stored matrix in the form that onnxruntime computes from packed integers.

Read from the optimised graph of onnxruntime 1.31 on the CPU: DequantizeLinear (INT4, UINT4 or INT8;
per column, or in blocks of 16, 32, 64 ... along the rows) and a MatMul, or a Gemm that does not
transpose, become one MatMulNBits, which reads the packed integers. Behind a Gemm with transB=1, or
a Transpose, the DequantizeLinear stays a node that runs every time; so it does before a Conv, and
where a Relu stands between two such products (not with Tanh, Sigmoid, Gelu or LeakyRelu).
"""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from prunec.compiler.constants import attribute
from prunec.compiler.literals import literal
from prunec.compiler.ops import op_key
from prunec.passes.quantize.norms import store


def untransposed(model: ir.Model) -> tuple[str, ...]:
    """Store the weights of products, in place, as they are multiplied; names of the nodes.

    ``Gemm(x, W, transB=1)`` becomes ``Gemm(x, W')`` and ``MatMul(x, Transpose(W))`` becomes
    ``MatMul(x, W')``, where the product alone reads W. Computes the same.
    """
    changed = []
    for node in list(model.graph):
        if op_key(node) == "Gemm" and attribute(node, "transB", 0):
            if _turned(model.graph, node, node.inputs[1], node):
                node.attributes.pop("transB")
                changed.append(str(node.name))
        elif op_key(node) == "MatMul":
            value = node.inputs[1]
            maker = None if value is None else value.producer()
            if maker is None or op_key(maker) != "Transpose" or not _only(value, node):
                continue
            if _turned(model.graph, node, maker.inputs[0], maker):
                model.graph.remove(maker, safe=True)
                changed.append(str(node.name))
    return tuple(changed)


def _turned(graph: ir.Graph, node: ir.Node, weight: ir.Value | None, reader: ir.Node) -> bool:
    """Store a matrix transposed and let the product read it; False where others read it too."""
    if weight is None or not weight.is_initializer() or not _only(weight, reader):
        return False
    array = literal(weight)
    if array is None or array.ndim != 2 or array.dtype.kind != "f":
        return False
    made = store(graph, weight, np.ascontiguousarray(array.T), reader)
    node.replace_input_with(1, made)
    return True


def _only(value: ir.Value | None, node: ir.Node) -> bool:
    """Whether a value is read once, by this node."""
    if value is None or value.is_graph_input() or value.is_graph_output():
        return False
    return [user for user, _ in value.uses()] == [node]
