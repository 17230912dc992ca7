"""Taylor: what the loss changes, to first order, when a channel group leaves."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import onnx_ir as ir

from prunec.compiler.errors import UsageError
from prunec.compiler.hypergraph import Hypergraph
from prunec.compiler.problem import FloatArray
from prunec.compiler.spec import suggest
from prunec.compiler.stats import Stats
from prunec.passes.criteria.fisher import check_options, gradients_of

STATISTICS = ("abs", "mean")


@dataclass(frozen=True, slots=True)
class Taylor:
    """Mean over samples of |d loss / d gate|, or |mean of it| (statistic=mean).

    In nats of cross entropy, but sizes of first-order changes do not add up: hyperedges keep the
    worth of their costs unless --worth sum says otherwise (tools/bench/fisher.py compares). labels
    and targets as in `Fisher`; argmax is the default, as the sign of a gradient has no meaning for
    the others. Source:
    Molchanov et al., CVPR 2019, "Importance estimation for neural network pruning", equation 8,
    at a gate behind each group.
    """

    name: ClassVar[str] = "taylor"
    needs: ClassVar[str] = "gradients"
    statistic: str = "abs"
    samples: int = 512
    batch: int = 64
    labels: str = "auto"
    targets: str = "argmax"
    seed: int = 0

    def __post_init__(self) -> None:
        check_options(self.name, self.samples, self.batch, self.labels, self.targets, self.seed)
        if self.statistic not in STATISTICS:
            raise UsageError(
                f"criterion 'taylor': unknown statistic {self.statistic!r}"
                f"{suggest(self.statistic, STATISTICS)}"
            )

    def __call__(self, model: ir.Model, graph: Hypergraph, stats: Stats | None) -> FloatArray:
        """(number_of_groups,), >= 0, in units of the loss."""
        found = gradients_of(self.name, graph, stats)
        if self.statistic == "abs":
            return found.mean_abs
        if found.mean is None:
            raise UsageError(
                "criterion 'taylor': statistic=mean needs gradients with a sign; use labels, "
                "targets=argmax or statistic=abs"
            )
        return np.abs(found.mean)
