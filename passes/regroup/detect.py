"""Convolutions whose weights are already in blocks: zero off them, up to the order of channels."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from prunec.compiler.facts import Facts
from prunec.compiler.hypergraph import Hypergraph
from prunec.compiler.partition import Partition
from prunec.passes.recovery.storage import tensor_of
from prunec.passes.regroup.sites import group_sites, stored_values

Pattern = NDArray[np.bool_]
IntArray = NDArray[np.int64]
MOST_STEPS = 20000  # of the search for a packing, per number of groups


def detected(model: ir.Model, facts: Facts, graph: Hypergraph) -> dict[str, Partition]:
    """Weight -> as many equal blocks as hold all that is not zero; none for those of one block.

    Only dense convolutions with a stored weight of their own. Making them grouped loses nothing.
    """
    stored = stored_values(model)
    out = {}
    for site in group_sites(model, facts, graph):
        tensor = tensor_of(stored[site.weight])
        assert tensor is not None, site.weight
        partition = blocks_of_zeros(pattern_of(tensor.numpy()))
        if partition.groups > 1:
            out[site.weight] = partition
    return out


def pattern_of(weight: NDArray[Any]) -> Pattern:
    """(F, C) whether any element of each kernel of (F, C, *K) differs from zero; NaN does."""
    nonzero = np.asarray(weight != 0)
    return np.asarray(nonzero.reshape(*weight.shape[:2], -1).any(axis=2))


def blocks_of_zeros(pattern: Pattern) -> Partition:
    """The most equal blocks off which the pattern (F, C) is False; one block where there are none.

    Outputs and inputs that are connected share a block: these components are packed. Blocks are
    numbered by their first input, as published (SEEDS.md 2.1.5).

    >>> blocks_of_zeros(np.array([[0, 1], [1, 0]], bool)).outputs
    (1, 0)
    """
    rows, columns = pattern.shape
    whole = Partition(1, (0,) * rows, (0,) * columns)
    of_row, of_column, sizes = _components(pattern)
    for groups in range(min(rows, columns), 1, -1):
        if rows % groups or columns % groups:
            continue
        bins = _packed(sizes, groups, (rows // groups, columns // groups))
        if bins is not None:
            return _filled(bins, of_row, of_column, groups)
    return whole


def _components(pattern: Pattern) -> tuple[IntArray, IntArray, list[tuple[int, int]]]:
    """Component of each row and column, -1 for empty ones; (rows, columns) in each component."""
    from scipy.sparse import coo_matrix  # noqa: PLC0415 (slow to import)
    from scipy.sparse.csgraph import connected_components  # noqa: PLC0415

    rows, columns = pattern.shape
    at = np.nonzero(pattern)
    edges = coo_matrix((np.ones(len(at[0])), (at[0], rows + at[1])), (rows + columns,) * 2)
    _, label = connected_components(edges, directed=False)
    own = np.where(np.concatenate([pattern.any(axis=1), pattern.any(axis=0)]), label, -1)
    names, number = np.unique(own[own >= 0], return_inverse=True)
    own[own >= 0] = number
    counts = (np.bincount(side[side >= 0], minlength=len(names)) for side in np.split(own, [rows]))
    return own[:rows], own[rows:], list(zip(*(c.tolist() for c in counts), strict=True))


def _packed(
    sizes: Sequence[tuple[int, int]], groups: int, room: tuple[int, int]
) -> dict[int, int] | None:
    """Component -> bin of so many rows and columns, or None where no packing was found.

    Large components first, each in one of the different fillings that bins have; on a dead end the
    last choice is taken back, up to MOST_STEPS times.
    """
    if any(r > room[0] or c > room[1] for r, c in sizes):
        return None
    order = sorted(range(len(sizes)), key=lambda k: (-sum(sizes[k]), k))
    left = [room] * groups
    placed: list[int] = []
    choices: list[list[int]] = []
    steps = MOST_STEPS
    while len(placed) < len(order):
        need = sizes[order[len(placed)]]
        if len(choices) == len(placed):
            choices.append(_different(left, need))
        if choices[-1] and steps:
            steps -= 1
            placed.append(choices[-1].pop(0))
            _take(left, placed[-1], need, -1)
            continue
        choices.pop()
        if not placed or not steps:
            return None
        bin_ = placed.pop()
        _take(left, bin_, sizes[order[len(placed)]], 1)
    return dict(zip(order, placed, strict=True))


def _different(left: Sequence[tuple[int, int]], need: tuple[int, int]) -> list[int]:
    """Bins with enough room, one of each filling."""
    first = {room: k for k, room in reversed(list(enumerate(left)))}
    return sorted(k for (r, c), k in first.items() if r >= need[0] and c >= need[1])


def _take(left: list[tuple[int, int]], bin_: int, size: tuple[int, int], sign: int) -> None:
    left[bin_] = (left[bin_][0] + sign * size[0], left[bin_][1] + sign * size[1])


def _filled(
    bins: Mapping[int, int], of_row: IntArray, of_column: IntArray, groups: int
) -> Partition:
    """The partition of a packing; empty rows and columns fill what is left."""
    table = np.full(len(bins) + 1, -1, np.int64)  # the last serves component -1
    for component, bin_ in bins.items():
        table[component] = bin_
    sides = []
    for own in (of_row, of_column):
        ids = table[own]
        have = np.bincount(ids[ids >= 0], minlength=groups)
        ids[ids < 0] = np.repeat(np.arange(groups), len(ids) // groups - have)
        sides.append(ids)
    _, first = np.unique(sides[1], return_index=True)
    number = np.argsort(np.argsort(first))
    return Partition.of(number[sides[0]], number[sides[1]])
