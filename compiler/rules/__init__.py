"""Coupling rules: what each operator ties, frees, freezes and costs."""

from __future__ import annotations

from collections.abc import Mapping

from prunec.compiler.rules import (
    attention,
    blockwise,
    contraction,
    control,
    elementwise,
    fused,
    indexing,
    join,
    layout,
    norm,
    qlinear,
    quantised,
    recurrent,
    reduce,
    sample,
    select,
)
from prunec.compiler.site import Rule


def merge(*tables: Mapping[str, Rule]) -> dict[str, Rule]:
    """One table out of many; an operator with two rules is a mistake."""
    merged: dict[str, Rule] = {}
    for table in tables:
        twice = merged.keys() & table.keys()
        assert not twice, f"operators with two rules: {sorted(twice)}"
        merged.update(table)
    return merged


# Keys are op types of the default domain, "domain::OpType" of others.
RULES: Mapping[str, Rule] = merge(
    attention.RULES,
    blockwise.RULES,
    contraction.RULES,
    control.RULES,
    elementwise.RULES,
    fused.RULES,
    indexing.RULES,
    join.RULES,
    layout.RULES,
    norm.RULES,
    qlinear.RULES,
    quantised.RULES,
    recurrent.RULES,
    reduce.RULES,
    sample.RULES,
    select.RULES,
)
