"""A masked model with grouped convolutions: the same function, less to multiply."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from prunec.compiler.errors import PlanError
from prunec.compiler.facts import Facts
from prunec.compiler.hypergraph import Hypergraph
from prunec.compiler.partition import REMOVED, Partition
from prunec.passes.apply import remove_dead
from prunec.passes.regroup.contents import alter
from prunec.passes.regroup.fold import fold
from prunec.passes.regroup.gathers import Gathers
from prunec.passes.regroup.mask import require_fit
from prunec.passes.regroup.permute import Order, natural_order, permute, sources
from prunec.passes.regroup.sites import Site, group_sites, stored_values

IntArray = NDArray[np.int64]


@dataclass(frozen=True, slots=True, eq=False)
class Regrouped:
    """A model with grouped convolutions.

    order: of the channel groups. gathers: names of the nodes that move channels, in graph order.
    sides: how many ends of grouped convolutions there are: so many Gathers an unfolded form has.
    """

    model: ir.Model
    order: Order
    gathers: tuple[str, ...]
    sides: int


def regroup(
    model: ir.Model,
    facts: Facts,
    graph: Hypergraph,
    partitions: Mapping[str, Partition],
    *,
    folded: bool = True,
) -> Regrouped:
    """Let convolutions read their own blocks only; equal to `masked(model, partitions)`.

    partitions: weight (F, C, *K) -> blocks, over the axes of `model`, nothing REMOVED. graph:
    coupled with `Freedom.residual`. folded: one order of the channels is found that makes most
    blocks contiguous, and stored tensors take it (`fold`); else every convolution stands between
    two Gathers, as published (SEEDS.md 2.1.5). Raises PlanError for a partition that fits no dense
    convolution with a weight of its own.
    """
    sites = {site.weight: site for site in group_sites(model, facts, graph)}
    wanted = {name: p for name, p in partitions.items() if p.groups > 1}
    for name, partition in wanted.items():
        _require_site(name, partition, sites.get(name))
    chosen = [site for site in sites.values() if site.weight in wanted]
    if folded:
        found = fold(graph, chosen, wanted)
        order, numbers = found.order, found.numbers
        copy = permute(model, graph, order)
    else:
        order, numbers, copy = natural_order(graph), {}, model.clone()
    stored = stored_values(copy)
    gathers = Gathers(copy.graph, keep_all=not folded)
    for site in chosen:
        own = wanted[site.weight]
        renumbered = numbers.get(site.weight, np.arange(own.groups))
        rows, columns = (
            np.argsort(renumbered[np.asarray(ids)[sources(groups, order)]], kind="stable")
            for ids, groups in ((own.outputs, site.outputs), (own.inputs, site.inputs))
        )
        _into_blocks(stored[site.weight], rows, columns, own.groups)
        for node in [user for user, _ in stored[site.weight].uses()]:
            node.attributes["group"] = ir.AttrInt64("group", own.groups)
            gathers.before(node, 0, columns, axis=1)
            if len(node.inputs) > 2 and node.inputs[2] is not None:
                gathers.stored(node, 2, rows)
            gathers.after(node, np.argsort(rows))
    remove_dead(copy.graph)
    return Regrouped(copy, order, gathers.names(), 2 * sum(len(s.nodes) for s in chosen))


def _require_site(name: str, partition: Partition, site: Site | None) -> None:
    require_fit(name, partition, None if site is None else site.shape)
    if REMOVED in partition.outputs or REMOVED in partition.inputs:
        raise PlanError(f"$.groups[{name!r}]: speaks of channels that the model does not have")


def _into_blocks(value: ir.Value, rows: IntArray, columns: IntArray, groups: int) -> None:
    """Store (F, C / G, *K): the blocks of a weight (F, C, *K) one above the other.

    rows, columns: (F,), (C,) positions of the outputs and inputs, block after block.
    """
    assert value.shape is not None, value.name
    kernel = tuple(int(n) for n in value.shape.numpy()[2:])
    width = len(columns) // groups

    def change(weight: NDArray[Any]) -> NDArray[Any]:
        own = np.repeat(columns.reshape(groups, width), len(rows) // groups, axis=0)
        return np.asarray(weight[rows[:, None], own])

    alter(value, change, (len(rows), width, *kernel))
