"""Emission: a model with QuantizeLinear and DequantizeLinear where a recipe has its places."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from prunec.compiler.facts import Facts
from prunec.compiler.ops import op_key
from prunec.compiler.quantisation import Grid
from prunec.compiler.walk import values
from prunec.passes.apply import remove_dead
from prunec.passes.quantize.norms import new_initializer
from prunec.passes.quantize.places import NodePlace, Places

Codes = NDArray[Any]
Weights = Mapping[str, tuple[Grid, Codes]]
TYPES: Mapping[tuple[int, bool], ir.DataType] = {
    (4, True): ir.DataType.INT4,
    (4, False): ir.DataType.UINT4,
    (8, True): ir.DataType.INT8,
    (8, False): ir.DataType.UINT8,
    (16, True): ir.DataType.INT16,
    (16, False): ir.DataType.UINT16,
}
PER_CHANNEL_OPSET, HALF_OPSET, NARROW_OPSET = 13, 19, 21
IR_VERSIONS = {13: 7, 19: 9, 21: 10}  # the first that has the operator set
INT32 = np.iinfo(np.int32)
METADATA = "prunec.quantize"


@dataclass(frozen=True, slots=True, eq=False)
class Emitted:
    """floats: bias -> why it stays float; its layer has no integer kernel then."""

    model: ir.Model
    floats: Mapping[str, str]


def needed_opset(places: Places, half: bool = False, *, kernels: bool = True) -> int:
    """The first operator set of the default domain that has the types of these places.

    half: whether scales are float16.
    """
    weights = [w.bits <= 4 or bool(w.block) for w in places.weights.values()]
    values = [b > 8 or (b == 4 and not kernels) for b in places.activations.values()]
    if any(weights) or any(values):
        return NARROW_OPSET
    return HALF_OPSET if half else PER_CHANNEL_OPSET


def emit(
    model: ir.Model,
    facts: Facts,
    places: Places,
    activations: Mapping[str, Grid],
    weights: Weights,
    *,
    kernels: bool = True,
    recipe: str = "",
) -> Emitted:
    """A new model whose values and weights are integers where grids say so.

    model, places: after `fold_norms`; its operator set is at least `needed_opset`. activations:
    grids of values in `places.activations`, per tensor; those in `places.same` take theirs.
    weights: grid and codes of stored tensors, of their shape; what is in neither stays float. A
    bias is int32 with ``scale = input scale * weight scale`` where both are known, as the integer
    kernels of onnxruntime want it. kernels: codes of fewer bits than 8 travel as 8-bit integers,
    so that its 8-bit kernels run: stored weights of 4 bits behind a Cast, which it carries out at
    load, activations behind a Clip of integers. Without, the ONNX types of 4 bits are used all the
    way, and no kernel of onnxruntime computes in them. Names: weight `w` becomes the
    DequantizeLinear of `w.codes`; every reader of value `v` reads `v.dequantized` instead. Why not
    quantize_static of onnxruntime: it chooses scales and integers of weights itself and takes none
    that were rounded or trained elsewhere, and its 4-bit models run in float.
    """
    work = _Emission(model.clone(), facts, dict(activations), dict(weights), kernels)
    for name in places.same:
        root = places.same[name]
        if root in activations:
            work.activations[name] = activations[root]
    for place in places.nodes:
        work.bias(place)
    for name, (grid, codes) in weights.items():
        work.weight(name, grid, codes)
    for name, grid in work.activations.items():
        work.activation(name, grid, clip=name in activations)
    done = work.model
    if recipe:
        done.metadata_props[METADATA] = recipe
    opset = done.opset_imports.get("", 1)
    for version, least in IR_VERSIONS.items():
        if opset >= version:
            done.ir_version = max(done.ir_version, least)
    remove_dead(done.graph)
    return Emitted(done, dict(work.floats))


def _weight_type(grid: Grid) -> ir.DataType:
    return TYPES[grid.stored, grid.signed]


def _activation_type(grid: Grid, kernels: bool) -> ir.DataType:
    """8 bits hold what is narrower, where kernels are to run it or the type does not fit."""
    narrow = not kernels and grid.bits == 4
    return TYPES[4 if narrow else max(8, grid.stored), grid.signed]


@dataclass(slots=True, eq=False)
class _Emission:
    """A clone that is being rewritten; lives inside `emit`."""

    model: ir.Model
    facts: Facts
    activations: dict[str, Grid]
    weights: dict[str, tuple[Grid, Codes]]
    kernels: bool
    floats: dict[str, str] = field(default_factory=dict)
    values: dict[str, ir.Value] = field(default_factory=dict)
    nodes: dict[str, ir.Node] = field(default_factory=dict)
    taken: set[str] = field(default_factory=set)
    freed: set[str] = field(default_factory=set)  # names of weights that are made by a node now

    def __post_init__(self) -> None:
        """Index the graph by name."""
        graph = self.model.graph
        self.values = {str(v.name): v for v in graph.inputs}
        self.values |= {str(v.name): v for node in graph for v in node.outputs}
        self.nodes = {str(node.name): node for node in graph}
        self.taken = {str(value.name) for value in values(graph)}

    def activation(self, name: str, grid: Grid, clip: bool) -> None:
        """Let the readers of a value read its integers' values."""
        graph, value = self.model.graph, self.values[name]
        dtype, float_type = _activation_type(grid, self.kernels), self._float_type(name)
        scale = self._scalar(f"{name}.scale", grid.scale, float_type)
        zero = self._scalar(f"{name}.zero", grid.zero, dtype)
        readers = [(user, k) for user, k in value.uses()]
        anchor, after = self._after(value)
        made = [
            self._node("QuantizeLinear", [value, scale, zero], f"{name}.quantized", dtype, value)
        ]
        stored = 4 if dtype in (ir.DataType.INT4, ir.DataType.UINT4) else 8 * dtype.itemsize
        if clip and grid.bits < stored:
            low = self._scalar(f"{name}.low", np.array([grid.low]), dtype)
            high = self._scalar(f"{name}.high", np.array([grid.high]), dtype)
            inputs = [made[-1].outputs[0], low, high]
            made.append(self._node("Clip", inputs, f"{name}.clipped", dtype, value))
        inputs = [made[-1].outputs[0], scale, zero]
        made.append(
            self._node("DequantizeLinear", inputs, f"{name}.dequantized", float_type, value)
        )
        out = made[-1].outputs[0]
        for user, position in readers:
            user.replace_input_with(position, out)
        if value.is_graph_output():
            self._swap_output(value, out)
        if after:
            graph.insert_after(anchor, made)
        else:
            graph.insert_before(anchor, made)

    def weight(self, name: str, grid: Grid, codes: Codes) -> None:
        """Store integers in the place of a float tensor."""
        graph, old = self.model.graph, self.model.graph.initializers[name]
        dtype, float_type = _weight_type(grid), self._float_type(name)
        readers = [(user, k) for user, k in old.uses()]
        del graph.initializers[name]
        old.name = None
        self.freed.add(name)
        stored = self._stored(f"{name}.codes", codes, dtype)
        made: list[ir.Node] = []
        shown = stored
        wide = self.kernels and bool(self.activations) and not grid.block
        if wide and dtype in (ir.DataType.INT4, ir.DataType.UINT4):
            dtype = TYPES[8, grid.signed]
            made.append(self._node("Cast", [stored], f"{name}.cast", dtype, stored, to=int(dtype)))
            shown = made[0].outputs[0]
        # An absent zero point is 0; onnxruntime finds its kernels for Gemm and MatMul by one.
        keep = any(op_key(user) != "Conv" for user, _ in readers) and not grid.block
        made.append(self._dequantised(name, shown, grid, dtype, float_type, keep))
        only = readers[0][0] if len(readers) == 1 else graph[0]
        graph.insert_before(only if only.graph is graph else graph[0], made)
        for user, position in readers:
            user.replace_input_with(position, made[-1].outputs[0])

    def bias(self, place: NodePlace) -> None:
        """Store a bias as int32 in steps of its layer's products, where these are known."""
        if not place.bias or place.weight not in self.weights:
            return
        node = self.nodes[place.node]
        grid = self.activations.get(self._input(node))
        weight, _ = self.weights[place.weight]
        if grid is None or weight.block or (weight.axis is None and weight.scale.size != 1):
            return
        adder = self.nodes[place.adds] if place.adds else node
        position = 2
        if place.adds:
            named = [v is not None and v.name == place.bias for v in adder.inputs]
            position = named.index(True)
        value = adder.inputs[position]
        assert value is not None and value.const_value is not None
        array = value.const_value.numpy()
        scale = (grid.scale.astype(np.float64) * weight.scale).astype(np.float32)
        whole = np.rint(array.astype(np.float64) / scale.astype(np.float64))
        if array.ndim != 1 or scale.size not in (1, array.size):
            self.floats[place.bias] = "its shape is not that of the outputs"
            return
        if not np.isfinite(whole).all() or np.abs(whole).max(initial=0) > INT32.max:
            self.floats[place.bias] = "its integers do not fit into 32 bits"
            return
        name = place.bias
        if len(list(value.uses())) != 1:  # `own_biases` leaves none such
            self.floats[name] = "several nodes read it"
            return
        axis = 0 if scale.size > 1 else None
        graph = self.model.graph
        del graph.initializers[name]
        value.name = None
        self.freed.add(name)
        bias_grid = Grid(16, True, scale, np.zeros(scale.shape, np.int64), axis)
        stored = self._stored(f"{name}.codes", whole.astype(np.int32), ir.DataType.INT32)
        made = self._dequantised(name, stored, bias_grid, ir.DataType.INT32, value.dtype, False)
        graph.insert_before(adder, [made])
        adder.replace_input_with(position, made.outputs[0])

    def _dequantised(
        self,
        name: str,
        codes: ir.Value,
        grid: Grid,
        dtype: ir.DataType,
        float_type: ir.DataType | None,
        keep: bool,
    ) -> ir.Node:
        """The node that makes value `name` from its codes; keep: zero points that are all 0."""
        kind = float_type or ir.DataType.FLOAT
        shape = () if grid.axis is None else grid.scale.shape
        scale = self._stored(f"{name}.scale", grid.scale.reshape(shape), kind)
        inputs = [codes, scale]
        if grid.zero.any() or keep:
            inputs.append(self._stored(f"{name}.zero", grid.zero.reshape(shape), dtype))
        options: dict[str, int] = {} if grid.axis is None else {"axis": grid.axis}
        if grid.block:
            options["block_size"] = grid.block
        return self._node("DequantizeLinear", inputs, name, kind, codes, **options)

    def _scalar(self, name: str, array: NDArray[Any], dtype: ir.DataType) -> ir.Value:
        return self._stored(name, array.reshape(()), dtype)

    def _stored(self, name: str, array: NDArray[Any], dtype: ir.DataType) -> ir.Value:
        contents = np.asarray(array).astype(dtype.numpy())
        return new_initializer(self.model.graph, self._unused(name), contents)

    def _unused(self, name: str) -> str:
        while name in self.taken:
            name += "_"
        self.taken.add(name)
        return name

    def _node(
        self,
        op: str,
        inputs: list[ir.Value],
        name: str,
        dtype: ir.DataType,
        like: ir.Value,
        **options: int,
    ) -> ir.Node:
        name = name if name in self.freed else self._unused(name)
        out = ir.Value(name=name, shape=like.shape, type=ir.TensorType(dtype))
        return ir.node(op, inputs, options, outputs=[out], name=f"{name}.{op}")

    def _float_type(self, name: str) -> ir.DataType:
        half = self.facts.dtypes.get(name) == np.float16
        return ir.DataType.FLOAT16 if half else ir.DataType.FLOAT

    def _input(self, node: ir.Node) -> str:
        value = node.inputs[0]
        return "" if value is None else str(value.name)

    def _after(self, value: ir.Value) -> tuple[ir.Node, bool]:
        """The node that new nodes stand after, or before."""
        maker = value.producer()
        return (maker, True) if maker is not None else (self.model.graph[0], False)

    def _swap_output(self, value: ir.Value, out: ir.Value) -> None:
        """The dequantised value leaves the graph, under the name that the interface has."""
        graph, name = self.model.graph, value.name
        for position, given in enumerate(graph.outputs):
            if given is value:
                graph.outputs[position] = out
        value.name = self._unused(f"{name}.exact")
        out.name, out.shape = name, value.shape
