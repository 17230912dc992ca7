"""A part of a model as a model of its own."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import onnx_ir as ir

from prunec.passes.apply import remove_dead
from prunec.passes.insert import values_by_name
from prunec.runtime.inputs import Array


def part(model: ir.Model, given: Mapping[str, Array], wanted: Sequence[str]) -> ir.Model:
    """What computes `wanted` from `given`, values by name; the model itself is not changed.

    given: samples of what is fed, for element types and ranks; may hold more than is needed. Graph
    inputs that are still needed stay inputs. wanted: none of them given.
    """
    clone = model.clone()
    graph = clone.graph
    values = values_by_name(graph)
    inputs = {value.name for value in graph.inputs}
    for name, array in given.items():
        if name in inputs or name not in values:
            continue
        old = values[name]
        old.name = f"{name}.computed"
        fed = ir.Value(name=name)
        fed.type = ir.TensorType(ir.DataType.from_numpy(np.asarray(array).dtype))
        fed.shape = ir.Shape([None] * np.ndim(array))
        for node, position in list(old.uses()):
            node.replace_input_with(position, fed)
        graph.inputs.append(fed)
    graph.outputs.clear()
    graph.outputs.extend(values[name] for name in wanted)
    remove_dead(graph)
    for value in list(graph.inputs):
        if not value.uses() and not value.is_graph_output():
            graph.inputs.remove(value)
    return clone
