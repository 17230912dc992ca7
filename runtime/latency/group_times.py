"""What groups save of a network's time, and what the Gathers around them take."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import onnx_ir as ir

from prunec.compiler.dial import Dial
from prunec.compiler.partition import Partition
from prunec.passes.regroup.blocks import contiguous
from prunec.passes.regroup.rewrite import regroup
from prunec.passes.regroup.sites import Site, group_sites
from prunec.runtime.latency.kernels import Where, model_times
from prunec.runtime.latency.segments import segments
from prunec.runtime.subject import Subject

ROUNDS = 5
AT_ONCE = 3  # models in memory, beside the dense one


@dataclass(frozen=True, slots=True, eq=False)
class GroupTimes:
    """Nanoseconds by weight. change: number of groups -> what the convolution takes more than with
    one group, below 0 where it is faster. gathers: what one Gather before and one behind take.
    """

    change: Mapping[str, Mapping[int, float]]
    gathers: Mapping[str, float]


def time_groups(
    subject: Subject,
    numbers: Mapping[str, Sequence[int]],
    where: Where,
    progress: Callable[[str], None],
    gathered: bool,
) -> GroupTimes:
    """Run the dense model with as many groups everywhere, for each number, beside the dense one.

    numbers: weight -> numbers of groups above 1. gathered: whether to time Gathers as well, on the
    model that has two around every convolution with the least number of groups: what an element
    costs is the median over these, as a disturbance may hit some of them. Blocks lie as the
    channels stand: which channels are in a block costs the same.
    """
    sites = {s.weight: s for s in group_sites(subject.model, subject.facts, subject.graph)}
    numbers = {weight: own for weight, own in numbers.items() if own}
    wanted = sorted({g for own in numbers.values() for g in own})
    models = [_grouped(subject, sites, numbers, g) for g in wanted]
    if gathered and wanted:
        models.insert(0, _grouped(subject, sites, numbers, wanted[0], folded=False))
    at = _positions(subject, sites)
    runs: list[tuple[dict[str, float], dict[str, float]]] = []
    for first in range(0, len(models), AT_ONCE):
        progress(f"timing groups: {first} of {len(models)} models")
        runs += _beside_dense(subject, models[first : first + AT_ONCE], where, at)
    # Disturbances only add: of the dense times the shortest counts, of the others their ratio.
    dense = {w: min(before[w] for before, _ in runs) for w in at} if runs else {}
    change = [
        {w: (now[w] / max(before[w], 1.0) - 1) * dense[w] for w in at} for before, now in runs
    ]
    gathers = dict.fromkeys(numbers, 0.0)
    if gathered and wanted:
        apart, together, *_ = change
        own = [weight for weight in numbers if wanted[0] in numbers[weight]]
        rate = np.median([(apart[w] - together[w]) / _moved(sites[w]) for w in own])
        gathers = {weight: max(0.0, float(rate)) * _moved(sites[weight]) for weight in numbers}
        change = change[1:]
    by_number = dict(zip(wanted, change, strict=True))
    return GroupTimes({w: {g: by_number[g][w] for g in own} for w, own in numbers.items()}, gathers)


def _beside_dense(
    subject: Subject, models: Sequence[ir.Model], where: Where, at: Mapping[str, Sequence[int]]
) -> list[tuple[dict[str, float], dict[str, float]]]:
    """Per model, nanoseconds by weight of the dense model and of that one, which run in turn.

    Only what runs in turn can be compared: the machine is not the same a minute later.
    """
    counts = subject.graph.dense()
    taken = model_times(subject, [subject.model.clone(), *models], where, ROUNDS, counts)
    dense, *rest = [
        {w: sum(times.get(k, 0.0) for k in own) for w, own in at.items()} for times in taken
    ]
    return [(dense, own) for own in rest]


def timed_dials(
    subject: Subject,
    dials: Sequence[Dial],
    where: Where,
    progress: Callable[[str], None],
    gathered: bool,
) -> tuple[Dial, ...]:
    """The dials with what each choice changes of the latency; gathered: with Gathers around it.

    With Gathers counted at both ends of every grouped convolution a budget is met, and more than
    met where some of them fold. Dials of other kinds stay as they are.
    """
    numbers = {d.weight: [g for g in d.choices if g > 1] for d in dials if d.kind == "groups"}
    found = time_groups(subject, numbers, where, progress, gathered)

    def timed(dial: Dial) -> Dial:
        change, extra = found.change[dial.weight], found.gathers[dial.weight]
        return replace(
            dial, times=tuple(0.0 if g == 1 else change[g] + extra for g in dial.choices)
        )

    return tuple(timed(dial) if dial.kind == "groups" else dial for dial in dials)


def _grouped(
    subject: Subject,
    sites: Mapping[str, Site],
    numbers: Mapping[str, Sequence[int]],
    groups: int,
    folded: bool = True,
) -> ir.Model:
    blocks = {
        weight: _blocks(sites[weight], groups, shuffled=not folded)
        for weight, own in numbers.items()
        if groups in own
    }
    return regroup(subject.model, subject.facts, subject.graph, blocks, folded=folded).model


def _blocks(site: Site, groups: int, shuffled: bool) -> Partition:
    """Contiguous ones, or ones whose channels stand apart, so that no Gather is a plain copy."""
    outputs, inputs = (contiguous(n, groups) for n in site.shape[:2])
    if shuffled:
        outputs, inputs = (np.sort(ids).reshape(groups, -1).T.ravel() for ids in (outputs, inputs))
    return Partition.of(outputs, inputs)


def _positions(subject: Subject, sites: Mapping[str, Site]) -> dict[str, list[int]]:
    """Weight -> positions of its readers in the graph, and of what may be fused with them."""
    at = {node.name: k for k, node in enumerate(subject.model.graph)}
    part_of = {k: part.nodes for part in segments(subject) for k in part.nodes}
    return {
        weight: sorted({k for name in site.nodes if name in at for k in part_of[at[name]]})
        for weight, site in sites.items()
    }


def _moved(site: Site) -> int:
    """Elements that the Gathers before and behind move."""
    return site.writes * site.shape[0] + site.reads * site.shape[1]
