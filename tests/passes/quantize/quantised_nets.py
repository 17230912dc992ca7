"""Small models for tests of quantisation, each with a way to quantise it without data."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import onnx
import onnx_ir as ir
from onnx import TensorProto, helper, numpy_helper

from prunec.compiler.facts import Facts
from prunec.compiler.quantisation import Grid
from prunec.frontends.onnx import load
from prunec.frontends.shapes import infer_facts
from prunec.passes.quantize.emit import Codes, emit
from prunec.passes.quantize.places import Places, places
from prunec.passes.quantize.recipe import Recipe, parse_recipe
from prunec.passes.quantize.weights import weight_grid


def store(shape: tuple[int, ...], name: str, seed: int = 0) -> onnx.TensorProto:
    array = np.random.default_rng([seed, len(name)]).normal(size=shape).astype(np.float32)
    return numpy_helper.from_array(array, name)


def residual_net(opset: int = 17) -> onnx.ModelProto:
    """stem - relu - conv (block) - add - relu - pool - flatten - fc; the batch is symbolic."""
    nodes = [
        helper.make_node("Conv", ["x", "stem.w", "stem.b"], ["s"], "stem", pads=[1] * 4),
        helper.make_node("Relu", ["s"], ["r"], "relu"),
        helper.make_node("Conv", ["r", "block.w", "block.b"], ["c"], "block", pads=[1] * 4),
        helper.make_node("Add", ["c", "r"], ["a"], "add"),
        helper.make_node("Relu", ["a"], ["ar"], "relu2"),
        helper.make_node("MaxPool", ["ar"], ["m"], "pool", kernel_shape=[2, 2], strides=[2, 2]),
        helper.make_node("GlobalAveragePool", ["m"], ["g"], "gap"),
        helper.make_node("Flatten", ["g"], ["f"], "flat"),
        helper.make_node("Gemm", ["f", "fc.w", "fc.b"], ["y"], "fc", transB=1),
    ]
    shapes = {
        "stem.w": (8, 3, 3, 3),
        "stem.b": (8,),
        "block.w": (8, 8, 3, 3),
        "block.b": (8,),
        "fc.w": (5, 8),
        "fc.b": (5,),
    }
    graph = helper.make_graph(
        nodes,
        "net",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["batch", 3, 6, 6])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["batch", 5])],
        [store(shape, name) for name, shape in shapes.items()],
    )
    opsets = [helper.make_opsetid("", opset)]
    return helper.make_model(graph, opset_imports=opsets, ir_version=10 if opset > 20 else 8)


def found(model: onnx.ModelProto | ir.Model, text: str | Recipe) -> tuple[ir.Model, Facts, Places]:
    """The model, its facts and the places of a recipe."""
    loaded = load(model)
    facts = infer_facts(loaded)
    return loaded, facts, places(loaded, facts, recipe(text))


def recipe(text: str | Recipe) -> Recipe:
    return parse_recipe(text) if isinstance(text, str) else text


def grids(
    model: ir.Model, where: Places, signed: bool = False
) -> tuple[dict[str, Grid], Mapping[str, tuple[Grid, Codes]]]:
    """Grids that hold -4 to 4, and of weights what they hold."""
    scaler, line, _, _ = Recipe().parts()
    low, high = np.array([-4.0]), np.array([4.0])
    activations = {name: line(low, high, bits) for name, bits in where.activations.items()}
    weights = {}
    for name, place in where.weights.items():
        tensor = model.graph.initializers[name].const_value
        assert tensor is not None
        axis = place.input if place.block else place.axis
        grid = weight_grid(tensor.numpy(), scaler, place.bits, axis, block=place.block)
        weights[name] = (grid, grid.codes(tensor.numpy()))
    return activations, weights


def emitted(model: onnx.ModelProto | ir.Model, text: str | Recipe) -> ir.Model:
    """The model quantised by a recipe, on grids that nobody calibrated."""
    loaded, facts, where = found(model, text)
    activations, weights = grids(loaded, where)
    kernels = recipe(text).kernels
    return emit(loaded, facts, where, activations, weights, kernels=kernels).model
