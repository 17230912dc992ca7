"""What coupling may let go beyond what is exact and beyond its own choice."""

from __future__ import annotations

from dataclasses import dataclass

from prunec.compiler.errors import UsageError
from prunec.compiler.spec import suggest


@dataclass(frozen=True, slots=True)
class Freedom:
    """residual: channels that a norm, a softmax or a mean runs over may leave; what stays is then
    normalised by its own statistics, which is not what gating gives. heads: where a reshape leaves
    a choice, whole attention heads leave instead of positions within all heads. decouple: what an
    addition reads and what it gives need not have the same channels. kernels: rows and columns of
    convolution kernels may leave.
    """

    residual: bool = False
    heads: bool = False
    decouple: bool = False
    kernels: bool = False


KERNEL_POSITIONS = ("none", "layer", "per-filter")


def frees_kernels(positions: str) -> bool:
    """Whether whole rows and columns of kernels may leave. Raises UsageError."""
    if positions not in KERNEL_POSITIONS:
        raise UsageError(
            f"unknown kernel positions {positions!r}{suggest(positions, KERNEL_POSITIONS)}"
        )
    return positions == "layer"
