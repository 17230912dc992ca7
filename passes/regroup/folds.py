"""How orders of channels and Gathers share the work: one row each."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import ClassVar

import numpy as np

from prunec.compiler.hypergraph import Hypergraph
from prunec.compiler.partition import Partition
from prunec.compiler.spec import parse
from prunec.passes.regroup.blocks import Permutation
from prunec.passes.regroup.joint import Joint
from prunec.passes.regroup.permute import movable
from prunec.passes.regroup.scored import Scored, free


@dataclass(frozen=True, slots=True)
class Free:
    """Every convolution has its own best blocks; a Gather stands where orders differ."""

    name: ClassVar[str] = "free"


@dataclass(frozen=True, slots=True)
class Auto:
    """Joint, unless latency is budgeted or channels are put into blocks by something else."""

    name: ClassVar[str] = "auto"


Fold = Joint | Free  # what is left of the rows once Auto is settled

FOLDS: Mapping[str, type[Joint] | type[Free] | type[Auto]] = MappingProxyType(
    {"auto": Auto, "joint": Joint, "free": Free}
)


def parse_fold(spec: str) -> Joint | Free | Auto:
    """The component of a specification such as ``joint{gathers=9}``. Raises UsageError."""
    return parse(spec, FOLDS, "fold")


def blocks_by(
    fold: Fold, scored: Sequence[Scored], graph: Hypergraph, search: Permutation
) -> dict[str, Partition]:
    """Weight -> its blocks. search: how those of one weight alone are found."""
    if isinstance(fold, Joint):
        return fold(scored, graph.edge_of_group(), np.flatnonzero(movable(graph)).tolist())
    return free(scored, search)
