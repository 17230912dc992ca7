"""In which order channel groups would leave, and what the model loses by it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

FloatArray = NDArray[np.float64]
Indices = NDArray[np.int64]


@dataclass(frozen=True, slots=True, eq=False)
class Removal:
    """Channel groups leave one after the other, and the weights that read them are solved again.

    order: (n,) groups of hyperedges with readers in common, first to leave first. error: (n + 1,)
    never falling from 0: squared error of the readers' outputs, each relative to its variance,
    summed, once so many are gone. gone: (k,) ascending numbers of removed groups at which the
    model was run with its readers solved again; loss: (k,) what its outputs lost, in nats. Both
    are empty where it was not run.
    """

    order: Indices
    error: FloatArray
    gone: Indices
    loss: FloatArray

    def losses(self) -> FloatArray:
        """(n + 1,) loss by number of removed groups, never falling from 0.

        Between measurements it follows the error; without any it is the error.
        """
        if not len(self.gone):
            return self.error
        known = np.concatenate([[0], self.gone])
        measured = np.maximum.accumulate(np.concatenate([[0.0], self.loss]))
        return np.interp(self.error, *_rising(self.error[known], measured))


def _rising(x: FloatArray, y: FloatArray) -> tuple[FloatArray, FloatArray]:
    """The points without those of an x that was there before: the highest y of it counts."""
    keep = np.append(np.diff(x) > 0, True)
    return x[keep], y[keep]
