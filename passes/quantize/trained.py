"""Grids that training found, for the model that a plan makes of the trained one."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from prunec.compiler.errors import ModelError
from prunec.compiler.hypergraph import KEPT, Hypergraph
from prunec.compiler.quantisation import Grid
from prunec.passes.quantize.places import Places


@dataclass(frozen=True, slots=True, eq=False)
class Trained:
    """Grids of activations and of weights (their norms folded in), by the names of their values."""

    activations: Mapping[str, Grid]
    weights: Mapping[str, Grid]

    def sliced(self, graph: Hypergraph, mask: NDArray[np.bool_]) -> Trained:
        """The grids of what a plan keeps. graph: of the trained model; mask: `Plan.mask`.

        Weights lose the scales of the channels that leave. A grid in blocks can't follow channels
        that leave from within a block: `Trained` has none.
        """
        kept = {}
        for name, grid in self.weights.items():
            assert not grid.block, name
            groups = None if grid.axis is None else graph.axes.get((name, grid.axis))
            kept[name] = grid
            if groups is not None and grid.scale.size == len(groups):
                stays = np.where(groups == KEPT, True, mask[groups])
                kept[name] = replace(grid, scale=grid.scale[stays], zero=grid.zero[stays])
        return replace(self, weights=kept)

    def settled(self, places: Places) -> Places:
        """The places with the bits of these grids. Raises ModelError where one has none."""
        for wanted, given in (
            (places.activations, self.activations),
            (places.weights, self.weights),
        ):
            missing = [name for name in wanted if name not in given]
            if missing:
                raise ModelError(f"no scale was trained for {missing[0]!r}: it was not there then")
        bits = {name: self.activations[name].bits for name in places.activations}
        weights = {
            name: replace(own, bits=self.weights[name].bits) for name, own in places.weights.items()
        }
        return replace(places, activations=bits, weights=weights)
