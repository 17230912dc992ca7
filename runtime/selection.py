"""Comparing two graphs that choose by comparing floats: boxes, positions, classes.

Rounding may turn such a choice around, and then all that follows differs though nothing is wrong;
or nothing is chosen at all, and then equal outputs prove nothing. So the gated graph's choices are
given to the pruned one: what decides them must be equal, and so must all that follows from them.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from prunec.compiler.facts import Facts
from prunec.compiler.hypergraph import Hypergraph
from prunec.passes.gate import Mask
from prunec.runtime.inputs import Feeds
from prunec.runtime.session import make_session

Array = NDArray[Any]
# Their results jump where their inputs change by a rounding error, floats or not.
STEPS = frozenset({"Ceil", "Floor", "Hardmax", "Round", "Sign"})
COUNTING = frozenset({"NonMaxSuppression", "Unique"})  # how many they return depends on floats


@dataclass(frozen=True, slots=True, eq=False)
class Pair:
    """Two graphs that must agree, and the analysis of the dense model they come from."""

    gated: ir.Model
    pruned: ir.Model
    facts: Facts
    graph: Hypergraph
    mask: Mask

    def kept(self, name: str, array: Any) -> Any:
        """A value of the gated graph without its removed channels; sequences have none."""
        for axis in range(array.ndim if isinstance(array, np.ndarray) else 0):
            groups = self.graph.axes.get((name, axis))
            if groups is not None:
                array = np.compress(self.mask[groups], array, axis)
        return array


@dataclass(frozen=True, slots=True)
class Choices:
    """chosen: values that floats decide by comparison -> op type. deciding: those floats."""

    chosen: Mapping[str, str]
    deciding: tuple[str, ...]


def choices(pair: Pair) -> Choices:
    """What both graphs choose by comparing floats that depend on the data."""
    chosen: dict[str, str] = {}
    deciding: dict[str, None] = {}
    both = _values(pair.gated.graph).keys() & _values(pair.pruned.graph).keys()
    facts, stored = pair.facts, pair.graph.trace.constants
    for node in pair.pruned.graph:
        live = [n for n in _names(node.inputs) if n in both and n not in stored]
        floats = [n for n in live if _is_float(n, facts) and n not in facts.constants]
        steps = node.op_type in STEPS and not node.domain
        read = [v for v in node.outputs if v.uses()]
        own = [n for n in _names(read) if n in both and n in facts.dtypes]
        own = [n for n in own if (steps or not _is_float(n, facts)) and n not in facts.constants]
        if floats and own:
            chosen.update(dict.fromkeys(own, node.op_type))
            deciding.update(dict.fromkeys(floats))
    return Choices(chosen, tuple(deciding))


def with_same_choices(
    pair: Pair, feeds: Feeds, outputs: Iterable[str]
) -> Iterator[tuple[str, Array, Array]] | None:
    """(name, gated, pruned) of `outputs` and of the floats that decide, choices being the same.

    None where nothing is chosen, or where a choice has another shape than it can have.
    """
    found = choices(pair)
    if not found.chosen:
        return None
    inputs = {v.name for v in pair.pruned.graph.inputs}
    deciding = [name for name in found.deciding if name not in inputs]
    names = [*(n for n in outputs if n not in found.chosen), *deciding]
    watch = list(dict.fromkeys([*names, *found.chosen]))
    want = _run(pair.gated, pair.facts, watch, feeds, {})
    given = {name: pair.kept(name, want[name]) for name in found.chosen}
    got = _run(pair.pruned, pair.facts, watch, feeds, given)
    for name, op in found.chosen.items():
        if op not in COUNTING and got[name].shape != given[name].shape:
            return None
    return ((n, pair.kept(n, want[n]), got[n]) for n in dict.fromkeys(names))


def _run(
    model: ir.Model, facts: Facts, watch: list[str], feeds: Feeds, given: Mapping[str, Array]
) -> dict[str, Array]:
    """Contents of the watched values where those of `given` are replaced for whoever reads them."""
    clone = model.clone()
    values = _values(clone.graph)
    for name, array in given.items():
        old = values[name]
        new = ir.Value(name=f"{name}.given", const_value=ir.tensor(array, name=f"{name}.given"))
        new.shape, new.type = (
            ir.Shape(array.shape),
            ir.TensorType(ir.DataType.from_numpy(array.dtype)),
        )
        clone.graph.register_initializer(new)
        for user, position in list(old.uses()):
            user.replace_input_with(position, new)
    for name in watch:
        value = values[name]
        value.type = value.type or ir.TensorType(ir.DataType.from_numpy(facts.dtypes[name]))
        if not value.is_graph_output():
            clone.graph.outputs.append(value)
    session = make_session(clone, optimise=False)
    return dict(zip(watch, session.run(feeds, watch), strict=True))


def _names(values: Iterable[ir.Value | None]) -> Iterator[str]:
    return (value.name for value in values if value is not None and value.name)


def _is_float(name: str, facts: Facts) -> bool:
    dtype = facts.dtypes.get(name)
    if dtype is None or dtype.kind == "b":
        return False
    return ir.DataType.from_numpy(dtype).is_floating_point()


def _values(graph: ir.Graph) -> dict[str, ir.Value]:
    found = {v.name: v for v in graph.inputs if v.name}
    return found | {v.name: v for node in graph for v in node.outputs if v.name}
