"""What coupling may let go beyond what is exact and beyond its own choice."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Freedom:
    """residual: channels that a norm, a softmax or a mean runs over may leave; what stays is then
    normalised by its own statistics, which is not what gating gives. heads: where a reshape leaves
    a choice, whole attention heads leave instead of positions within all heads.
    """

    residual: bool = False
    heads: bool = False
