"""Activation: how strongly, or how often, a channel fires where its consumers read it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import onnx_ir as ir

from prunec.compiler.errors import UsageError
from prunec.compiler.hypergraph import KEPT, Axis, Hypergraph
from prunec.compiler.problem import FloatArray
from prunec.compiler.spec import suggest
from prunec.compiler.stats import Stats

STATISTICS = ("mean", "nonzero", "running", "l0")


@dataclass(frozen=True, slots=True)
class Activation:
    """Mean |a|, or the share of non-zeros (statistic=nonzero), where channels are read.

    statistic: mean or nonzero, over samples; running, the average over batches of their means of
    |a|; l0, the same of the share of non-zeros in batches whose smallest element is 0 (behind a
    ReLU), of |a| in others. Source of the last two: mdpi2022, `MagnitudePruningCallback`.
    """

    name: ClassVar[str] = "activation"
    needs: ClassVar[str] = "activations"
    statistic: str = "mean"

    def __post_init__(self) -> None:
        if self.statistic not in STATISTICS:
            raise UsageError(
                f"criterion 'activation': unknown statistic {self.statistic!r}"
                f"{suggest(self.statistic, STATISTICS)}"
            )

    def __call__(self, model: ir.Model, graph: Hypergraph, stats: Stats | None) -> FloatArray:
        """(number_of_groups,), >= 0.

        A group scores the mean over its read axes of the mean over its positions there. A group
        that no measured axis holds scores its hyperedge's mean: nothing is known against it.
        """
        if stats is None:
            raise UsageError("criterion 'activation' needs data; give it with --data")
        kinds = {
            "mean": stats.mean_abs,
            "nonzero": stats.nonzero,
            "running": stats.running,
            "l0": stats.frequency,
        }
        measured = kinds[self.statistic]
        score, seen = _mean_over_axes(graph, measured)
        edge = graph.edge_of_group()
        number = len(graph.edges)
        known = np.maximum(np.bincount(edge, seen, number), 1)
        mean = np.bincount(edge, score * seen, number) / known
        return np.where(seen, score, mean[edge])


def _mean_over_axes(
    graph: Hypergraph, measured: Mapping[Axis, FloatArray]
) -> tuple[FloatArray, np.ndarray[tuple[int, ...], np.dtype[np.bool_]]]:
    """Score per group, and whether any axis told one."""
    number = graph.number_of_groups
    total, axes = np.zeros(number), np.zeros(number)
    for axis in dict.fromkeys(graph.reads):
        if axis not in measured or axis not in graph.axes:
            continue
        groups = graph.axes[axis]
        assert groups.shape == measured[axis].shape, (axis, groups.shape, measured[axis].shape)
        live = groups != KEPT
        positions = np.bincount(groups[live], minlength=number)
        sums = np.bincount(groups[live], measured[axis][live], number)
        total += sums / np.maximum(positions, 1)
        axes += positions > 0
    return total / np.maximum(axes, 1), axes > 0
