"""How many groups a convolution can have."""

from __future__ import annotations

from dataclasses import dataclass
from math import gcd

from prunec.compiler.errors import UsageError


@dataclass(frozen=True, slots=True)
class Bounds:
    """What a number of groups must respect.

    min_width: output channels, and input channels, of a group at least. max_groups: None, any.
    depthwise: whether a convolution with as many outputs as inputs may get a group for each.
    """

    min_width: int = 1
    max_groups: int | None = None
    depthwise: bool = True


def common_divisors(outputs: int, inputs: int) -> tuple[int, ...]:
    """Ascending, 1 among them.

    >>> common_divisors(16, 24)
    (1, 2, 4, 8)
    """
    most = gcd(outputs, inputs)
    return tuple(g for g in range(1, most + 1) if most % g == 0)


def candidates(outputs: int, inputs: int, bounds: Bounds) -> tuple[int, ...]:
    """Numbers of groups to choose from, ascending; 1, to stay dense, is always one.

    Source: gconv-prune, candidates of its local search.
    """
    return tuple(
        g
        for g in common_divisors(outputs, inputs)
        if g == 1
        or (
            min(outputs, inputs) // g >= bounds.min_width
            and (bounds.max_groups is None or g <= bounds.max_groups)
            and (bounds.depthwise or not g == outputs == inputs)
        )
    )


def groups_of_width(outputs: int, inputs: int, width: int) -> int:
    """So many groups that the wider side has `width` channels in each; 1 where it has no more.

    Raises UsageError where that divides not both sides. Source: gconv-prune, ``--mcpg``.

    >>> groups_of_width(16, 24, 6)
    4
    """
    most = max(outputs, inputs)
    groups = most // width
    if most <= width:
        return 1
    if most % width or outputs % groups or inputs % groups:
        raise UsageError(
            f"{outputs} outputs and {inputs} inputs have no equal groups of {width} channels on "
            "the wider side"
        )
    return groups
