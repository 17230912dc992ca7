"""What must hold for every model and every choice: the two equations and a clean file."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import onnx
import onnx_ir as ir
from numpy.typing import NDArray
from properties.builder import feeds

from prunec.compiler.facts import Facts
from prunec.compiler.freedom import Freedom
from prunec.compiler.hypergraph import KEPT, Hypergraph
from prunec.compiler.interpret import interpret
from prunec.compiler.joins import OF_ACTIVATIONS, joins_hold
from prunec.frontends.checker import check_fully
from prunec.frontends.onnx import load, to_proto
from prunec.frontends.shapes import infer_facts
from prunec.passes.apply import prune
from prunec.passes.gate import gate
from prunec.passes.simplify.unshare import unshare
from prunec.runtime.recount import recount
from prunec.runtime.session import make_session

Mask = NDArray[np.bool_]


@dataclass(frozen=True, eq=False)
class Case:
    """A model, analysed. tolerance: of the largest output, where sums are not exact."""

    proto: onnx.ModelProto
    model: ir.Model
    facts: Facts
    graph: Hypergraph
    tolerance: float = 0.0


def analyse(proto: onnx.ModelProto, freedom: Freedom | None = None) -> Case:
    model = unshare(load(proto))
    facts = infer_facts(model)
    return Case(proto, model, facts, interpret(model, facts, freedom=freedom))


def random_masks(graph: Hypergraph, seed: int, count: int) -> list[Mask]:
    """Masks that keep at least one group of every hyperedge."""
    rng = np.random.default_rng(seed)
    masks = []
    for _ in range(count):
        mask = rng.random(graph.number_of_groups + 1) < rng.choice([0.3, 0.6])
        mask[-1] = True
        for e, edge in enumerate(graph.edges):
            mask[edge.first + rng.integers(edge.size)] = True
            if e in graph.subsets:
                allowed = graph.subsets[e]
                own = np.isin(np.arange(edge.size), allowed[rng.integers(len(allowed))])
                mask[edge.first : edge.first + edge.size] = own
        masks.append(with_joins_kept(graph, mask, rng))
    return masks


def with_joins_kept(graph: Hypergraph, mask: Mask, rng: np.random.Generator) -> Mask:
    """The mask with more groups, until nothing is carried that nobody wrote, and so on."""
    mask = mask.copy()
    while not joins_hold(graph, mask):
        for join in graph.joins:
            unwritten = mask[join.out] & ~np.any([mask[part] for part in join.parts], axis=0)
            writer = rng.integers(len(join.parts), size=len(unwritten))
            for k, part in enumerate(join.parts):
                mask[part[unwritten & (writer == k)]] = True
                if join.owned[k]:
                    mask[join.out[mask[part] & (part != KEPT)]] = True
    return mask


def counts(graph: Hypergraph, mask: Mask) -> list[int]:
    return [int(mask[e.first : e.first + e.size].sum()) for e in graph.edges]


def check(subject: Case, mask: Mask, seed: int = 0, full: bool = True) -> None:
    """Gated == pruned in every bit, polynomial == recount; with `full`, a clean model too."""
    gated = gate(subject.model, subject.facts, subject.graph, mask)
    pruned = prune(subject.model, subject.facts, subject.graph, mask)
    given = feeds(subject.proto, seed)
    want = _run(gated, given)
    got = _run(pruned, given)
    for name, a, b in zip((v.name for v in pruned.graph.outputs), want, got, strict=True):
        assert a.shape == b.shape, (name, a.shape, b.shape)
        error = float(np.abs(a - b).max()) if subject.tolerance else 0.0
        same = np.array_equal(a, b, equal_nan=True) or error < subject.tolerance * np.abs(a).max()
        assert same, (name, float(np.abs(a - b).max()))
    facts = infer_facts(pruned)
    counted = recount(pruned, facts, subject.graph.weights, subject.graph.held)
    kept = counts(subject.graph, mask)
    claimed = {name: cost(kept) for name, cost in subject.graph.costs.items()}
    # What a branch that vanishes leaves to its neighbours is not known before.
    vanished = any(not kept[branch[0]] for branch in subject.graph.branches)
    for name, claim in claimed.items():
        below = vanished and name in OF_ACTIVATIONS and counted[name] < claim
        assert counted[name] == claim or below, (name, counted[name], claim)
    if full:
        check_fully(pruned)
        _check_declared(pruned)
        _check_names(subject.model, pruned, subject.graph.order)


def _run(model: ir.Model, given: dict[str, NDArray[np.float32]]) -> list[NDArray[np.float32]]:
    return make_session(to_proto(model).SerializeToString(), optimise=False).run(given)


def _check_declared(pruned: ir.Model) -> None:
    """Every declared shape is the one that inference finds without it."""
    proto = to_proto(pruned)
    declared = {v.name: _sizes(v) for v in proto.graph.value_info}
    del proto.graph.value_info[:]
    facts = infer_facts(load(proto))
    stale = {
        name: (sizes, facts.shapes[name])
        for name, sizes in declared.items()
        if name in facts.shapes
        and sizes is not None
        and any(a is not None and a != b for a, b in zip(sizes, facts.shapes[name], strict=True))
    }
    assert not stale, stale
    present = {v.name for node in pruned.graph for v in node.outputs}
    assert declared.keys() <= present | set(pruned.graph.initializers), declared.keys() - present


def _sizes(value: onnx.ValueInfoProto) -> list[int | None] | None:
    shape = value.type.tensor_type.shape
    if not value.type.tensor_type.HasField("shape"):
        return None
    return [d.dim_value if d.HasField("dim_value") else None for d in shape.dim]


def _check_names(dense: ir.Model, pruned: ir.Model, order: tuple[str, ...]) -> None:
    """Nodes keep names, and order where no better one is found; interface and metadata stay."""
    before = list(order) or [node.name for node in dense.graph]
    kept = set(before)
    after = [node.name for node in pruned.graph if node.name in kept]
    assert after == [name for name in before if name in set(after)]
    assert pruned.graph.name == dense.graph.name
    assert dict(pruned.metadata_props) == dict(dense.metadata_props)
    assert dict(pruned.opset_imports) == dict(dense.opset_imports)
    for read in (lambda m: m.graph.inputs, lambda m: m.graph.outputs):
        before_, after_ = read(dense), read(pruned)
        assert [(v.name, v.dtype, v.shape) for v in before_] == [
            (v.name, v.dtype, v.shape) for v in after_
        ]
