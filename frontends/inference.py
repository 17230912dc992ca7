"""The walk over a graph that finds shapes, types and constants at given sizes."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import onnx
import onnx_ir as ir
from numpy.typing import NDArray

from prunec.compiler.constants import evaluate
from prunec.compiler.facts import Facts
from prunec.compiler.literals import constant
from prunec.compiler.walk import bodies, values
from prunec.frontends import contrib
from prunec.frontends.bindings import Shape, assume, symbol_of
from prunec.frontends.bodies import visit_bodies
from prunec.frontends.contradictions import contradicts
from prunec.frontends.elements import as_declared, as_float32

# Contents are kept of tensors up to these numbers of elements.
INTEGER_ELEMENTS = 65_536
FLOAT_ELEMENTS = 1_024
RESULT_ELEMENTS = 65_536
DATA_ELEMENTS = 1_024  # shapes, axes, pads, scales: what onnx's own inference wants to see

_LARGEST_DIM = 2**31  # spoiled files declare any number; there is a label per position
_INFERENCE_ERRORS = (
    onnx.shape_inference.InferenceError,
    onnx.checker.ValidationError,
    RuntimeError,
    ValueError,
    KeyError,
)
Array = NDArray[Any]


# Their first output has the shape and type of their first input; a MaxUnpool's is written beside.
SHAPE_KEEPING = frozenset(
    [
        "Affine",
        "BatchNormalization",
        "Dropout",
        "GroupNormalization",
        "ImageScaler",
        "MaxUnpool",
        "MeanVarianceNormalization",
        "PRelu",
        "ParametricSoftplus",
        "ScaledTanh",
    ]
)


class Inference:
    """What is known so far, by value name.

    bound: symbol -> number; grows with the dimensions that depend on the data, which become
    `count`. contradictions: nodes whose input shapes are known and do not fit together.
    """

    def __init__(
        self,
        model: ir.Model,
        bound: dict[str, int],
        count: int,
        shapers: Mapping[str, contrib.Shaper],
    ) -> None:
        self.model = model
        self.bound = bound
        self.count = count
        self.shapers = shapers
        self.shapes: dict[str, Shape] = {}
        self.dtypes: dict[str, np.dtype[Any]] = {}
        self.constants: dict[str, Array] = {}
        self.types: dict[str, onnx.TypeProto] = {}
        self.contradictions = 0
        versions = model.graph.opset_imports
        self.opset = versions.get("", versions.get("ai.onnx", 1))
        self.opsets = [onnx.helper.make_opsetid(d, v) for d, v in sorted(versions.items())]
        self.schemas: dict[tuple[str, str], onnx.defs.OpSchema | None] = {}

    def facts(self) -> Facts:
        """What is known now."""
        return Facts(self.shapes, self.dtypes, self.constants, self.bound)

    def start(self) -> None:
        """Enter graph inputs and initializers."""
        graph = self.model.graph
        for value in graph.inputs:
            if value.name not in graph.initializers:
                self.declared(value)
        self.enter_weights(graph)

    def enter_weights(self, graph: ir.Graph) -> None:
        """Enter the stored tensors of a graph or a body."""
        for name, value in graph.initializers.items():
            tensor = value.const_value
            if tensor is None:
                self.declared(value)
                continue
            self._record(name, tensor.dtype, tensor.shape.numpy())
            if _is_kept(tensor.dtype, tensor.size):
                self.constants[name] = tensor.numpy()

    def visit(self, node: ir.Node) -> None:
        """Enter the outputs of a node whose inputs are entered."""
        results = self._evaluate(node)
        for value, array in zip(node.outputs, results or (), strict=False):
            if value.name and array.dtype.kind not in "OSU":
                self.constants[value.name] = array
                dtype = value.dtype if value.dtype is not None else _dtype_of(array)
                self._record(value.name, dtype, array.shape)
        if bodies(node):
            visit_bodies(self, node, self.opset)
        if all(not value.name or value.name in self.shapes for value in node.outputs):
            return
        for name, inferred in self._infer(node).items():
            self._enter_type(name, inferred)
        self.contradictions += contradicts(node, self.shapes, self.constants)
        self._infer_contrib(node)
        for value in node.outputs:
            if value.name and value.name not in self.shapes:
                self.declared(value)
        self._like_its_input(node)
        for value in node.outputs:
            if value.name and value.name not in self.shapes:
                self._assume_sizes(node, value)

    def _assume_sizes(self, node: ir.Node, value: ir.Value) -> None:
        """Bind the dimensions of an output that neither inference nor the model tells."""
        name = value.name or ""
        declared, tensor = value.shape, self.types.get(name, onnx.TypeProto()).tensor_type
        if tensor.HasField("shape"):
            dims = [d.dim_value if d.HasField("dim_value") else -1 for d in tensor.shape.dim]
        elif declared is not None and not isinstance(value.type, ir.SequenceType):
            dims = [-1] * declared.rank()
        else:
            return
        if declared is not None and declared.rank() == len(dims):
            told = [d if isinstance(d, int) else -1 for d in declared]
            dims = [d if d >= 0 else t for d, t in zip(dims, told, strict=True)]
        first = node.inputs[0] if node.inputs else None
        source = self.shapes.get(str(first.name)) if first is not None else None
        picked = self._picked(node)
        shape = assume(node, dims, source, self.count if picked is None else picked)
        if shape is None:
            return
        for axis, dim in enumerate(dims):
            if dim < 0 and picked is None:
                self.bound[symbol_of(name, axis, None)] = shape[axis]
        self._record(name, value.dtype or self._element(name), shape)

    def _picked(self, node: ir.Node) -> int | None:
        """How many elements a literal condition picks."""
        if node.op_type != "Compress" or len(node.inputs) < 2 or node.inputs[1] is None:
            return None
        condition = self.constants.get(str(node.inputs[1].name))
        return None if condition is None else int(np.count_nonzero(condition))

    def _element(self, name: str) -> ir.DataType | None:
        dtype = self.dtypes.get(name)
        return None if dtype is None else ir.DataType.from_numpy(dtype)

    def _like_its_input(self, node: ir.Node) -> None:
        """onnx infers nothing for some ops and some versions of them that keep the shape."""
        if node.domain or node.op_type not in SHAPE_KEEPING or not node.inputs:
            return
        source, out = node.inputs[0], node.outputs[0]
        if source is None or not out.name or out.name in self.shapes:
            return
        shape, dtype = self.shapes.get(str(source.name)), self.dtypes.get(str(source.name))
        if node.op_type == "MaxUnpool":
            sizes = self.constants.get(str(node.inputs[-1].name)) if node.inputs[-1] else None
            shape = None if sizes is None else tuple(sizes.tolist())
        if shape is not None and dtype is not None:
            self._record(out.name, ir.DataType.from_numpy(dtype), shape)

    def _evaluate(self, node: ir.Node) -> tuple[Array, ...] | None:
        if node.op_type == "Constant" and node.domain == "":
            held = constant(node)
            return None if held is None else (held,)
        names = [None if value is None else str(value.name) for value in node.inputs]
        arrays = [None if name is None else self.constants.get(name) for name in names]
        shapes = [None if name is None else self.shapes.get(name) for name in names]
        if node.op_type not in ("Shape", "Size"):
            known = [array for array in arrays if array is not None]
            if len(known) < sum(name is not None for name in names):
                return None
            if max((array.size for array in known), default=0) > RESULT_ELEMENTS:
                return None
            if _result_size(node, arrays, shapes) > RESULT_ELEMENTS:
                return None
        results = evaluate(node, arrays, shapes)
        if results is None or sum(array.size for array in results) > RESULT_ELEMENTS:
            return None
        return results

    def _infer(self, node: ir.Node) -> Mapping[str, onnx.TypeProto]:
        schema = self._schema(node)
        names = [str(value.name) for value in node.inputs if value is not None]
        if schema is None or any(name not in self.types for name in names):
            return {}
        data = {
            name: _tensor_proto(name, self.constants[name])
            for name in names
            if name in self.constants and self.constants[name].size <= DATA_ELEMENTS
        }
        # Subgraphs read values of this graph too.
        types = {name: self.types[name] for name in names}
        if bodies(node):
            own = {value.name for body in bodies(node) for value in values(body)}
            types = {name: kind for name, kind in self.types.items() if name not in own}
        try:
            return self._ask_onnx(schema, node, types, data)
        except onnx.checker.ValidationError:
            # An element type that the schema does not list (bfloat16 pooling runs all the same):
            # the shape does not depend on it.
            plain = {name: as_float32(kind) for name, kind in types.items()}
            try:
                results = self._ask_onnx(schema, node, plain, data)
            except _INFERENCE_ERRORS:
                return {}
            return {name: as_declared(kind, types[names[0]]) for name, kind in results.items()}
        except _INFERENCE_ERRORS:
            # Contradictory sizes: what the model itself declares is all that is left.
            self.contradictions += 1
            return {}

    def _infer_contrib(self, node: ir.Node) -> None:
        """What contrib.py knows of operators that onnx does not know."""
        names = [None if value is None else str(value.name) for value in node.inputs]
        if any(name is not None and name not in self.shapes for name in names):
            return
        shapes = [() if name is None else self.shapes[name] for name in names]
        types = [None if name is None else self._element(name) for name in names]
        found = contrib.infer(node, shapes, types, self.shapers)
        for value, known in zip(node.outputs, found, strict=False):
            if known is not None and value.name and value.name not in self.shapes:
                self._record(value.name, known[1], known[0])

    def _ask_onnx(
        self,
        schema: onnx.defs.OpSchema,
        node: ir.Node,
        types: dict[str, onnx.TypeProto],
        data: dict[str, onnx.TensorProto],
    ) -> Mapping[str, onnx.TypeProto]:
        return onnx.shape_inference.infer_node_outputs(
            schema,
            ir.serde.serialize_node(node),
            types,
            input_data=data,
            opset_imports=self.opsets,
            ir_version=self.model.ir_version,
        )

    def _schema(self, node: ir.Node) -> onnx.defs.OpSchema | None:
        key = (node.domain, node.op_type)
        if key not in self.schemas:
            version = self.model.graph.opset_imports.get(node.domain)
            if version is None and node.domain == "":
                version = self.model.graph.opset_imports.get("ai.onnx")
            known = version is not None and onnx.defs.has(node.op_type, version, node.domain)
            self.schemas[key] = (
                onnx.defs.get_schema(node.op_type, version or 1, node.domain) if known else None
            )
        return self.schemas[key]

    def _enter_type(self, name: str, inferred: onnx.TypeProto) -> None:
        if name in self.shapes:
            return
        # A type without a complete shape is no fact, but what follows may be inferred from it.
        self.types[name] = inferred
        if not inferred.HasField("tensor_type"):
            return
        tensor = inferred.tensor_type
        dims = [d.dim_value if d.HasField("dim_value") else -1 for d in tensor.shape.dim]
        dtype = ir.DataType(tensor.elem_type) if tensor.elem_type else None
        self._record(name, dtype, tuple(dims) if tensor.HasField("shape") else None)

    def declared(self, value: ir.Value) -> None:
        """Enter what the model declares for a value, symbols substituted."""
        assert value.name is not None
        dims: list[int] = []
        shape = value.shape
        if shape is None:
            axis = 0  # a rank known only from a binding
            while (number := self.bound.get(symbol_of(value.name, axis, None))) is not None:
                dims.append(number)
                axis += 1
            self._record(value.name, value.dtype, tuple(dims) if dims else None)
            return
        for axis, dim in enumerate(shape):
            known: Any = dim
            if not isinstance(dim, int):
                known = self.bound.get(symbol_of(value.name, axis, dim), -1)
                if known == -1 and dim.value:
                    known = _size_of(dim, self.bound)
            dims.append(known if isinstance(known, int) else -1)
        self._record(value.name, value.dtype, tuple(dims))

    def _record(self, name: str, dtype: ir.DataType | None, shape: Sequence[int] | None) -> None:
        """Enter type and shape; a negative or absurd dimension leaves the shape unknown."""
        if dtype is not None and dtype not in (ir.DataType.UNDEFINED, ir.DataType.STRING):
            self.dtypes[name] = np.dtype(dtype.numpy())
        if shape is None or not all(0 <= dim <= _LARGEST_DIM for dim in shape):
            if dtype is not None:
                self.types.setdefault(name, onnx.helper.make_tensor_type_proto(int(dtype), None))
            return
        self.shapes[name] = tuple(int(dim) for dim in shape)
        if dtype is not None:
            self.types[name] = onnx.helper.make_tensor_type_proto(int(dtype), self.shapes[name])


def _size_of(dim: ir.SymbolicDim, bound: Mapping[str, int]) -> int | None:
    """The number that a declared expression (`2*height + 1`) has, None where it is a mere name."""
    text = dim.value or ""
    if "**" in text or len(text) > 200:  # untrusted: a tower of powers never ends
        return None
    try:
        size = dim.evaluate(bound)
    except (ValueError, ArithmeticError, RecursionError):
        return None  # exporters write names in which no expression is: MatMulonnx::Reshape_5_dim_1
    return size if isinstance(size, int) else None


def _is_kept(dtype: ir.DataType, size: int) -> bool:
    if dtype == ir.DataType.STRING:
        return False
    return size <= (FLOAT_ELEMENTS if dtype.is_floating_point() else INTEGER_ELEMENTS)


def _result_size(
    node: ir.Node, arrays: Sequence[Array | None], shapes: Sequence[Shape | None]
) -> int:
    """Elements that evaluating a node would make, where that may be many; untrusted models ask."""
    if node.op_type in ("ConstantOfShape", "Expand", "Tile") and arrays:
        amounts = arrays[-1]
        if amounts is None or amounts.dtype.kind not in "iu":
            return 0
        size = math.prod(max(int(n), 1) for n in amounts.reshape(-1))
        # Tile multiplies, Expand broadcasts: an upper bound does for both.
        return size * max(math.prod(shapes[0] or ()), 1) if node.op_type == "Tile" else size
    if node.op_type == "Range" and all(array is not None for array in arrays):
        start, limit, delta = (float(a.reshape(-1)[0]) for a in arrays if a is not None)
        return int(abs((limit - start) / delta)) if delta else 0
    return 0


def _tensor_proto(name: str, array: Array) -> onnx.TensorProto:
    return onnx.numpy_helper.from_array(np.ascontiguousarray(array), name)


def _dtype_of(array: Array) -> ir.DataType:
    return ir.DataType.from_numpy(array.dtype)
