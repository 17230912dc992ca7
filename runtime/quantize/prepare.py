"""The model that is quantised: norms folded, and in an operator set that has the types."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import onnx_ir as ir

from prunec.compiler.facts import Facts
from prunec.frontends.fold import folded as folded_weights
from prunec.frontends.functions import inlined
from prunec.frontends.newer import raised
from prunec.frontends.shapes import infer_facts
from prunec.passes.apply import remove_dead
from prunec.passes.quantize.blocks import untransposed
from prunec.passes.quantize.copies import without_copies
from prunec.passes.quantize.emit import needed_opset
from prunec.passes.quantize.norms import fold_norms
from prunec.passes.quantize.own_biases import own_biases
from prunec.passes.quantize.places import NO_EDGES, Edges, Places, places
from prunec.passes.quantize.recipe import Recipe


@dataclass(frozen=True, slots=True, eq=False)
class Prepared:
    """model: a copy, still float. norms: names of the BatchNormalization nodes that it lost."""

    model: ir.Model
    facts: Facts
    places: Places
    norms: tuple[str, ...]


def prepared(
    model: ir.Model,
    recipe: Recipe,
    shapes: Mapping[str, tuple[int, ...]] | None = None,
    edges: Edges = NO_EDGES,
) -> Prepared:
    """A copy of `model` without norms that can be folded, and the places of a recipe in it.

    Calls of functions are expanded, weights that are computed from others stored. Computes what
    `model` computes. Raises ModelError where the recipe's types need a newer operator set and the
    model can't be converted.
    """
    copy = folded_weights(inlined(model)).clone()
    without_copies(copy)
    folded = fold_norms(copy)
    if recipe.activation_bits is None:
        untransposed(copy)  # onnxruntime multiplies with packed integers in this form alone
    own_biases(copy)
    remove_dead(copy.graph)
    facts = infer_facts(copy, shapes)
    found = places(copy, facts, recipe, edges)
    half = any(facts.dtypes.get(name) == np.float16 for name in found.weights)
    least = needed_opset(found, half, kernels=recipe.kernels)
    if found.nodes and copy.opset_imports.get("", 1) < least:
        copy = raised(copy, least)
        facts = infer_facts(copy, shapes)
        found = places(copy, facts, recipe, edges)
    return Prepared(copy, facts, found, folded.norms)
