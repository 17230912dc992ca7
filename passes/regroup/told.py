"""Numbers of groups that the user says: one for all, channels per group, or by name."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import onnx_ir as ir

from prunec.compiler.errors import UsageError
from prunec.passes.grouping import Grouping
from prunec.passes.regroup.candidates import (
    Bounds,
    candidates,
    common_divisors,
    groups_of_width,
)
from prunec.passes.regroup.config import told_by_name
from prunec.passes.regroup.sites import Site


@dataclass(frozen=True, slots=True)
class Told:
    """numbers: weight -> groups, above 1. dense: weight -> why it stays dense."""

    numbers: Mapping[str, int]
    dense: Mapping[str, str] = field(default_factory=dict)


def told(model: ir.Model, sites: Sequence[Site], grouping: Grouping) -> Told:
    """The numbers for these sites, where they are not to be chosen.

    A number for all leaves dense what it does not suit, as published (SEEDS 2.1.6); a table must
    suit. Raises UsageError, also where a number suits nothing.
    """
    if isinstance(grouping.conv, Mapping):
        return Told(told_by_name(grouping.conv, model, sites))
    numbers, dense = {}, {}
    for site in sites:
        groups, why = _for_all(site, grouping)
        if groups > 1:
            numbers[site.weight] = groups
        elif why:
            dense[site.weight] = f"stays dense: {why}"
    if dense and not numbers:
        raise UsageError(_suits_nothing(sites, grouping))
    if not sites and grouping.conv != 1:
        raise UsageError("no convolution is dense and has a stored weight of its own to be grouped")
    return Told(numbers, dense)


def _for_all(site: Site, grouping: Grouping) -> tuple[int, str]:
    """The number of groups, or 1 and why; "" where 1 is what is asked for."""
    outputs, inputs = site.shape[:2]
    groups, why = grouping.conv, ""
    if not isinstance(groups, int):
        assert grouping.max_per_group is not None, grouping
        try:
            groups = groups_of_width(outputs, inputs, grouping.max_per_group)
        except UsageError as error:
            return 1, str(error)
    if groups == 1:
        return 1, ""
    bounds = Bounds(grouping.min_width, grouping.max_groups, grouping.depthwise)
    if groups in candidates(outputs, inputs, bounds):
        return groups, ""
    if outputs % groups or inputs % groups:
        why = f"{groups} does not divide {outputs} outputs and {inputs} inputs"
    else:
        why = f"{groups} groups of {outputs // groups} outputs and {inputs // groups} inputs are "
        why += "ruled out by --min-group-width, --max-groups or --no-depthwise"
    return 1, why


def _suits_nothing(sites: Sequence[Site], grouping: Grouping) -> str:
    asked = f"--max-per-group {grouping.max_per_group}"
    if isinstance(grouping.conv, int):
        asked = f"--group-conv {grouping.conv}"
    possible = sorted({g for s in sites for g in common_divisors(*s.shape[:2]) if g > 1})
    shown = ", ".join(map(str, possible[:12])) + (", ..." if len(possible) > 12 else "")
    bounds = Bounds(grouping.min_width, grouping.max_groups, grouping.depthwise)
    bounded = bool(possible) and bounds != Bounds()
    return (
        f"{asked} suits no convolution of this model"
        + (f"; numbers that divide some of them: {shown}" if possible else "")
        + (" (--min-group-width, --max-groups and --no-depthwise rule some out)" * bounded)
    )
