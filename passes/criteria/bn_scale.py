"""BatchNorm scale: |gamma| of the normalisations that a channel group runs through."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import onnx_ir as ir

from prunec.compiler.errors import UsageError
from prunec.compiler.hypergraph import KEPT, Hypergraph
from prunec.compiler.problem import FloatArray
from prunec.compiler.stats import Stats
from prunec.compiler.walk import nodes
from prunec.passes.criteria.stored import axis_sums

NORMS = ("BatchNormalization", "InstanceNormalization", "GroupNormalization")


@dataclass(frozen=True, slots=True)
class BnScale:
    """Sum of |gamma| over the norms of a channel group ("network slimming", Liu et al. 2017).

    Hyperedges without a norm score 1 per group: the criterion has no opinion on them.
    """

    name: ClassVar[str] = "bn_scale"
    needs: ClassVar[str] = ""

    def __call__(self, model: ir.Model, graph: Hypergraph, stats: Stats | None) -> FloatArray:
        """(number_of_groups,) summed |gamma|."""
        scales = {
            node.inputs[1].name
            for node in nodes(model.graph)
            if node.op_type in NORMS and len(node.inputs) > 1 and node.inputs[1] is not None
        }
        total = np.zeros(graph.number_of_groups)
        seen = np.zeros(graph.number_of_groups, bool)
        for _, groups, sums in axis_sums(model, graph, 1, scales):
            live = groups != KEPT
            total += np.bincount(groups[live], sums[live], len(total))
            seen[groups[live]] = True
        if not seen.any():
            raise UsageError(
                "criterion 'bn_scale': the model has no normalisation over a removable axis "
                "(BatchNormalization may have been folded); use magnitude"
            )
        total[~seen] = 1.0
        return total
