"""How numbers of groups are chosen under a budget: one file and one row each."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import ClassVar, Protocol

from prunec.compiler.dial import Dial
from prunec.compiler.errors import UsageError
from prunec.compiler.hypergraph import Hypergraph
from prunec.compiler.problem import FloatArray, Limit
from prunec.compiler.spec import parse
from prunec.passes.options import Options
from prunec.passes.regroup.auto import Auto
from prunec.passes.regroup.offers import Offer, offers_of
from prunec.passes.regroup.published import MaxCost
from prunec.passes.regroup.shares import Shares
from prunec.passes.regroup.sites import Site


class Chooser(Protocol):
    """A row of `CHOOSERS`: a frozen dataclass whose fields are its options."""

    name: ClassVar[str]

    def __call__(
        self,
        graph: Hypergraph,
        limits: tuple[Limit, ...],
        options: Options,
        offers: tuple[Offer, ...],
    ) -> tuple[Dial, ...]:
        """Dials for `decide`. Raises UsageError, InfeasibleBudgetError."""
        ...


CHOOSERS: Mapping[str, type[Chooser]] = MappingProxyType({"auto": Auto, "max-cost": MaxCost})


def chooser(spec: str) -> Chooser:
    """The component of a specification such as ``auto{equal=true}``. Raises UsageError."""
    return parse(spec, CHOOSERS, "way to choose groups")


def searched_dials(
    graph: Hypergraph,
    sites: Sequence[Site],
    limits: tuple[Limit, ...],
    options: Options,
    shares: Shares,
    scores: Mapping[str, FloatArray],
) -> tuple[Dial, ...]:
    """Numbers of groups as dials, as `Options.grouping` says that they are chosen.

    sites, shares, scores: of the dense model. Pass the dials to `decide`; then
    ``choice.chosen("groups")`` is weight -> groups above 1, each of which divides what is kept of
    both axes, and the blocks are searched for on the sliced model. () where no convolution could
    save anything that is limited. Raises UsageError, InfeasibleBudgetError.
    """
    spec = options.grouping.conv
    assert isinstance(spec, str), spec
    if not limits:
        raise UsageError(f"--group-conv {spec} chooses under a budget; give --budget")
    return chooser(spec)(graph, limits, options, offers_of(sites, shares, scores))
