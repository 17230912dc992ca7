"""What the data says about the dense model: the evidence that criteria read."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from prunec.compiler.hypergraph import Axis
from prunec.compiler.removal import Removal

if TYPE_CHECKING:
    from prunec.compiler.gram import Gram

FloatArray = NDArray[np.float64]


@dataclass(frozen=True, slots=True, eq=False)
class Gradients:
    """Moments over samples b of ``g_b = d loss_b / d gate`` per channel group, gates at 1.

    mean, mean_abs, mean_square: (number_of_groups,) means of ``g_b``, ``|g_b|`` and ``g_b^2``, in
    units of the loss (nats for cross entropy), its square for the last. A group that no gradient
    reaches has 0. mean is None where the sign of ``g_b`` is random.
    """

    mean: FloatArray | None
    mean_abs: FloatArray
    mean_square: FloatArray


@dataclass(frozen=True, slots=True, eq=False)
class Stats:
    """Evidence by kind; a collector fills the fields of its kind, the others are empty.

    samples: how many samples were seen.
    activations: mean_abs, axis -> (n,) mean of ``|a|`` per index of activation axes, over samples
    and all other axes; nonzero, axis -> (n,) share of elements with ``a != 0``, in [0, 1]. running,
    axis -> (n,) running average over batches of the mean of ``|a|``; frequency, the same of the
    share of ``a != 0`` in batches whose smallest element is 0, of the mean of ``|a|`` in others.
    grams: of inputs of contractions. removals: how channel groups would leave. gradients: see
    there. openness: (number_of_groups,) trained gate parameters. record: JSON values that the plan
    keeps of how the evidence came about.
    """

    mean_abs: Mapping[Axis, FloatArray] = field(default_factory=dict)
    nonzero: Mapping[Axis, FloatArray] = field(default_factory=dict)
    samples: int = 0
    grams: Mapping[str, Gram] = field(default_factory=dict)
    gradients: Gradients | None = None
    openness: FloatArray | None = None
    running: Mapping[Axis, FloatArray] = field(default_factory=dict)
    frequency: Mapping[Axis, FloatArray] = field(default_factory=dict)
    record: Mapping[str, Any] = field(default_factory=dict)
    removals: tuple[Removal, ...] = ()
