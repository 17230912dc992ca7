"""Shape inference with every symbolic dimension bound to a number, and constants evaluated."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np
import onnx_ir as ir

from prunec.compiler.facts import Facts
from prunec.frontends import contrib
from prunec.frontends.bindings import (
    ANOTHER_DATA_DEPENDENT,
    DATA_DEPENDENT,
    parse_shapes,
    possible_bindings,
)
from prunec.frontends.inference import Inference

__all__ = ["infer_facts", "parse_shapes"]


def infer_facts(
    model: ir.Model,
    bindings: Mapping[str, Sequence[int]] | None = None,
    shapers: Mapping[str, contrib.Shaper] | None = None,
) -> Facts:
    """Infer the shape, element type and, where it does not depend on data, contents of values.

    bindings: graph input -> full shape. Other symbolic dimensions are bound by the constants of
    bindings.py, one number per symbol over the whole graph: the first ones that contradict nothing
    in the graph (a position table, a flattened image). Raises UsageError for a binding that
    does not fit the model. A dimension that depends on the data gets a number too, and contents
    that come from it are listed in `Facts.assumed`: those that another number would change.
    Values whose rank stays unknown are absent from the result. shapers: for operators that neither
    onnx nor contrib.py knows, by their key there.
    """
    table = {**contrib.SHAPERS, **(shapers or {})}
    best: tuple[int, dict[str, int], Facts] | None = None
    for bound in possible_bindings(model, bindings or {}):
        facts, contradictions = _walk(model, bound, DATA_DEPENDENT, table)
        if best is None or contradictions < best[0]:
            best = contradictions, bound, facts
        if not contradictions:
            break
    assert best is not None
    _, bound, facts = best
    if facts.bound == bound:
        return facts
    others = _walk(model, bound, ANOTHER_DATA_DEPENDENT, table)[0].constants
    assumed = frozenset(
        name
        for name, array in facts.constants.items()
        if name not in others or not np.array_equal(array, others[name])
    )
    return replace(facts, assumed=assumed)


def _walk(
    model: ir.Model, bound: Mapping[str, int], count: int, table: Mapping[str, contrib.Shaper]
) -> tuple[Facts, int]:
    """Facts, and how many nodes contradict the sizes. count: of what depends on the data."""
    inference = Inference(model, dict(bound), count, table)
    inference.start()
    for node in model.graph:
        inference.visit(node)
    return inference.facts(), inference.contradictions
