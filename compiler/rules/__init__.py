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
from prunec.compiler.tables import merge

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
