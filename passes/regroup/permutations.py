"""How the channels of a convolution are put into blocks: one file and one row each."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from prunec.compiler.spec import parse
from prunec.passes.regroup.blocks import Permutation
from prunec.passes.regroup.grps import Grps
from prunec.passes.regroup.same import Same
from prunec.passes.regroup.search import Search
from prunec.passes.regroup.sort import Sort

PERMUTATIONS: Mapping[str, type[Permutation]] = MappingProxyType(
    {"search": Search, "grps": Grps, "sort": Sort, "same": Same}
)


def permutation(spec: str) -> Permutation:
    """The component of a specification such as ``grps{iters=2}``. Raises UsageError."""
    return parse(spec, PERMUTATIONS, "permutation")
