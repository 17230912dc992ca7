"""Performance density of a model before and after."""

from __future__ import annotations

from typing import TYPE_CHECKING

import onnx_ir as ir

from prunec.passes.quantize.density import Density, density
from prunec.runtime.subject import Subject, reopened

if TYPE_CHECKING:
    from prunec.runtime.accuracy import Accuracy
    from prunec.runtime.quantize.report import QuantisationReport

PERCENT = frozenset({"top1", "top5"})  # metrics that are shares, and scores in percent


def densities(
    subject: Subject,
    made: ir.Model,
    accuracies: tuple[Accuracy, Accuracy] | None = None,
    quantised: QuantisationReport | None = None,
) -> tuple[Density, Density] | None:
    """Of the dense model, and of what was made of it; scores are the first metric.

    None where neither a score is known nor bits have changed. Raises ModelError.
    """
    if accuracies is None and quantised is None:
        return None
    own = reopened(made, subject)
    first, second = (None, None) if accuracies is None else map(_score, accuracies)
    dense = density(subject.model, subject.facts, subject.graph, first)
    return dense, density(own.model, own.facts, own.graph, second)


def _score(accuracy: Accuracy) -> float | None:
    name, value = accuracy.first
    return None if value is None else value * (100 if name in PERCENT else 1)
