"""Importance on pairs of channel groups from the stored weights."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from prunec.compiler.errors import ModelError, UsageError
from prunec.compiler.hypergraph import KEPT, Groups, Hypergraph, WeightInfo
from prunec.compiler.pairwise import Block
from prunec.compiler.problem import FloatArray
from prunec.passes.criteria.stored import joint_sums
from prunec.passes.decode import contents_of

NORMS = ("frobenius", "none", "sum", "hyperedge")
Key = tuple[int, int]  # hyperedges, KEPT for what never leaves; the smaller one first


@dataclass(frozen=True, slots=True, eq=False)
class Importance:
    """``constant + linear . x + sum of blocks``: the objective of a `PairwiseProblem`."""

    constant: float
    linear: FloatArray
    blocks: tuple[Block, ...]


def importance(model: ir.Model, graph: Hypergraph, normalise: str) -> Importance:
    """Sum of |W| per pair of groups, over all contraction weights that lose channels.

    A weight W gives the matrix A of sums of |W| over all axes but the two that lose most channels;
    the others count as kept. normalise: `frobenius` divides every A by its Frobenius norm (as
    published: after the sum), `sum` by its sum, `none` by nothing. `hyperedge` divides, after
    adding up all weights between the same two hyperedges, by the Frobenius norm of the total: every
    pair of hyperedges has the same say, however many weights run between them. NaN counts as 0.
    Raises ModelError for infinite weights, UsageError where kernel rows may leave.
    """
    if graph.subsets:
        raise UsageError(
            "--objective pairwise knows pairs of channels, not rows and columns of kernels; "
            "leave out the removal of kernel positions, or use --objective separable"
        )
    parts: dict[Key, NDArray[Any]] = {}
    for _, matrix, rows, columns in matrices(model, graph):
        size = 1.0
        if normalise == "frobenius":
            size = float(np.sqrt(np.square(matrix).sum()))
        elif normalise == "sum":
            size = float(matrix.sum())
        if size > 0:
            _add(parts, graph, matrix / size, rows, columns)
    if normalise == "hyperedge":
        for key, part in parts.items():
            norm = float(np.sqrt(np.square(part, dtype=np.float64).sum()))
            parts[key] = part / np.float32(norm or 1.0)
    return _assembled(parts, graph)


def matrices(
    model: ir.Model, graph: Hypergraph
) -> Iterator[tuple[str, FloatArray, Groups, Groups]]:
    """Of every contraction weight: its name, sums of |W| over two axes and the groups of both."""
    made = {value for value, _ in graph.made}
    look = contents_of(model)
    for weight in graph.weights:
        if weight.value not in made or len(weight.shape) < 2 or 0 in weight.shape:
            continue
        axes = _axes(weight, graph)
        if not axes:
            continue
        array = look(weight.value)
        assert array is not None, weight.value
        sums = joint_sums(array, weight, look, axes)
        if np.isinf(sums).any():
            raise ModelError(f"weight {weight.value} holds infinite numbers; repair it")
        sums = np.nan_to_num(sums)
        groups = [graph.axes[weight.value, k] for k in axes]
        if len(axes) == 1:
            sums, groups = sums[:, None], [*groups, np.array([KEPT])]
        yield weight.value, sums, groups[0], groups[1]


def _axes(weight: WeightInfo, graph: Hypergraph) -> list[int]:
    """The axes that lose channels, two at most: those with the most groups."""
    live = [k for k in range(len(weight.shape)) if (weight.value, k) in graph.axes]
    live.sort(key=lambda k: -len(np.unique(graph.axes[weight.value, k])))
    return sorted(live[:2])


def _add(
    parts: dict[Key, NDArray[Any]],
    graph: Hypergraph,
    matrix: FloatArray,
    rows: Groups,
    columns: Groups,
) -> None:
    """Add a matrix over channels to the parts over groups, hyperedge by hyperedge."""
    row_groups, matrix = _merged(matrix, rows, 0)
    column_groups, matrix = _merged(matrix, columns, 1)
    for e, at, own in _by_edge(row_groups, graph):
        for f, theirs, other in _by_edge(column_groups, graph):
            part = matrix[at][:, theirs]
            key = (e, f) if e <= f else (f, e)
            if key not in parts:
                shape = [1 if k == KEPT else graph.edges[k].size for k in key]
                parts[key] = np.zeros(shape, np.float32)
            if e <= f:
                parts[key][np.ix_(own, other)] += part
            else:
                parts[key][np.ix_(other, own)] += part.T


def _merged(matrix: FloatArray, groups: Groups, axis: int) -> tuple[Groups, FloatArray]:
    """Sums over the channels of each group along an axis; groups ascending."""
    order = np.argsort(groups, kind="stable")
    found, starts = np.unique(groups[order], return_index=True)
    if len(found) == len(groups):
        return found, np.take(matrix, order, axis)
    return found, np.add.reduceat(np.take(matrix, order, axis), starts, axis)


def _by_edge(groups: Groups, graph: Hypergraph) -> Iterator[tuple[int, slice, NDArray[np.int64]]]:
    """(hyperedge or KEPT, slice of ascending `groups`, positions within the hyperedge)."""
    starts = np.array([edge.first for edge in graph.edges])
    edges = np.where(groups == KEPT, KEPT, np.searchsorted(starts, groups, "right") - 1)
    for e in np.unique(edges).tolist():
        low, high = np.searchsorted(edges, [e, e + 1])
        first = 0 if e == KEPT else graph.edges[e].first
        inside = np.zeros(high - low, np.int64) if e == KEPT else groups[low:high] - first
        yield e, slice(int(low), int(high)), inside


def _assembled(parts: dict[Key, NDArray[Any]], graph: Hypergraph) -> Importance:
    """Parts with KEPT are linear or constant; the diagonal of a hyperedge with itself is linear."""
    constant, linear = 0.0, np.zeros(graph.number_of_groups)
    blocks = []
    for (e, f), part in sorted(parts.items(), key=lambda item: item[0]):
        if f == KEPT:
            constant += float(part.sum(dtype=np.float64))
            continue
        edge = graph.edges[f]
        own = slice(edge.first, edge.first + edge.size)
        if e == KEPT:
            linear[own] += part[0]
            continue
        if e == f:
            linear[own] += part.diagonal()
            np.fill_diagonal(part, 0.0)
        if part.any():
            blocks.append(Block(e, f, part))
    return Importance(constant, linear, tuple(blocks))
