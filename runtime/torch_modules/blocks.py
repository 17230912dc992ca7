"""Kept indices as whole blocks, such as attention heads."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from prunec.compiler.errors import PlanError


def whole_blocks(name: str, kept: Sequence[int], size: int, total: int) -> tuple[int, ...]:
    """Which blocks of `size` out of `total` indices are kept. Raises PlanError for a part of one.

    >>> whole_blocks("q", [0, 1, 4, 5], 2, 8)
    (0, 2)
    """
    mask = np.zeros(total, bool)
    mask[list(kept)] = True
    blocks = mask.reshape(-1, size)
    if (blocks.any(axis=1) != blocks.all(axis=1)).any():
        raise PlanError(
            f"{name!r}: positions within heads leave, and the module knows one head size; make the "
            "plan with whole heads (--heads), or --keep the attention"
        )
    return tuple(np.flatnonzero(blocks.all(axis=1)).tolist())
