"""A model that is run again and again with other weights of some of its contractions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import onnx_ir as ir

from prunec.compiler.facts import Facts
from prunec.compiler.gram import Gram
from prunec.compiler.problem import FloatArray
from prunec.compiler.walk import bodies, nodes
from prunec.passes.recovery.forms import Form, form_of
from prunec.passes.recovery.storage import stored
from prunec.runtime.inputs import Array, Feeds
from prunec.runtime.recovery.part import part
from prunec.runtime.session import Session, make_session

PREFIX = "prunec.changed"


@dataclass(frozen=True, slots=True, eq=False)
class Place:
    """Where a contraction gets another weight. rank, axis: of its output and the channels on it."""

    gram: Gram
    node: ir.Node
    position: int
    form: Form
    shape: tuple[int, ...]
    dtype: np.dtype
    rank: int

    def feeds(self, matrix: FloatArray, shift: FloatArray) -> Feeds:
        """What is fed for a weight (G, D, M) and what is added to its output, (G, M)."""
        weight = self.form.stored(matrix, self.shape).astype(self.dtype)
        size = int(self.gram.targets.max()) + 1
        full = np.zeros(size)
        full[self.gram.targets] = shift
        spread = [1] * self.rank
        spread[self.gram.target[1] % self.rank] = size
        name = self.gram.node
        return {
            f"{PREFIX}.{name}.weight": weight,
            f"{PREFIX}.{name}.shift": full.reshape(spread).astype(self.dtype),
        }


def place_of(model: ir.Model, facts: Facts, gram: Gram) -> Place | None:
    """Where the contraction of a Gram matrix has its weight; None inside of bodies."""
    for node in model.graph:
        if node.name != gram.node or gram.target[0] not in facts.shapes:
            continue
        for position, value in enumerate(node.inputs):
            weight = stored(value)
            if weight is None or weight.name != gram.weight or value is None:
                continue
            form = form_of(node, position, weight.shape)
            dtype = value.dtype or ir.DataType.FLOAT
            if form is not None:
                rank = len(facts.shapes[gram.target[0]])
                return Place(gram, node, position, form, weight.shape, dtype.numpy(), rank)
    return None


class Changed:
    """What comes before the contractions runs once per batch, what comes behind every time."""

    def __init__(
        self,
        model: ir.Model,
        places: Sequence[Place],
        outputs: Sequence[str],
        provider: str = "cpu",
        threads: int = 1,
    ) -> None:
        self._places, self._model = places, model
        self._open = _opened(model, places)
        fed = {f"{PREFIX}.{p.gram.node}.{what}" for p in places for what in ("weight", "shift")}
        tainted, self._frontier = _behind(self._open.graph, fed)
        self.outputs = [name for name in outputs if name in tainted]
        self._provider, self._threads = provider, threads
        self._before: Session | None = None
        self._after: Session | None = None
        self._held: Feeds = {}

    def start(self, feeds: Feeds) -> None:
        """Run what comes before, on a batch."""
        wanted = sorted(self._frontier - feeds.keys())
        found: Feeds = {}
        if wanted:
            if self._before is None:
                self._before = self._session(self._model, feeds, wanted)
            found = _run(self._before, feeds, wanted)
        self._held = {**feeds, **found}

    def run(self, weights: Feeds) -> dict[str, Array]:
        """The outputs behind the contractions, with these weights (`Place.feeds`, all places)."""
        feeds = {**self._held, **weights}
        if self._after is None:
            self._after = self._session(self._open, feeds, self.outputs)
        return _run(self._after, feeds, self.outputs)

    def _session(self, model: ir.Model, given: Mapping[str, Array], wanted: list[str]) -> Session:
        made = part(model, given, wanted)
        return make_session(made, provider=self._provider, threads=self._threads)


def _run(session: Session, feeds: Feeds, wanted: Sequence[str]) -> dict[str, Array]:
    own = {spec.name: feeds[spec.name] for spec in session.inputs}
    return dict(zip(wanted, session.run(own, wanted), strict=True))


def _opened(model: ir.Model, places: Sequence[Place]) -> ir.Model:
    """A clone whose contractions get their weights, and a shift of what they make, as inputs."""
    clone = model.clone()
    named = {node.name: node for node in clone.graph}
    for place in places:
        node, stem = named[place.gram.node], f"{PREFIX}.{place.gram.node}"
        y = node.outputs[0]
        uses = list(y.uses())
        kind = ir.TensorType(ir.DataType.from_numpy(place.dtype))
        weight = ir.Value(name=f"{stem}.weight", shape=ir.Shape(place.shape), type=kind)
        shift = ir.Value(name=f"{stem}.shift", shape=ir.Shape([None] * place.rank), type=kind)
        clone.graph.inputs.extend([weight, shift])
        node.replace_input_with(place.position, weight)
        name = str(y.name)
        y.name = f"{stem}.plain"
        moved = ir.Value(name=name, type=y.type, shape=y.shape)
        clone.graph.insert_after(node, ir.node("Add", [y, shift], outputs=[moved], name=stem))
        for user, position in uses:
            user.replace_input_with(position, moved)
        for position, output in enumerate(clone.graph.outputs):
            if output is y:
                clone.graph.outputs[position] = moved
    return clone


def _behind(graph: ir.Graph, fed: set[str]) -> tuple[set[str], set[str]]:
    """The values that depend on these inputs, and those that they are computed from besides."""
    tainted, read_by_them = set(fed), set[str]()
    known = {str(v.name) for v in graph.inputs} - set(graph.initializers)
    for node in graph:
        read = {str(v.name) for v in node.inputs if v is not None}
        for inner in (n for body in bodies(node) for n in nodes(body)):
            read |= {str(v.name) for v in inner.inputs if v is not None}
        for body in bodies(node):
            read |= {str(v.name) for v in body.outputs}
        made = {str(v.name) for v in node.outputs if v.name}
        if not tainted.isdisjoint(read):
            tainted |= made
            read_by_them |= read
        elif node.op_type != "Constant":
            known |= made
    return tainted, (read_by_them & known) - fed
