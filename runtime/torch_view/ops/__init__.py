"""What the torch view computes for each operator."""

from __future__ import annotations

from collections.abc import Mapping

from prunec.runtime.torch_view.ops import (
    activation,
    attention,
    contraction,
    contrib,
    creation,
    elementwise,
    indexing,
    layout,
    norm,
    pool,
    quantised,
    recurrent,
    reduction,
    resize,
    sampling,
    spectral,
)
from prunec.runtime.torch_view.row import Row


def merge(*tables: Mapping[str, Row]) -> dict[str, Row]:
    """One table out of many; an operator with two rows is a mistake."""
    merged: dict[str, Row] = {}
    for table in tables:
        twice = merged.keys() & table.keys()
        assert not twice, f"operators with two rows: {sorted(twice)}"
        merged.update(table)
    return merged


# Keys are op types of the default domain, "domain::OpType" of others.
ROWS: Mapping[str, Row] = merge(
    activation.ROWS,
    attention.ROWS,
    contraction.ROWS,
    contrib.ROWS,
    creation.ROWS,
    elementwise.ROWS,
    indexing.ROWS,
    layout.ROWS,
    norm.ROWS,
    pool.ROWS,
    quantised.ROWS,
    recurrent.ROWS,
    reduction.ROWS,
    resize.ROWS,
    sampling.ROWS,
    spectral.ROWS,
)
