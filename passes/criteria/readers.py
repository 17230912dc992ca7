"""Which weights read the channels of a hyperedge, as problems of least squares."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import networkx as nx
import numpy as np
from numpy.typing import NDArray

from prunec.compiler.gram import Gram
from prunec.compiler.hypergraph import KEPT, Hyperedge, Hypergraph
from prunec.compiler.problem import FloatArray
from prunec.passes.criteria.surgeon import Reader

Indices = NDArray[np.int64]
ABSENT = -1


@dataclass(frozen=True, slots=True, eq=False)
class Part:
    """One block of a contraction (of a grouped convolution there are several).

    groups: (D,) channel group of each column of its input, KEPT where it stays. factor: of its
    error: one over the variance of the contraction's output, all blocks together.
    """

    gram: Gram
    block: int
    groups: Indices
    factor: float

    def inverse(self, ridge: float) -> FloatArray:
        """(D, D) of the covariance with `ridge` times its mean diagonal added."""
        covariance = self.gram.covariance()[self.block]
        mean = float(np.trace(covariance)) / len(covariance)
        penalty = ridge * mean if mean > 0 else 1.0
        return np.linalg.inv(covariance + penalty * np.eye(len(covariance)))


@dataclass(frozen=True, slots=True, eq=False)
class Reading:
    """A part and the columns in it that may leave.

    inverse: (D, D), of the part. columns: (n, b) of each group, ABSENT where it has fewer than
    others. groups: (n,) ascending.
    """

    part: Part
    inverse: FloatArray
    columns: Indices
    groups: Indices

    def reader(self, numbers: Indices) -> Reader:
        """For the elimination of the groups `numbers`, ascending, by their place in it.

        Columns that stay count by what is in the inverse alone. Absent ones are unrelated to all.
        """
        flat = self.columns.reshape(-1)
        inverse, weight = self.inverse[np.ix_(flat, flat)], self.matrix[flat]
        absent = np.flatnonzero(flat == ABSENT)
        inverse[absent], inverse[:, absent], weight[absent] = 0.0, 0.0, 0.0
        inverse[absent, absent] = 1.0
        return Reader(inverse, weight, np.searchsorted(numbers, self.groups), self.part.factor)

    @property
    def matrix(self) -> FloatArray:
        """(D, M) the dense weight."""
        return np.asarray(self.part.gram.matrix[self.part.block])

    def without(self, gone: Indices) -> tuple[FloatArray, FloatArray]:
        """The weight solved again without these groups: (D, M), and (M,) what is to be added.

        Columns that are gone have 0. Least squares with the dense weight as the prior; without an
        intercept nothing is added.
        """
        out = self.columns[np.isin(self.groups, gone)].reshape(-1)
        out = out[out != ABSENT]
        gram, dense = self.part.gram, self.matrix
        solved = dense - self.inverse[:, out] @ np.linalg.solve(
            self.inverse[np.ix_(out, out)], dense[out]
        )
        solved[out] = 0.0
        if not gram.intercept:
            return solved, np.zeros(dense.shape[1])
        mean = gram.sums[self.part.block] / gram.rows
        return solved, np.asarray(mean @ (dense - solved))


def parts_of(graph: Hypergraph, grams: Mapping[str, Gram]) -> Iterator[Part]:
    """The contractions that read removable channels.

    Left out are those whose output is constant on the data, and blocks whose outputs leave with
    their only input (depthwise convolutions).
    """
    for gram in grams.values():
        groups = graph.axes.get(gram.source)
        if groups is None:
            continue
        spread = output_variance(gram)
        if not spread > 0:
            continue
        made = graph.axes.get(gram.target)
        for block, columns in enumerate(gram.sources):
            own = groups[columns]
            if (own == KEPT).all():
                continue
            if made is not None and _leaves_whole(own, made[gram.targets[block]]):
                continue
            yield Part(gram, block, own, 1 / spread)


def output_variance(gram: Gram) -> float:
    """Mean square of the output, about its mean where an intercept takes that up; all blocks."""
    through = gram.covariance() @ gram.matrix
    return float((gram.matrix * through).sum())


def _leaves_whole(own: Indices, made: Indices) -> bool:
    return bool((own == own[0]).all() and (made == own[0]).all())


def readings_of(
    graph: Hypergraph, parts: Sequence[Part], ridge: float
) -> Iterator[tuple[Indices, list[Reading]]]:
    """Sets of channel groups, ascending, and who reads them; sets in the order of hyperedges.

    Hyperedges with a reader in common are in one set, for what one of them loses the others can
    replace. Those that no part reads are left out.
    """
    for edges, own in _sets(graph, parts):
        groups = [np.arange(e.first, e.first + e.size) for e in edges]
        yield np.concatenate(groups), [_reading(part, ridge) for part in own]


def _sets(graph: Hypergraph, parts: Sequence[Part]) -> list[tuple[list[Hyperedge], list[Part]]]:
    """Hyperedges that are connected by parts that read them, and these parts."""
    edge_of_group = np.append(graph.edge_of_group(), -1)
    together: nx.Graph[tuple[str, int]] = nx.Graph()
    for k, part in enumerate(parts):
        read = np.unique(edge_of_group[part.groups])
        together.add_edges_from((("part", k), ("edge", e)) for e in read[read >= 0].tolist())
    found = []
    for names in nx.connected_components(together):
        edges = sorted(k for kind, k in names if kind == "edge")
        found.append((edges, sorted(k for kind, k in names if kind == "part")))
    return [
        ([graph.edges[e] for e in edges], [parts[k] for k in own]) for edges, own in sorted(found)
    ]


def _reading(part: Part, ridge: float) -> Reading:
    live = np.flatnonzero(part.groups != KEPT)
    rows = live[np.argsort(part.groups[live], kind="stable")]
    groups, first, counts = np.unique(part.groups[rows], return_index=True, return_counts=True)
    columns = np.full((len(groups), counts.max()), ABSENT)
    place = np.arange(len(rows)) - np.repeat(first, counts)
    columns[np.repeat(np.arange(len(groups)), counts), place] = rows
    return Reading(part, part.inverse(ridge), columns, groups)
