"""What the torch view computes for each operator."""

from __future__ import annotations

from collections.abc import Mapping

from prunec.compiler.tables import merge
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
