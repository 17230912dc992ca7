"""Reconstruction: what the model loses when what reads a channel is solved again without it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import onnx_ir as ir

from prunec.compiler.errors import UsageError
from prunec.compiler.hypergraph import Hypergraph
from prunec.compiler.problem import FloatArray
from prunec.compiler.stats import Stats
from prunec.passes.criteria.magnitude import Magnitude
from prunec.passes.criteria.surgeon import EXACT_ROWS, rising


@dataclass(frozen=True, slots=True)
class Reconstruction:
    """What the outputs lose by a channel group once the weights that read it are solved again.

    The groups of a hyperedge leave one after the other, always the one that the others replace
    best. At points kept counts the model is run with the weights solved again, on at most probes
    samples; in between the loss follows the error of these weights' outputs. The loss: divergence
    in nats from the class probabilities of the dense model, of other outputs half the squared
    error over the variance. points=0 measures nothing: the errors themselves are the scores.
    ridge: share of the mean square of an input that is added to all. rows: above so many columns
    of a weight several groups leave together.
    """

    name: ClassVar[str] = "reconstruction"
    needs: ClassVar[str] = "removals"
    comparable: ClassVar[bool] = True
    points: int = 7
    probes: int = 256
    ridge: float = 1e-3
    rows: int = EXACT_ROWS

    def __post_init__(self) -> None:
        if not 0 < self.ridge < np.inf:
            raise UsageError("criterion 'reconstruction': ridge must be above 0")
        for name, least in (("points", 0), ("probes", 1), ("rows", 1)):
            if getattr(self, name) < least:
                raise UsageError(f"criterion 'reconstruction': {name} must be at least {least}")

    def __call__(self, model: ir.Model, graph: Hypergraph, stats: Stats | None) -> FloatArray:
        """(number_of_groups,) loss that each adds when it leaves, >= 0, rising in that order.

        A hyperedge that no measured weight reads (queries and keys) loses by its last group what
        the median of the others does; its groups have shares of that by their squared weights.
        """
        if stats is None:
            raise UsageError("criterion 'reconstruction' needs data; give it with --data")
        scores = np.zeros(graph.number_of_groups)
        read = np.zeros(len(scores), bool)
        for removal in stats.removals:
            scores[removal.order] = rising(np.diff(removal.losses()))
            read[removal.order] = True
        if not read.all():
            totals = [float(removal.losses()[-1]) for removal in stats.removals] or [1.0]
            scores = np.where(read, scores, float(np.median(totals)) * _energy(model, graph))
        return scores


def _energy(model: ir.Model, graph: Hypergraph) -> FloatArray:
    """(number_of_groups,) share of the squared weights of the hyperedge."""
    energy = Magnitude()(model, graph, None) ** 2
    edge = graph.edge_of_group()
    total = np.bincount(edge, energy, len(graph.edges))
    return np.asarray(energy / np.maximum(total, np.finfo(float).tiny)[edge])
