"""How the learning rate goes over a run."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping


def _cosine(done: float) -> float:
    return (1 + math.cos(math.pi * done)) / 2


# Share of the run after the warm-up, in [0, 1) -> share of the highest rate.
SHAPES: Mapping[str, Callable[[float], float]] = {
    "cosine": _cosine,
    "linear": lambda done: 1 - done,
    "constant": lambda done: 1.0,
}


def factor(step: int, total: int, warmup: float, schedule: str) -> float:
    """Share of the highest learning rate in optimizer step `step` of `total`, above 0.

    Rises linearly over the first `warmup` share of the steps, then follows the schedule; no step
    has rate 0, so none is wasted.

    >>> [round(factor(k, 6, 1 / 3, "linear"), 2) for k in range(6)]
    [0.5, 1.0, 1.0, 0.75, 0.5, 0.25]
    """
    rising = round(warmup * total)
    if step < rising:
        return (step + 1) / rising
    done = (step - rising) / max(total - rising, 1)
    return SHAPES[schedule](min(done, 1.0))
