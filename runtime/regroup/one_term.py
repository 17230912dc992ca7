"""Weights in blocks under which every contraction is exact: one term per output, in its block."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from prunec.compiler.partition import Partition
from prunec.passes.regroup.contents import altered
from prunec.runtime.selectors import selectors
from prunec.runtime.subject import Subject


def one_term_blocks(
    slim: Subject, partitions: Mapping[str, Partition], seed: int
) -> dict[str, ir.TensorProtocol]:
    """Contents for every contraction weight, zero off the blocks of the partitions.

    As `selectors`, but an output reads an input of its own block. slim: the masked model.
    """
    everything = np.ones(slim.graph.number_of_groups + 1, bool)
    contents = selectors(slim.model, slim.graph, everything, seed)
    for name, partition in partitions.items():
        if name in contents:
            contents[name] = altered(contents[name], _mover(partition))
    return contents


def _mover(partition: Partition) -> Callable[[NDArray[Any]], NDArray[Any]]:
    """Moves the one term of each output to an input of its own block."""
    rows, columns = np.array(partition.outputs), np.array(partition.inputs)
    own = np.argsort(columns, kind="stable").reshape(partition.groups, -1)

    def move(weight: NDArray[Any]) -> NDArray[Any]:
        found = np.nonzero(weight)
        inputs = own[rows[found[0]], found[1] % own.shape[1]]
        out = np.zeros_like(weight)
        out[(found[0], inputs, *found[2:])] = weight[found]
        return out

    return move
